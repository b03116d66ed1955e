"""What the attributes of a class can hold, for state that comes from a file: `snapshot_types` of that class.

An attribute that is not named there must be what the constructor made it: an integer of 64 bits for an integer, a
truth value for one, a list of the same length, an object of the same class; and text, bytes, sets and None must be
the very same. So only what grows, what may be None and what has a narrower range has to be named.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from trapline.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What a number, or the length of text or a list, can be: the words of msgspec.Meta, which checks it.

    Not msgspec's own class: every start would import it, for snapshots alone.
    """

    ge: int | None = None
    lt: int | None = None
    le: int | None = None
    min_length: int | None = None
    max_length: int | None = None


U8 = Annotated[int, Limits(ge=0, le=0xFF)]
U16 = Annotated[int, Limits(ge=0, le=0xFFFF)]
U32 = Annotated[int, Limits(ge=0, le=0xFFFF_FFFF)]
U64 = Annotated[int, Limits(ge=0)]  # no integer of a file is wider than 64 bits, unless it is Bits


@dataclass(frozen=True, slots=True)
class Bits:
    """A number of so many bits, or of fewer."""

    width: int


@dataclass(frozen=True, slots=True)
class Below:
    """A number from 0 up to, not including, a limit."""

    limit: int


@dataclass(frozen=True, slots=True)
class Each:
    """A list or tuple as long as the constructor made it, each item of one kind."""

    kind: Any


@dataclass(frozen=True, slots=True)
class Part:
    """An object that may be there or not; `make` makes one for the object that holds it."""

    make: Callable[[Any], Any]


class _Fixed:
    """It follows from what the machine is made of, and must be the same."""


FIXED = _Fixed()
