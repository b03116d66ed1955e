"""The flat layout of a hart's state: every field has a fixed place that both engines use."""

from __future__ import annotations

from enum import Enum
from typing import Any

from trapline.dataclass import dataclass, replace
from trapline.lang.values import U64
from trapline.lang.words import Words

WORD = (1 << 64) - 1


class Kind(Enum):
    """What a word means to whoever saves a hart and restores it, perhaps from a file of somebody else's."""

    STATE = "state"  # of the architecture or of hosted software: restored, if it is a value that it can have
    MADE = "made"  # follows from what the machine is made of: it must be what it is in the machine restored into
    DERIVED = "derived"  # follows from other words: made anew, and it must be what it was
    AGEING = "ageing"  # follows from other words as they were at its last update: made anew
    PASSING = "passing"  # of an instruction or an exit that is over: never restored
    HOST = "host"  # an address or a cache of this process: never saved


@dataclass(frozen=True, slots=True)
class Field:
    """A 64-bit word, or an array of `count` words, at word index `index`; no word is larger than `most`."""

    name: str
    index: int
    count: int
    array: bool
    kind: Kind = Kind.STATE
    most: int = WORD

    @property
    def host(self) -> bool:
        """Whether it means nothing outside this process: a snapshot leaves it out."""
        return self.kind is Kind.HOST


class Layout:
    """Named words in declaration order. What is declared is of the kind that is set, unless it says another."""

    __slots__ = ("fields", "kind", "words_used")

    def __init__(self) -> None:
        self.kind = Kind.STATE
        self.fields: dict[str, Field] = {}
        self.words_used = 0

    def word(self, *, kind: Kind | None = None, most: int = WORD) -> Word:
        """Declare one 64-bit word; the class attribute that it becomes has its name."""
        return Word(self, self._place(1, kind, most, array=False))

    def words(self, number: int, *, kind: Kind | None = None, most: int = WORD) -> tuple[Word, ...]:
        """Declare as many of one kind."""
        return tuple(self.word(kind=kind, most=most) for _ in range(number))

    def array(self, count: int, *, align: int = 1, kind: Kind | None = None, most: int = WORD) -> Array:
        """Declare an array of `count` words whose first word index is a multiple of `align`."""
        self.words_used += -self.words_used % align
        return Array(self, self._place(count, kind, most, array=True))

    def _place(self, count: int, kind: Kind | None, most: int, *, array: bool) -> Field:
        found = Field("", self.words_used, count, array, kind or self.kind, most)
        self.words_used += count
        return found

    def name(self, field: Field, name: str) -> None:
        """Give a field its name (ValueError if another has it)."""
        if name in self.fields:
            raise ValueError(f"field {name!r} is declared twice")
        self.fields[name] = replace(field, name=name)


class _Declared:
    """A field on the way to its name."""

    def __init__(self, layout: Layout, field: Field) -> None:
        self.layout, self.field = layout, field

    def __set_name__(self, owner: type, name: str) -> None:
        self.layout.name(self.field, name)


class Word(_Declared):
    """A word of an object: reading gives U64, writing takes 64-bit values. The class that has `mem` replaces it."""

    def __get__(self, owner: Any, kind: type) -> U64:
        raise AttributeError("a word is read from an object with memory")

    def __set__(self, owner: Any, value: int) -> None:
        raise AttributeError("a word is written to an object with memory")


class Array(_Declared):
    """An array of words of an object, which has it under the same name."""

    def __get__(self, owner: Any, kind: type) -> Words:
        raise AttributeError("an array is a field of an object with memory")
