"""Numbers that the compiled handlers and the decoder of records must agree on."""

from __future__ import annotations

from functools import cache

from trapline.engine.fused_pairs import PAIRS
from trapline.engine.kept_tables import keep_steps, known_steps
from trapline.isa.decode import declare
from trapline.lang.functions import INSTRUCTIONS

MARGIN = 2100  # more than the attempts between two looks at the budget
SAMPLE_PERIOD = 20_000  # attempts, on average
UNEVEN, UNEVEN_STEP = 1024, 389  # a power of two by which periods differ, and how far one is from the next

# Pairs of neighbours (first, second, each with its length in bytes) that have a handler of their own.
FUSED = tuple((pair.split("+")[0], pair.split("+")[1]) for pair in PAIRS.split())


@cache
def step_index() -> dict[tuple[str, int], int]:
    """Numbers, from 1, of the (name, length) whose records hold in-page branches."""
    if (known := known_steps()) is not None:
        return known
    declare()
    names = [i.name for i in INSTRUCTIONS if i.expands is None and i.has_target]
    found = {(name, length): 1 + 2 * at + (length == 2) for at, name in enumerate(names) for length in (2, 4)}
    keep_steps(found)
    return found


@cache
def plain_index() -> dict[str, int]:
    """Numbers, after those of step_index, of the handlers that stand for the first part of a pair when stepping."""
    base = len(step_index()) + 2
    return {name: base + at for at, name in enumerate(dict.fromkeys(first for first, _ in FUSED))}
