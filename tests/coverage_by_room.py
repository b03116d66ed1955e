"""Measures how many lines and branches of each room the tests take, and prints it.

`tests/run` measures the specification and the hypervisor (ROOMS) in their own tests; all rooms in all tests with
TRAPLINE_COVERAGE=all, which takes twice as long.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import coverage
import pytest

TESTS = Path(__file__).resolve().parent
NESTED = TESTS / "kvm" / "nested"
ROOMS = ("firmware", "isa", "kvm", "machine", "policies", "privilege", "sbi")
FOLDERS = (*ROOMS, "virtio", "vmm")  # of tests
COUNTS = ("num_statements", "covered_lines", "num_branches", "covered_branches")


def is_measured(room: str, of: tuple[str, ...] = ROOMS) -> bool:
    """Whether a room is measured, or a folder of tests takes part."""
    return room in of or os.environ.get("TRAPLINE_COVERAGE") == "all"


class RoomCoverage:
    """Traces what is imported while tests are collected, and the tests of the rooms that are measured."""

    def __init__(self) -> None:
        whole = os.environ.get("TRAPLINE_COVERAGE") == "all"
        rooms = [str(TESTS.parent / "src" / "trapline" / room) for room in ([""] if whole else ROOMS)]
        self._measured = coverage.Coverage(source=rooms, data_suffix=True)
        self._measured.start()
        self._traces = True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Trace the test, if it takes part."""
        self._trace(takes_part(item))
        return (yield)

    def pytest_sessionfinish(self) -> None:
        """Leave what was counted."""
        self._trace(False)
        self._measured.save()

    def _trace(self, wanted: bool) -> None:
        if wanted != self._traces:
            (self._measured.start if wanted else self._measured.stop)()
        self._traces = wanted


def takes_part(item: pytest.Item) -> bool:
    """Whether a test is traced: not under the reference engine, where CPython runs the subset for long."""
    if "reference" in item.name or item.path.is_relative_to(NESTED) or item.get_closest_marker("no_cover"):
        return False
    return is_measured(item.path.relative_to(TESTS).parts[0], FOLDERS)


def counted() -> dict[str, list[int]]:
    """The counts of COUNTS by room; what lies beside the rooms is `trapline`."""
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "coverage.json"
        for command in (["combine", "-q"], ["json", "-q", "-o", str(written)]):
            subprocess.run([sys.executable, "-m", "coverage", *command], check=True)
        files = json.loads(written.read_text())["files"]
    rooms: dict[str, list[int]] = defaultdict(lambda: [0] * len(COUNTS))
    for name, data in files.items():
        inside = name.replace("\\", "/").split("trapline/")[-1].split("/")
        room = inside[0] if len(inside) > 1 else "trapline"
        for counts in (rooms[room], rooms["all"]) if is_measured(room) else ():
            for n, key in enumerate(COUNTS):
                counts[n] += data["summary"][key]
    return rooms


def percent(part: int, whole: int) -> float:
    """A share in percent; of nothing all is covered."""
    return 100 * part / whole if whole else 100.0


def main() -> None:
    """Print the table."""
    rooms = counted()
    whole = rooms.pop("all")
    print(f"{'room':<10} {'lines':>7} {'covered':>8}   {'branches':>8} {'covered':>8}")
    for name, (lines, run, ways, taken) in [*sorted(rooms.items()), ("all", whole)]:
        print(f"{name:<10} {lines:>7} {percent(run, lines):>7.1f}%   {ways:>8} {percent(taken, ways):>7.1f}%")


if __name__ == "__main__":
    main()
