"""Numbers and ISA strings on the command line: one clear line for what is none, negative or too large."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

from trapline.cli.parameter import Parameter

LARGEST_COUNT = (1 << 63) - 1
LONGEST_RUN = 1_000_000_000.0  # seconds


def whole(low: int, high: int) -> Any:
    """Return the Parameter of an option that takes a whole number from `low` to `high`; 0x and _ are understood."""

    def convert(_: Any, tokens: Sequence[Any]) -> int:
        text = tokens[0].value
        try:
            value = int(text, 0) if len(text) < 100 and text.isascii() else high + 1
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise ValueError(f"expected a whole number from {low} to {high}, not {clipped(text)}")
        return value

    return Parameter(converter=convert)


def count(low: int, high: int) -> Any:
    """Return the Parameter of an option that takes a count: as `whole`, and k, M and G are thousands."""

    def convert(_: Any, tokens: Sequence[Any]) -> int:
        from trapline.people import read_count

        text = tokens[0].value
        value = read_count(text)
        if value is None or not low <= value <= high:
            raise ValueError(f"expected a whole number from {low} to {high} (20k, 500M, 1G), not {clipped(text)}")
        return value

    return Parameter(converter=convert)


def _seconds(_: Any, tokens: Sequence[Any]) -> float:
    text = tokens[0].value
    try:
        value = float(text) if text.isascii() else math.nan
    except ValueError:
        value = math.nan
    if not 0 < value <= LONGEST_RUN:
        raise ValueError(f"expected seconds, more than 0 and at most {LONGEST_RUN:.0f}, not {clipped(text)}")
    return value


def _isa(_: Any, tokens: Sequence[Any]) -> str:
    from trapline.privilege.isa_string import parse

    text: str = tokens[0].value
    if len(text) > 1000:
        raise ValueError(f"{clipped(text)} is too long for an ISA string")
    parse(text)
    return text


def clipped(text: str) -> str:
    """Return what the user wrote for a message, not all of it if it is long."""
    return repr(text) if len(text) <= 60 else f"{text[:40]!r}... ({len(text)} characters)"


Count = Annotated[int, count(1, LARGEST_COUNT)]
Seed = Annotated[int, whole(0, LARGEST_COUNT)]
Address = Annotated[int, whole(0, (1 << 64) - 1)]
Hertz = Annotated[int, count(1, (1 << 32) - 1)]  # a word of the device tree
Harts = Annotated[int, whole(1, 64)]
Workers = Annotated[int, whole(1, 256)]
Repeat = Annotated[int, count(1, 100_000)]
Granularity = Annotated[int, whole(1, 64)]
TraceLast = Annotated[int, count(1, 1 << 24)]  # session.observe.trace.MOST_LAST, which help is not to import
Seconds = Annotated[float, Parameter(converter=_seconds)]
Isa = Annotated[str, Parameter(converter=_isa)]
