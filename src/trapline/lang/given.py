"""What people give: numbers within their range, names that exist; each refusal is one clear line."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping
from types import NoneType
from typing import Any

_MOST_SHOWN = 80
_MOST = {(1 << 64) - 1: "2**64 - 1", 1 << 64: "2**64", (1 << 62) - 1: "2**62 - 1"}


def short(value: object) -> str:
    """Return how a value is written, cut to what a line of an error has room for."""
    text = repr(value) if isinstance(value, int | float) else reprlib.repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 3]}..."


def whole(name: str, value: object, least: int = 0, most: int = (1 << 64) - 1) -> int:
    """Return a whole number from `least` to `most`; TypeError for what is none, ValueError for another."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} = {short(value)}: a whole number is needed")
    if not least <= value <= most:
        raise ValueError(f"{name} = {short(value)}: it is {least} to {_MOST.get(most, most)}")
    return value


def require_kind(name: str, value: object, *kinds: type) -> None:
    """TypeError if a value is none of these classes."""
    if not isinstance(value, kinds):
        names = ("None" if kind is NoneType else kind.__name__ for kind in kinds)
        raise TypeError(f"{name} = {short(value)}: needed is {' or '.join(names)}")


def suggest(word: str, known: Iterable[str], before: str = "", shown: Mapping[str, str] | None = None) -> str:
    """Return "did you mean ...?", whatever the word's case, or nothing; `shown` says how names are spelt."""
    import difflib  # not for every start

    folded, names = word[:80].casefold(), {name.casefold(): name for name in known}
    found = [folded] if folded in names else difflib.get_close_matches(folded, list(names), n=2)
    near = [(shown or {}).get(names[n], names[n]) for n in found]
    return f"{before}did you mean {' or '.join(near)}?" if near else ""


def near(name: str, known: Iterable[str], shown: Mapping[str, str] | None = None) -> str:
    """Return the same in brackets."""
    hint = suggest(name, known, shown=shown)
    return f" ({hint})" if hint else ""


class Named:
    """An object that takes no attribute which its class does not know, once it is complete.

    AttributeError names those that are like it: a misspelt `vm.on_trp = function` would do nothing otherwise.
    """

    _complete = False  # set at the end of the constructor

    def __setattr__(self, name: str, value: Any) -> None:
        held = self.__dict__
        if name in held:  # no data descriptor has the name of what is kept here: written without another call
            held[name] = value
            return
        if self._complete and not _has(type(self), name):
            known = [n for n in (*held, *dir(type(self))) if not n.startswith("_")]
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}{near(name, known)}")
        object.__setattr__(self, name, value)


def _has(kind: type, name: str) -> bool:
    return hasattr(kind, name) or any(name in vars(base).get("__annotations__", ()) for base in kind.__mro__)
