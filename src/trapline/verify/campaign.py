"""Campaigns of random streams: native engine against Spike by signature, and on request against the reference.

A stream whose signatures differ is run again in lockstep to find the first divergence.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from operator import attrgetter

from trapline.isa.assemble import assemble
from trapline.isa.decode import enabled_extensions
from trapline.lab.executor.api import in_order, local
from trapline.lang.state import Hart
from trapline.privilege.isa_string import DEFAULT_ISA, configure
from trapline.verify import lockstep, spike
from trapline.verify import stream_layout as at
from trapline.verify.stream import Stream, StreamGenerator

_END = at.TABLES + at.TABLE_PAGES * at.PAGE
_LIMIT = 4_000_000
BLOCKS, LENGTH = 64, 250  # of a stream


@dataclass(frozen=True)
class Variant:
    """A hart to test: its ISA string, and whether it splits misaligned accesses."""

    name: str
    isa: str
    misaligned: str = "trap"


def _without(*names: str) -> str:
    return "_".join(part for part in DEFAULT_ISA.split("_") if part not in names)


VARIANTS = (
    Variant("default", DEFAULT_ISA),
    Variant("misaligned", DEFAULT_ISA + "_zicclsm", "hardware"),
    Variant("uncompressed", DEFAULT_ISA.replace("rv64imafdch", "rv64imafdh")),
    Variant(
        "plain", _without("svadu", "svnapot", "svpbmt", "zfh", "zicond", "zba", "zbkb", "zbkx", "sscofpmf", "zicboz")
    ),
)


@dataclass(frozen=True)
class Result:
    """One stream: how many instructions it ran here and whether everybody agreed."""

    seed: int
    variant: str
    instructions: int
    body: int  # random instructions generated
    differences: tuple[str, ...] = ()


@dataclass
class Report:
    """A whole campaign."""

    streams: int = 0
    instructions: int = 0
    body: int = 0
    seconds: float = 0.0
    failures: list[Result] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Count one stream."""
        self.streams += 1
        self.instructions += result.instructions
        self.body += result.body
        if result.differences:
            self.failures.append(result)


@cache
def generator(variant: Variant) -> StreamGenerator:
    """Return the generator for a variant."""
    hart = Hart()
    configure(hart, variant.isa)
    return StreamGenerator(enabled_extensions(hart), assemble, splits=variant.misaligned == "hardware")


def run_here(stream: Stream, variant: Variant, engine: str) -> tuple[bytes, int]:
    """Run a stream to its end; return its signature and the number of instructions."""
    machine = lockstep.make_machine(stream.elf, variant.isa, engine, variant.misaligned, htif=True)
    result = machine.run(max_instructions=_LIMIT)
    if result.reason != "exit":
        raise RuntimeError(f"on the {engine} engine the stream did not end: {result.reason} {result.message}".strip())
    return bytes(machine.regions.read(at.LOG, _END - at.LOG)), result.instructions


def run_stream(
    seed: int, variant: Variant, reference: bool = False, blocks: int = BLOCKS, length: int = LENGTH
) -> Result:
    """Run one stream natively and on Spike, and with `reference` on the reference engine, and compare."""
    stream = generator(variant).stream(seed, blocks, length)
    differences: list[str] = []
    try:
        ours, count = run_here(stream, variant, "native")
    except RuntimeError as error:
        return Result(seed, variant.name, 0, 0, (str(error),))
    try:
        theirs = spike.signature(stream.elf, variant.isa)
    except spike.SpikeError as error:
        differences.append(str(error))
        theirs = ours
    if ours != theirs:
        differences.append(f"signature differs from Spike's: {_where(ours, theirs)}")
    if reference:
        differences += _against_reference(stream, variant, ours)
    return Result(seed, variant.name, count, stream.instructions, tuple(differences))


def _against_reference(stream: Stream, variant: Variant, ours: bytes) -> list[str]:
    theirs, _ = run_here(stream, variant, "reference")
    return [] if theirs == ours else [f"signature differs from the reference's: {_where(ours, theirs)}"]


def _where(ours: bytes, theirs: bytes) -> str:
    """Say where two signatures first differ."""
    place = next((i for i in range(0, len(ours), 8) if ours[i : i + 8] != theirs[i : i + 8]), len(ours))
    if place < at.PAGE:
        return f"accumulator after block {place // 8}"
    return f"memory at {at.LOG + place:#x}"


def explain(seed: int, variant: Variant, blocks: int = BLOCKS, length: int = LENGTH) -> str:
    """Run a stream in lockstep with Spike; return the first divergence as text."""
    stream = generator(variant).stream(seed, blocks, length)
    found = lockstep.against_spike(stream.elf, variant.isa, misaligned=variant.misaligned)
    return found.text() if found else "no divergence from Spike"


@dataclass(frozen=True, slots=True)
class Job:
    """A stream to be run: its place among those of a call of `results`, and what `run_stream` takes."""

    place: int
    seed: int
    variant: Variant
    reference: bool = False
    blocks: int = BLOCKS
    length: int = LENGTH


def run_job(job: Job) -> Result:
    """Run one stream."""
    return run_stream(job.seed, job.variant, job.reference, job.blocks, job.length)


def results(
    seeds: Iterable[int],
    variants: tuple[Variant, ...],
    workers: int,
    reference: bool = False,
    blocks: int = BLOCKS,
    length: int = LENGTH,
    run: Callable[[Job], Result] = run_job,
) -> Iterator[Result]:
    """Run streams on the common executor, in the order of their seeds; variants take turns.

    A stream that cannot be run, or whose process dies, is tried again; then its result says so, and how to run it.
    """
    jobs = (Job(n, s, variants[n % len(variants)], reference, blocks, length) for n, s in enumerate(seeds))
    for done in in_order(local(workers).execute(run, jobs), attrgetter("place")):
        job = done.unit
        if done.value is not None:
            yield done.value
        else:
            again = f"benchmarks/campaign --explain {job.seed} --variant {job.variant.name}"
            sizes = f" --blocks {job.blocks} --length {job.length}"
            yield Result(job.seed, job.variant.name, 0, 0, (done.error, again + sizes))


def campaign(
    instructions: int,
    *,
    first_seed: int = 0,
    variants: tuple[Variant, ...] = VARIANTS,
    workers: int = 1,
    reference: bool = False,
    blocks: int = BLOCKS,
    length: int = LENGTH,
    progress: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Run streams until at least this many instructions have been compared."""
    report = Report()
    start = time.perf_counter()
    batch = max(workers * 8, len(variants))
    while report.instructions < instructions and len(report.failures) < 20:
        seeds = range(first_seed, first_seed + batch)
        first_seed += batch
        for result in results(seeds, variants, workers, reference, blocks, length):
            report.add(result)
            report.seconds = time.perf_counter() - start
            progress(report)
            if workers <= 1 and report.instructions >= instructions:
                break
    return report
