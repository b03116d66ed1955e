"""Random guest hypervisors with random tables, for as long as you like: native, reference, and a hart with a real H.

python benchmarks/nested_soak.py [MINUTES [FIRST_SEED]]

The programs are those of tests/kvm/nested/hostile.py. Exit code 1 if two of the three differ; the seed is printed.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "kvm" / "nested"))

import hostile
from l1 import as_guest, difference, given_menvcfg, on_hart, program

from trapline.privilege.isa_string import DEFAULT_ISA

LIMIT = 100_000
REFERENCE_EVERY = 8  # the reference engine takes long: one seed in so many


def compare(seed: int, menvcfg: int) -> str:
    """What differs for a seed, "" if nothing does."""
    code, tables = program(hostile.body(seed)), hostile.tables(seed)
    native = as_guest(code, tables, engine="native", limit=LIMIT)
    found = difference(on_hart(code, tables, menvcfg, DEFAULT_ISA, "native", LIMIT), native)
    if found:
        return f"hardware and native: {found}"
    if seed % REFERENCE_EVERY == 0:
        found = difference(as_guest(code, tables, engine="reference", limit=LIMIT), native)
    return f"reference and native: {found}" if found else ""


def main() -> int:
    """Run seeds until the time is over."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    seed = first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    menvcfg, end = given_menvcfg(), time.monotonic() + 60 * minutes
    failed = 0
    while time.monotonic() < end:
        if found := compare(seed, menvcfg):
            failed += 1
            print(f"seed {seed}: {found}", flush=True)
        seed += 1
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{seed - first} seeds from {first}, {failed} differ, at most {memory} MiB")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
