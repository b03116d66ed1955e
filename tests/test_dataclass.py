"""trapline.dataclass makes what the standard library's dataclass makes, when it is needed."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import inspect
import pickle
import pkgutil
from typing import Any, ClassVar

import pytest

import trapline
from trapline.dataclass import dataclass, field, fields, replace

WAYS: list[dict[str, Any]] = [
    {}, {"frozen": True}, {"slots": True}, {"frozen": True, "slots": True}, {"kw_only": True, "slots": True},
    {"eq": False}, {"repr": False}, {"order": True, "frozen": True},
]  # fmt: skip


def bodies(make: Any, field: Any, way: dict[str, Any]) -> tuple[type, type]:
    """A class and one that inherits from it, by one of the two makers."""

    @make(**way)
    class Base:
        """A body with everything."""

        kind: ClassVar[str] = "k"
        a: int = field(default=1)
        b: list[int] = field(default_factory=list, compare=False)
        c: str = field(default="c", repr=False)
        d: int = field(default=7, init=False)

    @make(**way)
    class Below(Base):
        """Another field, another default, and a check."""

        a: int = 2
        e: tuple[int, ...] = ()

        def __post_init__(self) -> None:
            if self.a < 0:
                raise ValueError(self.a)

    return Base, Below


def outcome(call: Any) -> object:
    """What a call gives, or the kind of what it raises."""
    try:
        return call()
    except Exception as error:
        return type(error)


def seen(kind: Any, way: dict[str, Any]) -> list[object]:
    """What can be observed of a class and its objects."""
    words = {"a": 5} if way.get("kw_only") else {}
    args = () if way.get("kw_only") else (5,)
    one, same, other = (kind(*args, **words, c=c) for c in ("x", "x", "y"))
    text = [repr(o) if way.get("repr", True) else "" for o in (one, other)]
    found: list[object] = [t.replace("bodies.<locals>.", "") for t in text]
    found += [one == same, one == other, one == 5, outcome(lambda: hash(one) == hash(same))]
    found += [outcome(lambda: one < other), outcome(lambda: setattr(one, "a", 9)), outcome(lambda: delattr(one, "c"))]
    # The library's own classes with slots raise a TypeError from within for an attribute that is no field.
    unknown = outcome(lambda: setattr(one, "zz", 9))
    found += [dataclasses.FrozenInstanceError if unknown is TypeError else unknown]
    found += [outcome(lambda: kind(nothing=1)), outcome(lambda: kind(1, 2, 3, 4, 5, 6))]
    found += [dataclasses.asdict(same), dataclasses.is_dataclass(kind), kind.__match_args__]
    found += [[(f.name, f.type, f.init, f.repr, f.compare, f.kw_only) for f in dataclasses.fields(kind)]]
    found += [dataclasses.replace(same, a=8).a, copy.copy(same).c, hasattr(same, "__dict__"), type(kind.d)]
    return found


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("which", [0, 1])
def test_it_is_what_the_standard_library_makes(way: dict[str, Any], which: int) -> None:
    """Values, defaults, equality, hashes, order, text, errors and inheritance are those of dataclasses.dataclass."""
    ours = bodies(dataclass, field, way)[which]
    theirs = bodies(dataclasses.dataclass, dataclasses.field, way)[which]
    assert seen(ours, way) == seen(theirs, way)
    assert str(inspect.signature(ours)) == str(inspect.signature(theirs))


@dataclass(frozen=True, slots=True)
class Kept:
    """What is pickled has to be found by name."""

    a: int
    b: str = "b"


def test_frozen_slots_travel() -> None:
    """A frozen object with slots survives pickling, and `replace` and `fields` see it as the library's do."""
    one = Kept(3)
    assert pickle.loads(pickle.dumps(one)) == one
    assert replace(one, b="c") == dataclasses.replace(one, b="c") == Kept(3, "c")
    assert [f.name for f in fields(one)] == ["a", "b"]


def test_every_class_of_the_package_is_the_librarys() -> None:
    """No class of trapline asks for what is left out: each completes, and has the fields that the library finds."""
    found = 0
    for module in pkgutil.walk_packages(trapline.__path__, "trapline."):
        if not module.name.startswith(("trapline.machine", "trapline.lab", "trapline.cli", "trapline.kvm")):
            continue
        for kind in vars(importlib.import_module(module.name)).values():
            if isinstance(kind, type) and "__trapline_fields__" in vars(kind):
                assert [f.name for f in dataclasses.fields(kind)] == [f.name for f in fields(kind)]
                getattr(kind.__init__, "complete", lambda: None)()
                found += 1
    assert found > 50
