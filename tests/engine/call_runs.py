"""Programs of page_calls on two machines, with and without regions, compared word for word."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from tests.engine.harness import BASE, SIZE, Bench
from tests.engine.page_calls import program
from tests.engine.tiers import switch


def everything(bench: Bench) -> tuple[object, ...]:
    """Registers, counters of traps and modes, memory."""
    hart = bench.hart
    counts = tuple(int(n) for n in hart.trap_count) + tuple(int(n) for n in hart.mode_instret)
    status = tuple(int(getattr(hart, n)) for n in ("mstatus", "vsstatus", "sepc", "vsepc", "scause", "vscause", "virt"))
    return bench.state(), counts, status, bench.regions.read(BASE, SIZE)


def benches(seed: int, engine: str) -> tuple[Bench, Bench]:
    """The same program on the interpreter alone and on an engine with regions."""
    plain, other = Bench("native"), Bench(engine)
    for bench in (plain, other):
        program(bench, seed, virtual=seed % 2 == 0)
    return plain, other


def calls_with_switches(seed: int, attempts: int) -> tuple[int, bool]:
    """Every block compiled before it runs, regions coming and going: how many attempts, and whether they differ."""
    rng = random.Random(seed)
    plain, mixed = benches(seed, "forced")
    done = 0
    while done < attempts:
        size = rng.choice((3, 50, 900, 2500))
        done += size
        for bench in (plain, mixed):
            bench.run(size)
        switch(mixed.engine, mixed.hart, rng)
    return done, everything(mixed) != everything(plain)


@dataclass(frozen=True, slots=True)
class Beside:
    """Whether anything differed, and how many regions were compiled and found kept."""

    differs: bool
    compiled: int
    found: int


def calls_beside(seed: int, attempts: int) -> Beside:
    """Threads compile and install what is hot, as in any run; longer where they had no time for it."""
    rng = random.Random(seed)
    plain, tiered = benches(seed, "tiered")
    done, end = 0, time.monotonic() + 20
    while done < attempts or (tiered.engine.tier.compiled + tiered.engine.tier.found == 0 and time.monotonic() < end):
        size = rng.choice((100_000, 500_000, 1_000_000))
        done += size
        for bench in (plain, tiered):
            bench.run(size)
    tier = tiered.engine.tier
    tier.close()
    tier.join()
    if tier.failure is not None:
        raise tier.failure
    return Beside(everything(tiered) != everything(plain), tier.compiled, tier.found)
