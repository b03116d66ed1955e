"""Numbers for people: one style in every view, message and monitor."""

from __future__ import annotations


def grouped(value: float) -> str:
    """Return a number rounded to one, with a space between thousands."""
    return f"{round(value):,}".replace(",", " ")


def times(value: int) -> str:
    """Return how often: once, 2 times."""
    return "once" if value == 1 else f"{grouped(value)} times"
