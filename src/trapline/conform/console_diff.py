"""Where two consoles differ: whole lines, the kernel's time stamps aside."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import Any

from trapline.conform.compare import AcceptedLine
from trapline.plain import plain

# What printk puts in front of a line (kernel/printk/printk.c, print_time): the same work takes another time.
_TIME = re.compile(r"^((?:<\d+>)?)\[ *\d+\.\d{6}\] ?")
_MOST_ALIGNED = 2000  # lines on either side: aligning takes their product


@dataclass(frozen=True, slots=True)
class LineDifference:
    """A line that is on one side only, or reads otherwise; numbers count from 1, 0 where there is no such line."""

    real_line: int
    hosted_line: int
    real: str | None
    hosted: str | None
    accepted: AcceptedLine | None = None

    def as_data(self) -> dict[str, Any]:
        reason = plain(self.accepted, "reason source") if self.accepted else None
        lines = {"real_line": self.real_line or None, "hosted_line": self.hosted_line or None}
        return {**lines, **plain(self, "real hosted"), "accepted": reason}


def lines_of(console: bytes | bytearray) -> list[str]:
    """Return the lines of a console without their ends and time stamps; what is no UTF-8 is shown as \\xNN."""
    text = bytes(console).decode(errors="backslashreplace").replace("\r", "")
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return [_TIME.sub(r"\1", line) for line in lines]


def differences(
    real: bytes | bytearray, hosted: bytes | bytearray, accepted: Sequence[AcceptedLine] = ()
) -> list[LineDifference]:
    """Compare two consoles line by line; lines that one side has more do not make those behind them differ."""
    left, right = lines_of(real), lines_of(hosted)
    start = 0
    while start < min(len(left), len(right)) and left[start] == right[start]:
        start += 1
    same = 0
    while same < min(len(left), len(right)) - start and left[-1 - same] == right[-1 - same]:
        same += 1
    a, b = left[start : len(left) - same], right[start : len(right) - same]
    found: list[LineDifference] = []
    for a_from, a_to, b_from, b_to in _blocks(a, b):
        for n, (one, other) in enumerate(zip_longest(a[a_from:a_to], b[b_from:b_to])):
            at = 0 if one is None else start + a_from + n + 1
            to = 0 if other is None else start + b_from + n + 1
            if one != other:
                found.append(LineDifference(at, to, one, other, _covering(accepted, one, other)))
    return found


def _covering(accepted: Sequence[AcceptedLine], *lines: str | None) -> AcceptedLine | None:
    there = [line for line in lines if line is not None]
    return next((a for a in accepted if all(a.pattern.fullmatch(line) for line in there)), None)


def _blocks(a: list[str], b: list[str]) -> list[tuple[int, int, int, int]]:
    """Return the stretches that differ: where lines can be aligned, and all the rest behind them."""
    near = SequenceMatcher(None, a[:_MOST_ALIGNED], b[:_MOST_ALIGNED], autojunk=False)
    blocks = [(i, j, k, m) for tag, i, j, k, m in near.get_opcodes() if tag != "equal"]
    if len(a) > _MOST_ALIGNED or len(b) > _MOST_ALIGNED:
        blocks.append((min(len(a), _MOST_ALIGNED), len(a), min(len(b), _MOST_ALIGNED), len(b)))
    return blocks
