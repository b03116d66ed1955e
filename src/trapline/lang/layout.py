"""The flat layout of a hart's state: every field has a fixed place that both engines use."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

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

    __slots__ = ("fields", "kind", "words")

    def __init__(self) -> None:
        self.kind = Kind.STATE
        self.fields: dict[str, Field] = {}
        self.words = 0

    def word(self, *names: str, kind: Kind | None = None, most: int = WORD) -> None:
        """Declare one 64-bit word for each name."""
        for name in names:
            self._add(name, 1, False, kind, most)

    def array(self, name: str, count: int, *, align: int = 1, kind: Kind | None = None, most: int = WORD) -> None:
        """Declare an array of `count` words whose first word index is a multiple of `align`."""
        self.words += -self.words % align
        self._add(name, count, True, kind, most)

    def _add(self, name: str, count: int, array: bool, kind: Kind | None, most: int) -> None:
        if name in self.fields:
            raise ValueError(f"field {name!r} is declared twice")
        self.fields[name] = Field(name, self.words, count, array, kind or self.kind, most)
        self.words += count
