"""The state of ordinary objects as plain data, and back into objects that are already built.

A machine is restored by building it as it was built, and then giving each of its objects the saved
values. So an object needs no code of its own for that: every attribute is taken, down to plain values.
What is no state is left alone on both sides: functions, harts, memory, engines, configuration. An
object whose attributes are not enough (a socket, an open file) has `state() -> dict` and
`set_state(dict)` instead; attributes named in `snapshot_skips` are left out; `after_restore()` is called
where there is one, when all attributes and all memory are back.
"""

from __future__ import annotations

import importlib
import types
from base64 import b64decode, b64encode
from collections import Counter, deque
from collections.abc import Callable, Iterable
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

from trapline.lang.state import Hart
from trapline.machine.regions import Backing, Region, Regions

KEPT: tuple[type, ...] = (
    *(Hart, Region, Regions, Backing, memoryview, type, partial, types.ModuleType),
    *(types.FunctionType, types.MethodType, types.BuiltinFunctionType),
)
TAG = "$"
_HERE = "trapline."


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
            if isinstance(value, tuple) and hasattr(value, "_fields"):
                return {TAG: _name(type(value)), "v": dict(zip(value._fields, items, strict=True))}
            return {TAG: "deque" if isinstance(value, deque) else "tuple", "v": items}
        return self._object(value, where)

    def _object(self, value: Any, where: str) -> Any:
        cls = type(value)
        if id(value) in self._seen and not _frozen(cls):
            return {TAG: "kept"}
        if not cls.__module__.startswith(_HERE):
            raise StateError(f"{where} is a {cls.__name__}, which no snapshot can hold")
        self._seen[id(value)] = value
        if hasattr(value, "state") and hasattr(value, "set_state"):
            return {TAG: "own", "v": self.save(value.state(), where)}
        attributes = {n: self.save(v, f"{where}.{n}") for n, v in _attributes(value).items()}
        return {TAG: _name(cls), "v": attributes}


class Loader:
    """Gives saved values to objects."""

    def load(self, data: Any, current: Any, where: str) -> Any:
        """Return the value of `data`, which is `current` itself, changed in place, wherever that is an object."""
        if not isinstance(data, dict):
            return self._items(data, current, where) if isinstance(data, list) else data
        kind = data[TAG]
        if kind == "kept":
            return current
        if kind == "own":
            current.set_state(self.load(data["v"], None, where))
            return current
        if kind in _SIMPLE:
            return _SIMPLE[kind](data["v"])
        if kind in ("dict", "Counter"):
            return self._mapping(data, current, where)
        if kind in _SEQUENCES:
            old = current if isinstance(current, (tuple, deque)) and len(current) == len(data["v"]) else ()
            items = [self.load(v, old[n] if old else None, f"{where}[{n}]") for n, v in enumerate(data["v"])]
            if isinstance(current, deque):
                current.clear()
                current.extend(items)
                return current
            return _SEQUENCES[kind](items)
        return self._object(kind, data, current, where)

    def _items(self, data: list[Any], current: Any, where: str) -> list[Any]:
        old = current if isinstance(current, list) else []
        fitting = len(old) == len(data)
        items = [self.load(v, old[n] if fitting else None, f"{where}[{n}]") for n, v in enumerate(data)]
        if isinstance(current, list):
            current[:] = items
            return current
        return items

    def _mapping(self, data: dict[str, Any], current: Any, where: str) -> dict[Any, Any]:
        old = current if isinstance(current, dict) else Counter() if data[TAG] == "Counter" else {}
        keys = [(self.load(k, None, where), v) for k, v in data["v"]]
        found = {k: self.load(v, old.get(k), f"{where}[{k!r}]") for k, v in keys}
        old.clear()
        old.update(found)
        return old

    def _object(self, kind: str, data: dict[str, Any], current: Any, where: str) -> Any:
        cls = _class(kind, where)
        if issubclass(cls, Enum):
            return cls(data["v"])
        if issubclass(cls, tuple):
            return cls(**{n: self.load(v, None, f"{where}.{n}") for n, v in data["v"].items()})
        if type(current) is not cls or _frozen(cls):
            if not hasattr(cls, "__dataclass_fields__"):
                raise StateError(f"{where} was a {kind}, here it is a {type(current).__name__}")
            current = object.__new__(cls)
        for name, value in data["v"].items():
            new = self.load(value, getattr(current, name, None), f"{where}.{name}")
            object.__setattr__(current, name, new)
        if hasattr(current, "after_restore"):
            current.after_restore()
        return current


_SIMPLE: dict[str, Callable[[Any], Any]] = {
    "bytes": lambda v: b64decode(v),
    "bytearray": lambda v: bytearray(b64decode(v)),
    "Path": Path,
}
_SEQUENCES: dict[str, Callable[[list[Any]], Any]] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "deque": deque,
}


def _attributes(value: Any) -> dict[str, Any]:
    """Return the instance attributes of an object, from __dict__ and __slots__, in the order of their names."""
    names = set(getattr(value, "__dict__", ()))
    for cls in type(value).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        names |= {slots} if isinstance(slots, str) else set(slots)
    skipped = set(getattr(type(value), "snapshot_skips", ())) | {"__weakref__", "__dict__"}
    return {n: getattr(value, n) for n in sorted(names - skipped) if hasattr(value, n)}


def _frozen(cls: type) -> bool:
    parameters = getattr(cls, "__dataclass_params__", None)
    return parameters is not None and bool(parameters.frozen)


def _enum(value: Enum) -> dict[str, Any]:
    return {TAG: _name(type(value)), "v": value.value}


def _name(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _class(kind: str, where: str) -> Any:
    """Return a class of this package by the name that `_name` gave it."""
    module, _, name = kind.partition(":")
    if not module.startswith(_HERE) or "." in name:
        raise StateError(f"{where}: {kind!r} is no class of this package")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        raise StateError(f"{where}: there is no {kind!r} in this version") from None
    if not isinstance(found, type):
        raise StateError(f"{where}: {kind!r} is no class")
    return found
