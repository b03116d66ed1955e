"""Numbers for people: one style in every view, message and monitor; and how people write counts."""

from __future__ import annotations

import re

_COUNT = re.compile(r"(0[xX][0-9a-fA-F]+(?:_[0-9a-fA-F]+)*)|([0-9]+(?:_[0-9]+)*)([kKmMgG]?)")
_UNITS = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}
_LONGEST, _ENDLESS = 100, 1 << 400  # characters; a number that has as many


def grouped(value: float) -> str:
    """Return a number rounded to one, with a space between thousands."""
    return f"{round(value):,}".replace(",", " ")


def address(value: int, symbol: str | None = None) -> str:
    """Return an address with its symbol, if there is one."""
    return f"{value:#x} <{symbol}>" if symbol else f"{value:#x}"


def times(value: int) -> str:
    """Return how often: once, 2 times."""
    return "once" if value == 1 else f"{grouped(value)} times"


def read_count(text: str) -> int | None:
    """Return a count as people write it: 500M, 20k, 1G (decimal, unlike sizes), 1_000_000, 0x40; None if it is none."""
    match = _COUNT.fullmatch(text)
    if match is None:
        return None
    if len(text) > _LONGEST:
        return _ENDLESS  # more than anybody accepts, and than Python reads without end
    hexadecimal, digits, unit = match.groups()
    return int(hexadecimal, 16) if hexadecimal else int(digits) * _UNITS[unit.lower()]
