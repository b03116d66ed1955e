"""The flat layout of a hart's state: every field has a fixed place that both engines use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Field:
    """A 64-bit word, or an array of `count` words, at word index `index`.

    `host` marks addresses and caches that mean nothing outside this process: a snapshot leaves them out.
    """

    name: str
    index: int
    count: int
    array: bool
    host: bool = False


class Layout:
    """Named words in declaration order. What is declared while `host` is set belongs to this process alone."""

    def __init__(self) -> None:
        self.host = False
        self.fields: dict[str, Field] = {}
        self.words = 0

    def word(self, *names: str) -> None:
        """Declare one 64-bit word for each name."""
        for name in names:
            self._add(name, 1, array=False)

    def array(self, name: str, count: int, *, align: int = 1) -> None:
        """Declare an array of `count` words whose first word index is a multiple of `align`."""
        self.words += -self.words % align
        self._add(name, count, array=True)

    def _add(self, name: str, count: int, *, array: bool) -> None:
        if name in self.fields:
            raise ValueError(f"field {name!r} is declared twice")
        self.fields[name] = Field(name, self.words, count, array, self.host)
        self.words += count
