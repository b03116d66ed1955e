"""Random guest hypervisors with random tables, for as long as you like: native, reference, and a hart with a real H.

One seed in eight also runs on four vCPUs, native code beside the reference.

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
from l1 import NOTES, NOTES_SIZE, as_guest, difference, given_menvcfg, nested_vm, on_hart, program

from trapline.privilege.isa_string import DEFAULT_ISA

LIMIT = 100_000
LIMIT_OF_FOUR = 8_000
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
        found = f"reference and native: {found}" if found else four_vcpus(seed)
    return found


def four_vcpus(seed: int) -> str:
    """What differs between the engines on four vCPUs, or how one of them ended, "" if they are the same."""
    seen = []
    for engine in ("native", "reference"):
        vm = nested_vm(program(hostile.on_four(seed)), hostile.tables(seed), engine=engine, vcpus=hostile.VCPUS)
        result = vm.run(None, max_instructions=LIMIT_OF_FOUR)
        if result.reason != "limit":
            return f"four vCPUs, {engine}: {result.reason} {result.death}"
        seen.append(vm.read_memory(NOTES, NOTES_SIZE))
    return "" if seen[0] == seen[1] else f"four vCPUs, reference and native: {difference(*reversed(seen))}"


def main() -> int:
    """Run seeds until the time is over."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    seed = first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    menvcfg, end = given_menvcfg(), time.monotonic() + 60 * minutes
    failed = 0
    while time.monotonic() < end:
        try:
            found = compare(seed, menvcfg)
        except AssertionError as ended:  # of tests/kvm/nested/l1.py: it did not come to its end
            found = str(ended)
        if found:
            failed += 1
            print(f"seed {seed}: {found}", flush=True)
        seed += 1
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{seed - first} seeds from {first}, {failed} differ, at most {memory} MiB")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
