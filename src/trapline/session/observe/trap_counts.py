"""The compiled counters of harts: traps by cause, origin and destination, instructions by mode."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache

from trapline.lang.state import Hart
from trapline.lang.state.words import LAYOUT, TRAP_CAUSES, TRAP_DESTINATIONS, TRAP_ORIGINS
from trapline.privilege.causes import INTERRUPT
from trapline.privilege.modes import DESTINATION_NAMES, MODE_NAMES, mode_name

_AT, _ROW = LAYOUT.fields["trap_count"].index, TRAP_ORIGINS * TRAP_DESTINATIONS
WORDS, _NO_ROW = TRAP_CAUSES * _ROW, bytes(_ROW * 8)
Trap = tuple[int, str, str]  # cause, origin, destination of the hardware entry


@cache
def trap_at(index: int) -> Trap:
    """Return which traps an index of the counters counts (causes.trap_index)."""
    row, destination = divmod(index, TRAP_DESTINATIONS)
    code, origin = divmod(row, TRAP_ORIGINS)
    cause = INTERRUPT | code - 32 if code >= 32 else code
    return cause, MODE_NAMES.get(origin, "?"), DESTINATION_NAMES[destination]


def trap_words(hart: Hart) -> memoryview:
    """Return the words that count a hart's traps."""
    return hart.mem[_AT : _AT + WORDS]


def counted(hart: Hart) -> dict[int, int]:
    """Return how often each trap was taken that was, by its index."""
    words = trap_words(hart)
    raw = bytes(words)
    rows = [n for n in range(0, WORDS, _ROW) if not raw.startswith(_NO_ROW, n * 8)]
    return {index: n for row in rows for index, n in enumerate(words[row : row + _ROW].tolist(), row) if n}


def summed(harts: Iterable[Hart]) -> Counter[int]:
    """Return the same of several harts together."""
    total: Counter[int] = Counter()
    for hart in harts:
        total.update(counted(hart))
    return total


def trap_rows(counts: Mapping[int, int]) -> list[tuple[int, str, str, int]]:
    """Return (cause, origin, destination, count), in order."""
    return [(*trap_at(index), n) for index, n in sorted(counts.items())]


def instructions_by_mode(hart: Hart) -> dict[str, int]:
    """Return a hart's instructions by mode, those since the last change of mode included."""
    found = {name: int(hart.mode_instret[mode]) for mode, name in MODE_NAMES.items()}
    found[mode_name(hart)] += int(hart.instret) - int(hart.not_retired) - int(hart.mode_since)
    return found
