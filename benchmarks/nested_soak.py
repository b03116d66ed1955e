"""Random guest hypervisors with random tables, for as long as you like: native, reference, and a hart with a real H.

One seed in eight also runs on four vCPUs, and with NACL at random, native code beside the reference.

python benchmarks/nested_soak.py [MINUTES [FIRST_SEED]]

The programs are those of tests/kvm/nested/hostile.py and random_h.py. Exit code 1 if two of the three differ; the seed
is printed. One that has no end where H is real may have none elsewhere; then what both have noted is the same. So it is
with one that leaves memory: that is an access fault where H is real, and KVM_EXIT_MMIO of a guest.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "kvm" / "nested"))

import hostile
import random_h
from l1 import (
    NOTES,
    NOTES_SIZE,
    NoEnd,
    Outside,
    as_guest,
    difference,
    given_menvcfg,
    nested_vm,
    on_hart,
    program,
    words,
)
from programs import g_stage, vs_stage

from trapline.privilege.isa_string import DEFAULT_ISA

LIMIT = 100_000
LIMIT_OF_FOUR = 8_000
REFERENCE_EVERY = 8  # the reference engine takes long: one seed in so many


def compare(seed: int, menvcfg: int) -> str:
    """What differs for a seed, "" if nothing does."""
    programs = ((program(hostile.body(seed)), hostile.tables(seed)), (random_h.code(seed), [*g_stage(8), *vs_stage()]))
    for code, tables in programs:
        real = ended(on_hart, code, tables, menvcfg, DEFAULT_ISA, "native", LIMIT)
        for engine in ("native", "reference") if seed % REFERENCE_EVERY == 0 else ("native",):
            seen = ended(as_guest, code, tables, engine=engine, limit=LIMIT)
            if found := differ(real, seen):
                return f"hardware and {engine}: {found}"
    return four_vcpus(seed) or shared_memory(seed) if seed % REFERENCE_EVERY == 0 else ""


@dataclass(frozen=True, slots=True)
class Ended:
    """What a program has noted, whether that was to its end, and whether a guest's user space had the next word."""

    over: bool
    notes: bytes = b""
    outside: bool = False


def ended(run: Callable[..., bytes], *given: Any, **options: Any) -> Ended:
    """Run a program to its end or limit."""
    try:
        return Ended(True, run(*given, **options))
    except NoEnd as error:
        return Ended(False, error.notes, isinstance(error, Outside))
    except AssertionError:  # it waits for ever, or powers off
        return Ended(False)


def differ(real: Ended, seen: Ended) -> str:
    """What differs, "" if nothing does. Of programs without an end what both have noted: they get to other places."""
    if real.over != seen.over and not seen.outside:
        return f"hardware {'ends' if real.over else 'has no end'}, the other does not do the same"
    if real.over and seen.over:
        return difference(real.notes, seen.notes)
    both = 8 * max(0, min(len(words(real.notes)), len(words(seen.notes))) - 1)  # the last one may be under way
    first, second = real.notes[:both], seen.notes[:both]
    return f"up to the limit, {difference(first, second)}" if first != second else ""


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


def shared_memory(seed: int) -> str:
    """What differs between the engines where L1 uses NACL at random, "" if nothing does; no death is L2's."""
    native, reference = (hostile.run_accelerated(seed, engine, LIMIT_OF_FOUR) for engine in ("native", "reference"))
    if native[0]:
        return f"NACL: died in L2: {native[2]}"
    return "" if native == reference else f"NACL: {native[:-1]} and {reference[:-1]}, or memory"


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
