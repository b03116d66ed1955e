"""The state of ordinary objects as plain data, and back into objects that are already built.

A machine is restored by building it as it was built, and then giving each of its objects the saved
values. So an object needs no code of its own for that: every attribute is taken, down to plain values.
What is no state is left alone on both sides: functions, harts, memory, engines, configuration. An
object whose attributes are not enough (a socket, an open file) has `state() -> dict` and
`set_state(dict)` instead; attributes named in `snapshot_skips` are left out; `after_restore()` is called
where there is one, when all attributes and all memory are back.

The data may come from anybody. No class is looked up by a name in it: a value goes where the built object has one
of the same kind (session.state.plain_types), and anything else is refused.
"""

from __future__ import annotations

import types
from base64 import b64decode, b64encode
from collections import Counter, deque
from collections.abc import Callable, Iterable
from enum import Enum
from functools import partial, reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import msgspec

from trapline.dataclass import fields
from trapline.lang.state import Hart
from trapline.session.regions import Backing, Region, Regions
from trapline.session.state.plain_types import FIXED, Below, Bits, Each, Limits, Part

KEPT: tuple[type, ...] = (
    *(Hart, Region, Regions, Backing, memoryview, type, partial, types.ModuleType),
    *(types.FunctionType, types.MethodType, types.BuiltinFunctionType),
)
TAG = "$"
_HERE = "trapline."
STATEFUL = tuple(f"{_HERE}{room}." for room in ("session", "machine", "sbi", "firmware", "kvm", "vmm"))
_LOADED = (f"{_HERE}lang.devices", *STATEFUL)
_WORD = 64
_DEEPEST = 60  # levels of objects in objects; those of a machine are not half as many


class StateError(ValueError):
    """An attribute that nobody knows how to save, or saved state that does not fit; the message names it."""


class Saver:
    """Turns objects into data that JSON can hold. Objects of the types in `kept` are not looked into."""

    def __init__(self, kept: Iterable[type] = ()) -> None:
        self._kept = (*KEPT, *kept)
        self._seen: dict[int, Any] = {}  # the objects stay alive, so that their ids stay theirs

    def save(self, value: Any, where: str) -> Any:
        """Return the data of one value; `where` names it in errors."""
        if value is None or isinstance(value, (bool, float, str)):
            return value if not isinstance(value, Enum) else _enum(value)
        if isinstance(value, Enum):
            return _enum(value)
        if isinstance(value, int):
            return int(value)
        if isinstance(value, self._kept):
            return {TAG: "kept"}
        if isinstance(value, (bytes, bytearray)):
            return {TAG: type(value).__name__, "v": b64encode(bytes(value)).decode()}
        if isinstance(value, Path):
            return {TAG: "Path", "v": str(value)}
        return self._container(value, where)

    def _container(self, value: Any, where: str) -> Any:
        if isinstance(value, dict):
            name = "Counter" if isinstance(value, Counter) else "dict"
            pairs = [[self.save(k, where), self.save(v, f"{where}[{k!r}]")] for k, v in value.items()]
            return {TAG: name, "v": pairs}
        if isinstance(value, (set, frozenset)):
            return {TAG: type(value).__name__, "v": [self.save(v, where) for v in sorted(value)]}
        if isinstance(value, (list, tuple, deque)):
            items = [self.save(v, f"{where}[{n}]") for n, v in enumerate(value)]
            if isinstance(value, list):
                return items
            return {TAG: "deque" if isinstance(value, deque) else "tuple", "v": items}
        return self._object(value, where)

    def _object(self, value: Any, where: str) -> Any:
        cls = type(value)
        if id(value) in self._seen and not frozen(cls):
            return {TAG: "kept"}
        if not cls.__module__.startswith(_HERE):
            raise StateError(f"{where} is a {cls.__name__}, which no snapshot can hold")
        self._seen[id(value)] = value
        if hasattr(value, "state") and hasattr(value, "set_state"):
            return {TAG: "own", "v": self.save(value.state(), where)}
        attributes = {n: self.save(v, f"{where}.{n}") for n, v in _attributes(value).items()}
        return {TAG: _name(cls), "v": attributes}


class Loader:
    """Gives saved values to objects. Those of the types in `kept` have no state, those of `without` keep theirs."""

    def __init__(self, kept: Iterable[type] = (), without: Iterable[type] = ()) -> None:
        self._kept, self._without = (*KEPT, *kept), tuple(without)
        self._depth = 0

    def load(self, data: Any, current: Any, where: str) -> Any:
        """Return the value of `data`, which is `current` itself, changed in place, wherever that is an object.

        StateError if it is not of `current`'s kind.
        """
        if isinstance(current, self._without) or (isinstance(data, dict) and data.get(TAG) == "kept"):
            return current
        if isinstance(current, bool):
            return self._require(data, isinstance(data, bool), where)
        if isinstance(current, Enum):
            return typed(data, type(current), where)
        if isinstance(current, int):
            return self._number(data, 1 << _WORD, where)
        if isinstance(current, (list, tuple)) and not _named(current):
            return self._items(data, current, where)
        if isinstance(current, dict):
            return self._mapping(data, current, where)
        if _plain(current):
            return self._same(data, current, where)
        return self._object(data, current, where)

    def _as(self, kind: Any, data: Any, current: Any, holder: Any, where: str) -> Any:
        """Load what a class has declared."""
        if isinstance(kind, types.FunctionType):
            kind = kind(holder)
        match kind:
            case Bits():
                return self._number(data, 1 << kind.width, where)
            case Below():
                return self._number(data, kind.limit, where)
            case Each():
                return self._items(data, current, where, kind.kind)
            case Part():
                if data is None:
                    return None
                return self.load(data, kind.make(holder) if current is None else current, where)
        if kind is FIXED:
            return self._same(data, current, where)
        if isinstance(current, deque):
            items = typed(data, list[get_args(kind)[0]], where)  # type: ignore[misc]
            current.clear()
            current.extend(items)
            return current
        return typed(data, kind, where)

    def _items(self, data: Any, current: Any, where: str, kind: Any = None) -> Any:
        items = data if isinstance(current, list) else self._tagged(data, ("tuple",), where)
        self._require(items, isinstance(items, list) and len(items) == len(current), where)
        found = [
            self.load(v, current[n], f"{where}[{n}]")
            if kind is None
            else self._as(kind, v, current[n], current, f"{where}[{n}]")
            for n, v in enumerate(items)
        ]
        if not isinstance(current, list):
            return tuple(found)
        current[:] = found
        return current

    def _mapping(self, data: Any, current: dict[Any, Any], where: str) -> dict[Any, Any]:
        pairs = self._tagged(data, ("dict", "Counter"), where)
        self._require(pairs, all(isinstance(p, list) and len(p) == 2 for p in pairs), where)
        keys = [plain(k, where) for k, _ in pairs]
        self._require(keys, len(keys) == len(current) and all(_known(k, current) for k in keys), where)
        for key, (_, value) in zip(keys, pairs, strict=True):
            current[key] = self.load(value, current[key], f"{where}[{key!r}]")
        return current

    def _same(self, data: Any, current: Any, where: str) -> Any:
        """What follows from how the machine is made."""
        self._require(data, _roomless(data) == Saver(self._kept).save(current, where), where)
        return current

    def _object(self, data: Any, current: Any, where: str) -> Any:
        if isinstance(current, self._kept) or not type(current).__module__.startswith(_LOADED):
            raise StateError(f"{where} is no state")
        if hasattr(current, "state") and hasattr(current, "set_state"):
            own = plain(self._tagged(data, ("own",), where), where)
            self._call(lambda: current.set_state(own), where)
            return current
        attributes = self._tagged(data, (_name(type(current)),), where)
        self._require(attributes, isinstance(attributes, dict), where)
        self._depth += 1
        self._require(data, self._depth <= _DEEPEST, where)
        kinds: dict[str, Any] = getattr(type(current), "snapshot_types", {})
        saved = _attribute_names(current)
        for name, value in attributes.items():
            self._require(value, name in saved or name in kinds, f"{where}.{name}")
            there = getattr(current, name, None)
            new = (
                self._as(kinds[name], value, there, current, f"{where}.{name}")
                if name in kinds
                else self.load(value, there, f"{where}.{name}")
            )
            if new is not there:
                object.__setattr__(current, name, new)
        self._depth -= 1
        if hasattr(current, "after_restore"):
            self._call(current.after_restore, where)
        return current

    @staticmethod
    def _call(method: Callable[[], object], where: str) -> None:
        """Call what an object does with its state; whatever it stumbles over there is the state's fault."""
        try:
            method()
        except Exception as error:
            raise StateError(f"{where}: {error or type(error).__name__}") from None

    def _number(self, data: Any, limit: int, where: str) -> int:
        good = isinstance(data, int) and not isinstance(data, bool) and 0 <= data < limit
        return int(self._require(data, good, where))

    def _tagged(self, data: Any, tags: tuple[str, ...], where: str) -> Any:
        good = isinstance(data, dict) and _bare(data.get(TAG)) in tags and "v" in data
        if good and tags in (("tuple",), ("dict", "Counter")):
            good = isinstance(data["v"], list)
        return self._require(data, good, where)["v"]

    @staticmethod
    def _require(data: Any, good: bool, where: str) -> Any:
        """Return `data`; StateError unless it is good."""
        if not good:
            raise StateError(f"{where} is not what it can be in this machine")
        return data


def typed(data: Any, hint: Any, where: str) -> Any:
    """Return the value of `data` as one of a type: those of msgspec, with Path, Counter, and dicts of any key.

    StateError if it is none.
    """
    if get_origin(hint) in (dict, Counter):
        key, value = get_args(hint) if get_origin(hint) is dict else (*get_args(hint), int)
        good = isinstance(data, dict) and data.get(TAG) in ("dict", "Counter") and isinstance(data.get("v"), list)
        if not good or not all(isinstance(p, list) and len(p) == 2 for p in data["v"]):
            raise StateError(f"{where} is not what it can be in this machine")
        found = {typed(k, key, where): typed(v, value, where) for k, v in data["v"]}
        return Counter(found) if get_origin(hint) is Counter else found
    try:
        return msgspec.convert(plain(data, where), _limited(hint), dec_hook=_decode)
    except (msgspec.ValidationError, TypeError, ValueError) as error:
        raise StateError(f"{where}: {error}") from None


def _limited(hint: Any) -> Any:
    """Return a type with msgspec's own limits in the place of ours."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        kept = [msgspec.Meta(**_given(p)) if isinstance(p, Limits) else p for p in parts[1:]]
        return Annotated[(_limited(parts[0]), *kept)]
    if origin is None:
        return hint
    changed = tuple(_limited(part) for part in parts)
    return reduce(or_, changed) if origin is types.UnionType else origin[changed]


def _given(limits: Limits) -> dict[str, Any]:
    return {f.name: value for f in fields(limits) if (value := getattr(limits, f.name)) is not None}


def _decode(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str) and "\0" not in value:
        return Path(value)
    raise ValueError(f"a {kind.__name__} is expected")


def plain(data: Any, where: str) -> Any:
    """Return saved data without its tags: containers of Python, objects as dicts of their attributes."""
    if isinstance(data, int) and not -(1 << _WORD - 1) <= data < 1 << _WORD:
        raise StateError(f"{where} has an integer of more than {_WORD} bits")
    if isinstance(data, list):
        return [plain(v, where) for v in data]
    if not isinstance(data, dict):
        return data
    tag, value = data.get(TAG), data.get("v")
    try:
        if tag in ("bytes", "bytearray"):
            return b64decode(value, validate=True)  # type: ignore[arg-type]
        if tag == "Path":
            return str(value)
        if tag in ("dict", "Counter"):
            return {_hashable(plain(k, where)): plain(v, where) for k, v in value}  # type: ignore[union-attr]
        if tag in ("tuple", "set", "frozenset", "deque"):
            return tuple(plain(v, where) for v in value)  # type: ignore[union-attr]
        if isinstance(tag, str) and ":" in tag:
            return {n: plain(v, where) for n, v in value.items()} if isinstance(value, dict) else plain(value, where)
    except (TypeError, ValueError) as error:
        raise StateError(f"{where}: {error}") from None
    raise StateError(f"{where} has data of an unknown kind {tag!r}")


def _hashable(key: Any) -> Any:
    return tuple(key) if isinstance(key, list) else key


def _known(key: Any, current: dict[Any, Any]) -> bool:
    try:
        return key in current
    except TypeError:
        return False


def _plain(value: Any) -> bool:
    """Whether it is no object with state of its own: text, None, a set, a frozen dataclass."""
    values = (str, bytes, bytearray, float, set, frozenset, Path, deque)
    return value is None or isinstance(value, values) or _named(value) or frozen(type(value))


def _named(value: Any) -> bool:
    return isinstance(value, tuple) and hasattr(value, "_fields")


def _attribute_names(value: Any) -> list[str]:
    """Return the names of the attributes of an object that are its state, sorted."""
    names = set(getattr(value, "__dict__", ()))
    for cls in type(value).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        names |= {slots} if isinstance(slots, str) else set(slots)
    skipped = set(getattr(type(value), "snapshot_skips", ())) | {"__weakref__", "__dict__"}
    return sorted(names - skipped)


def _attributes(value: Any) -> dict[str, Any]:
    return {n: getattr(value, n) for n in _attribute_names(value) if hasattr(value, n)}


def frozen(cls: type) -> bool:
    """Whether it is a frozen dataclass."""
    parameters = getattr(cls, "__dataclass_params__", None)
    return parameters is not None and bool(parameters.frozen)


def _enum(value: Enum) -> dict[str, Any]:
    return {TAG: _name(type(value)), "v": value.value}


def _name(cls: type) -> str:
    """The tag of a class: its name without its module, which may move from one version to the next."""
    return f":{cls.__qualname__}"


def _roomless(data: Any) -> Any:
    """Return saved data whose tags of classes have no modules, as older versions wrote them."""
    if isinstance(data, list):
        return [_roomless(v) for v in data]
    if not isinstance(data, dict):
        return data
    return {key: _bare(value) if key == TAG else _roomless(value) for key, value in data.items()}


def _bare(tag: Any) -> Any:
    return tag[tag.index(":") :] if isinstance(tag, str) and ":" in tag else tag
