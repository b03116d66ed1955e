"""The compiled trap counters of a board's harts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from trapline.lang.state import Hart
from trapline.lang.state.words import LAYOUT, TRAP_CAUSES, TRAP_DESTINATIONS, TRAP_ORIGINS
from trapline.privilege.causes import INTERRUPT
from trapline.privilege.modes import DESTINATION_NAMES, MODE_NAMES


def trap_counts(harts: Sequence[Hart]) -> list[tuple[int, str, str, int]]:
    """Return (cause, origin, destination, count), summed over harts."""
    start, size = LAYOUT.fields["trap_count"].index, TRAP_CAUSES * TRAP_ORIGINS * TRAP_DESTINATIONS
    counts: Counter[int] = Counter()
    for hart in harts:
        counts.update({n: v for n, v in enumerate(hart.mem[start : start + size].tolist()) if v})
    rows = []
    for index, count in sorted(counts.items()):
        code, origin, destination = index >> 5, index >> 2 & 7, index & 3
        cause = INTERRUPT | code - 32 if code >= 32 else code
        rows.append((cause, MODE_NAMES.get(origin, "?"), DESTINATION_NAMES[destination], count))
    return rows


def instructions_by_mode(hart: Hart) -> dict[str, int]:
    """Return a hart's instructions by mode, those since the last change of mode included."""
    found = {name: int(hart.mode_instret[mode]) for mode, name in MODE_NAMES.items()}
    now = MODE_NAMES[int(hart.priv) | int(hart.virt) << 2]
    found[now] += int(hart.instret) - int(hart.not_retired) - int(hart.mode_since)
    return found
