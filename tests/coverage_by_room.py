"""Prints how many lines and branches of each room the tests have taken, from what pytest-cov has left."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

COUNTS = ("num_statements", "covered_lines", "num_branches", "covered_branches")


def counted() -> dict[str, list[int]]:
    """The counts of COUNTS by room; what lies beside the rooms is `trapline`."""
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "coverage.json"
        subprocess.run([sys.executable, "-m", "coverage", "json", "-q", "-o", str(written)], check=True)
        files = json.loads(written.read_text())["files"]
    rooms: dict[str, list[int]] = defaultdict(lambda: [0] * len(COUNTS))
    for name, data in files.items():
        inside = name.replace("\\", "/").split("trapline/")[-1].split("/")
        for counts in (rooms[inside[0] if len(inside) > 1 else "trapline"], rooms["all"]):
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
