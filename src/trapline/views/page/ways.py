"""What a picture of routes draws: all traps that took one way, with how many they were and which causes they had."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

# From the least privileged mode to the most. The VMM is a process of the host; what is not here comes last.
MODES = ("vVU", "vVS", "vU", "vHS", "VU", "VS", "VMM", "U", "HS", "S", "M")
DEATHS = ("killed", "hung")


class Traveller(Protocol):
    """A row of routes or of traps."""

    @property
    def name(self) -> str: ...
    @property
    def how(self) -> tuple[str, ...]: ...
    @property
    def end(self) -> str: ...


@dataclass(slots=True)
class Way:
    """Traps that visited the same modes for the same reasons and ended alike."""

    path: tuple[str, ...]
    how: tuple[str, ...]
    end: str
    count: int = 0
    causes: dict[str, int] = field(default_factory=dict)

    @property
    def dead(self) -> bool:
        """Whether the guest did not go on."""
        return self.end in DEATHS

    def described(self) -> str:
        """Return the modes, and what took the traps there where that was not hardware alone."""
        reasons = ", ".join(how for how in self.how if how != "hardware")
        return " > ".join(self.path) + (f" ({reasons})" if reasons else "")


def ways(rows: Iterable[tuple[Traveller, Sequence[str], int]]) -> list[Way]:
    """Return the ways of rows of (what travelled, its path, how often): the most used first, deaths last."""
    found: dict[tuple[object, ...], Way] = {}
    for row, path, count in rows:
        if len(path) < 2 or not count:
            continue
        key = (tuple(path), tuple(row.how), row.end)
        way = found.setdefault(key, Way(*key))
        way.count += count
        way.causes[row.name] = way.causes.get(row.name, 0) + count
    return sorted(found.values(), key=lambda w: (w.dead, -w.count, rank(w.path[0]), w.path))


def rank(mode: str) -> tuple[int, str]:
    """Return a mode's place among the rows of a picture."""
    return (MODES.index(mode) if mode in MODES else len(MODES), mode)
