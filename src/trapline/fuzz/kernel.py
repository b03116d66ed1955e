"""The real kernel as oracle: SBI calls made at random, under its own KVM on the board and under a policy.

One boot runs many calls. They are items of sweeps (conform.sweep), so each is made in the state that those before it
left, on both sides. What differs is made small under the policy alone: the calls before it that its answer does not
need go.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from trapline.conform.board import Host
from trapline.conform.compare import Difference, load_accepted
from trapline.conform.conform import preset_of, settings_for
from trapline.conform.sweep import RAM, SCRATCH, Item, Sweep
from trapline.conform.sweep_calls import ALL, CALL, PLACES, call
from trapline.conform.sweep_compare import compare_sweep
from trapline.conform.sweep_run import SweepSeen, run_hosted_sweeps, run_sweeps
from trapline.engine.api import Engine
from trapline.fuzz.make import SBI
from trapline.isa.assemble import assemble
from trapline.lab.probe import image as probe
from trapline.lab.replay.elf_file import Part, write_elf
from trapline.lab.replay.replay import command_line, from_anywhere, write_script, writing
from trapline.lab.settings import Settings
from trapline.plain import plain
from trapline.policies import Policy, load_policy
from trapline.privilege.isa_string import DEFAULT_ISA
from trapline.sbi.numbers import Eid

CALLS = 4096  # of a sweep
TRIES = 40  # runs under the policy for what is made small
_NAMES = {int(e): e.name for e in Eid}
_CODE: dict[str, str | bytes] = {"call": CALL}
_SMALL = (0, 1, 2, 3, 4, 7, 8, 16, 32, 63, 64, 0xFF, 0x1000, 0x1001, 0xFFFF)
_LARGE = (
    0x7FFF_FFFF, 0x8000_0000, 0xC000_0000, 0xFFFF_FFFF, 1 << 32, 1 << 32 | 1, 1 << 63, ALL, ALL - 1, ALL & ~63,
    ALL & ~0xFFF, SCRATCH, SCRATCH + 64, SCRATCH + 0x1000, RAM + 0x8000,
)  # fmt: skip
_TIMED = {(int(Eid.PMU), 5): "a1", (int(Eid.PMU), 6): "a1"}  # what a counter holds
FAILED, END = 0x1_3333, probe.END


@dataclass(slots=True)
class Found:
    """A call that the kernel answers otherwise than the policy does."""

    extension: int
    function: int
    what: str  # the field that differs
    real: str
    hosted: str
    calls: tuple[Item, ...]  # the last is the one; those before it are needed for it
    count: int = 1
    file: str = ""
    command: str = ""

    @property
    def rule(self) -> tuple[int, int, str]:
        """What belongs together."""
        return self.extension, self.function, self.what

    def line(self) -> str:
        """Return the finding in one line."""
        name = _NAMES.get(self.extension, f"{self.extension:#x}")
        return f"{name} function {self.function:#x}: {self.what}: the kernel {self.real}, the policy {self.hosted}"

    def as_data(self) -> dict[str, Any]:
        calls = [list(i.args) for i in self.calls]
        said = plain(self, "extension function field=what real hosted count file command")
        return {**said, "line": self.line(), "calls": calls}


@dataclass(slots=True)
class KernelResult:
    """What a search with a kernel did."""

    settings: Settings
    release: str
    seed: int
    runs: int = 0
    findings: list[Found] = field(default_factory=list)

    def as_data(self) -> dict[str, Any]:
        return {**self.settings.head(), "from": "VS", **plain(self, "oracle=release seed runs findings")}


def search_kernel(
    host: Host,
    policy: Policy | None,
    seed: int,
    runs: int,
    *,
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> KernelResult:
    """Make `runs` calls under the host's KVM and under the policy; the kernel's own preset if none is given."""
    rng = Random(f"{seed}/kernel")
    sweeps = [made(rng, n, min(CALLS, runs - n * CALLS)) for n in range((runs + CALLS - 1) // CALLS)]
    run, real = run_sweeps(host, sweeps, lambda n, total: progress(n, total, f"{n} of {total} batches"))
    policy = policy or load_policy(preset_of(run.release))
    chosen = settings_for(host, run.firmware, run.windows[0] if run.windows else None, policy)
    result = KernelResult(chosen, run.release, seed)
    compare(result, sweeps, real, host.isa, host.engine)
    return result


def compare(
    result: KernelResult, sweeps: Sequence[Sweep], real: Sequence[SweepSeen], isa: str, engine: str | Engine = "native"
) -> None:
    """Run the sweeps under the policy, and note what the kernel did otherwise."""
    hosted = run_hosted_sweeps(result.settings, isa, sweeps, real[0].v01, engine)
    known = load_accepted()
    for sweep, there, here in zip(sweeps, real, hosted, strict=True):
        row = compare_sweep(sweep, there, here, known)
        result.runs += len(sweep.items)
        for found in _fresh(result, sweep, [d for d in row.differences if d.accepted is None]):
            found.calls = _needed(result.settings, sweep, found, there.v01, isa, engine)


def made(rng: Random, number: int, calls: int) -> Sweep:
    """Return a sweep of made calls; every other one has all extensions on."""
    items = tuple(replace(item, name=f"{n}") for n, item in enumerate(_calls(rng, calls)))
    on = (9, 11, 13) if number % 2 else ()
    return Sweep(f"made-{number}", "calls made at random", items, _CODE, on)


def _calls(rng: Random, count: int) -> Iterator[Item]:
    places = tuple(PLACES.values())
    for _ in range(count):
        eid = rng.choice(SBI)
        fid = rng.choice((0, 0, 0, 1, 1, 2, 2, 3, 4, 5, 6, 7, 8, ALL))
        args = [rng.choice(rng.choice((_SMALL, _SMALL, _LARGE, places))) for _ in range(rng.randrange(6))]
        varies = frozenset((_TIMED[eid, fid],)) if (eid, fid) in _TIMED else frozenset()
        yield call("", eid, fid, *args, varies=varies)


def _fresh(result: KernelResult, sweep: Sweep, differences: Sequence[Difference]) -> Iterator[Found]:
    """Group the differences of a sweep; yield the first of each group."""
    known = {f.rule: f for f in result.findings}
    for one in differences:
        if not one.event.isdecimal():
            continue  # a counter of all calls together follows from one of them
        at = int(one.event)
        item = sweep.items[at]
        found = Found(item.args[7], item.args[6], one.field, one.real, one.hosted, sweep.items[: at + 1])
        if found.rule in known:
            known[found.rule].count += 1
            continue
        known[found.rule] = found
        result.findings.append(found)
        yield found


def _needed(
    settings: Settings, sweep: Sweep, found: Found, v01: bool, isa: str, engine: str | Engine
) -> tuple[Item, ...]:
    """Leave out calls before the last one that its answer under the policy does not need."""
    left = TRIES

    def same(calls: Sequence[Item]) -> bool:
        nonlocal left
        left -= 1
        if left < 0:
            return False
        items = tuple(replace(item, name=str(n)) for n, item in enumerate(calls))
        seen = run_hosted_sweeps(settings, isa, [replace(sweep, items=items)], v01, engine)[0]
        other = replace(seen, records=[*seen.records[:-1], (0,) * len(seen.records[-1])], ends=[])
        row = compare_sweep(replace(sweep, items=items), other, seen)
        return any(d.event == str(len(items) - 1) and d.field == found.what and d.hosted == found.hosted
                   for d in row.differences)  # fmt: skip

    calls = list(found.calls)
    if same(calls[-1:]):
        return (calls[-1],)
    size = len(calls) // 2
    while size and left > 0:
        at = 0
        while at < len(calls) - 1 and left > 0:
            fewer = calls[:at] + calls[min(at + size, len(calls) - 1) :]
            if len(fewer) < len(calls) and same(fewer):
                calls = fewer
            else:
                at += size
        size //= 2
    return tuple(calls)


def guest_of(found: Found) -> bytes:
    """Return an ELF that makes the calls; it ends as failed if the last one's a0 or a1 is not the kernel's."""
    lines = []
    for item in found.calls:
        lines += [f"li a{n}, {value:#x}" for n, value in enumerate(item.args)] + ["ecall"]
    if found.what in ("a0", "a1") and found.real:
        lines += [f"li t0, {found.real}", f"bne {found.what}, t0, 3f"]
    lines += [f"li t0, {probe.FINISHER:#x}", f"li t1, {END:#x}", "1: sw t1, 0(t0)", "j 1b"]
    lines += [f"3: li t0, {probe.FINISHER:#x}", f"li t1, {FAILED:#x}", "4: sw t1, 0(t0)", "j 4b"]
    return write_elf([Part(RAM, assemble("\n".join(lines), RAM))], {"_start": RAM}, RAM)


def write_kernel(result: KernelResult, policy: str, directory: Path) -> None:
    """Write an ELF for each finding, and `replay.sh`; `policy` is what --policy says."""
    anywhere, runs = from_anywhere(policy), []
    with writing(directory):
        for number, found in enumerate(result.findings, 1):
            found.file = f"{number:03}-kernel-{_NAMES.get(found.extension, f'{found.extension:#x}').lower()}.elf"
            (directory / found.file).write_bytes(guest_of(found))
            found.command = _command(str(directory / found.file), policy, result.settings)
            runs.append((found.line(), _command(found.file, anywhere, result.settings)))
        write_script(directory, ("Calls that the kernel answers otherwise.",), runs)


def _command(path: str, policy: str, s: Settings) -> str:
    return shlex.join(command_line(s, path, policy, DEFAULT_ISA, 1_000_000))
