"""Numbers that the compiled handlers and the decoder of records must agree on."""

from __future__ import annotations

from functools import cache

import trapline.isa.all  # noqa: F401  (declares the instructions)
from trapline.lang.functions import INSTRUCTIONS


@cache
def step_index() -> dict[tuple[str, int], int]:
    """Numbers, from 1, of the (name, length) whose records hold in-page branches."""
    names = [i.name for i in INSTRUCTIONS if i.expands is None and "target" in i.text]
    return {(name, length): 1 + 2 * at + (length == 2) for at, name in enumerate(names) for length in (2, 4)}
