"""`trapline compare --nested`: how many exits of L0 an exit of L2 costs, with real kernels as L1 and NACL by features.

The loops of one trap each run in a guest of L1's KVM. Between two marks every exit of L0 is recorded; a round is what
lies between a trap by which L2 is left for L1 and the next entry of L2, both included, and what L2 needs of L0 then.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trapline.conform.board import Host
from trapline.conform.loops import LOOPS, Loop, files
from trapline.conform.nested import NestedSession
from trapline.conform.port import MARK, Snapshot
from trapline.firmware.models import DEFAULT_MODEL
from trapline.isa.system import SRET, is_csr, is_guest_access
from trapline.isa.text import csr_name
from trapline.kvm.report.trace import TrapRecord
from trapline.lab.errors import UsageError
from trapline.lab.settings import Settings, policy_of
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.plain import plain
from trapline.policies import Policy
from trapline.privilege.causes import INTERRUPT, VIRTUAL_INST, cause_name
from trapline.vmm.arguments import parse_nacl

ROUNDS = 40
STEPS = ("off", "csr", "csr,hfence", "csr,hfence,sret", "csr,hfence,sret,autoswap")
HAS_CLIENT = (6, 13)  # of NACL: Linux asks for it since
OF_L2 = ("vVS", "vVU")
_LEFT, _ENTERED = ("nested-leave", "nested-redirect"), "nested-enter"

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Round:
    """From a trap of L2's to its next entry."""

    exits: tuple[str, ...]  # of L0: what was done at each
    l1: int  # instructions of L1, its user space among them
    l0: int  # estimate of L0's and the firmware's


@dataclass(frozen=True, slots=True)
class ExitRow:
    """One event: the round that came most often, and how many exits it has."""

    loop: Loop
    rounds: int
    usual: Round | None  # None: L1 is not told

    @property
    def exits(self) -> int:
        """Exits of L0 for one event."""
        return 0 if self.usual is None else len(self.usual.exits)

    def as_data(self) -> dict[str, Any]:
        usual = self.usual
        return {
            "exits": self.exits, "rounds": self.rounds,
            "instructions": {"L1": usual.l1 if usual else 0, "L0": usual.l0 if usual else 0},
            "what": dict(Counter(usual.exits)) if usual else {},
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class ExitCosts:
    """All events under one L0, with one kernel as L1 and one set of NACL's features."""

    policy: str
    release: str
    nacl: tuple[str, ...]
    rows: tuple[ExitRow, ...]

    def as_data(self) -> dict[str, Any]:
        return {**plain(self, "policy kernel=release nacl"), "events": {r.loop.name: r.as_data() for r in self.rows}}


@dataclass(slots=True)
class _Watch:
    """The records between the marks, loop by loop."""

    loops: list[list[TrapRecord]] = field(default_factory=list)
    open: bool = False

    def __call__(self, record: TrapRecord) -> None:
        if self.open:
            self.loops[-1].append(record)


class _Watched(NestedSession):
    """A session whose exits are recorded between the marks."""

    watch: _Watch

    def _mark(self, snapshot: Snapshot, hart: Hart) -> None:
        vm = self.guest.vm
        vm.fold_native()
        vm.on_trap = self.watch
        if snapshot.code == MARK:
            self.watch.loops.append([])
        self.watch.open = snapshot.code == MARK
        super()._mark(snapshot, hart)


def exit_costs(
    hosts: Sequence[Host],
    policies: Sequence[str | Path | Policy] = ("linux-7.2",),
    nacl: str | None = None,
    *,
    rounds: int = ROUNDS,
    progress: Progress | None = None,
) -> list[ExitCosts]:
    """Measure every loop under each policy as L0, each host's kernel as L1, and each step of NACL (or that one)."""
    chosen = [policy_of(p) for p in policies]
    steps = STEPS if nacl is None else (nacl,)
    try:
        parse_nacl(nacl or "")
    except ValueError as error:
        raise UsageError(str(error)) from None
    found, total, done = [], len(chosen) * len(hosts) * len(steps), 0
    for policy in chosen:
        for host in hosts:
            for step in steps:
                if progress is not None:
                    progress(done, total, f"{host.kernel.parent.name}, NACL {step}")
                done += 1
                made = measure(host, policy, step, rounds)
                found.append(made)
                if nacl is None and not _asks_for_nacl(made.release):
                    done += len(steps) - 1
                    break
    return found


def measure(host: Host, policy: Policy, nacl: str, rounds: int = ROUNDS) -> ExitCosts:
    """Boot L1 once and run every loop."""
    settings = Settings(policy, DEFAULT_MODEL, False, host.misaligned)
    session = _Watched(host, files(LOOPS, rounds), "loops symbols=0", settings=settings, nacl=nacl)
    watch = session.watch = _Watch()
    run = session.go()
    if len(watch.loops) != len(LOOPS):
        raise UsageError(f"the KVM user program ran {len(watch.loops)} of {len(LOOPS)} loops")
    rows = tuple(_row(loop, records) for loop, records in zip(LOOPS[1:], watch.loops[1:], strict=True))
    return ExitCosts(policy.name, run.release, parse_nacl(nacl) or policy.nacl if nacl != "off" else (), rows)


def _asks_for_nacl(release: str) -> bool:
    found = re.match(r"(\d+)\.(\d+)", release)
    return found is None or (int(found[1]), int(found[2])) >= HAS_CLIENT


def _row(loop: Loop, records: list[TrapRecord]) -> ExitRow:
    """The round that is usual. The marks are in none: L2 has left before the first, and enters behind the last."""
    found = rounds_of(records)
    if not found:
        return ExitRow(loop, 0, None)
    exits, many = Counter(r.exits for r in found).most_common(1)[0]
    return ExitRow(loop, many, min((r for r in found if r.exits == exits), key=lambda r: r.l1))


def rounds_of(records: Sequence[TrapRecord]) -> list[Round]:
    """Cut records into rounds; those in which an interrupt came are left out."""
    rounds, inside = list[list[TrapRecord]](), False
    for record in records:
        if record.how[-1] in _LEFT and record.path[0] in OF_L2:
            rounds.append([record])
            inside = True
        elif rounds and (inside or record.path[0] in OF_L2):
            rounds[-1].append(record)
            inside = inside and record.how[-1] != _ENTERED
    return [_round(r) for r in rounds if not any(x.cause & INTERRUPT for x in r) and _entered(r) is not None]


def _entered(records: Sequence[TrapRecord]) -> TrapRecord | None:
    return next((r for r in records if r.how[-1] == _ENTERED), None)


def _round(records: Sequence[TrapRecord]) -> Round:
    last = _entered(records)
    assert last is not None
    spent = sum(r.hs_instructions + r.m_instructions + r.user_instructions for r in records)
    return Round(tuple(what(r) for r in records), last.instret - records[0].instret, spent)


def what(record: TrapRecord) -> str:
    """Say what an exit was: the instruction that L0 executed, or the trap."""
    if record.cause != VIRTUAL_INST or record.path[0] in OF_L2:
        return f"{cause_name(record.cause)} from {record.path[0]}"
    bits = record.tval
    if bits == SRET:
        return "sret"
    how, rd, rs1 = bits >> 12 & 3, bits >> 7 & 31, bits >> 15 & 31
    if not is_csr(U64(bits)):
        return "hlv or hsv" if is_guest_access(U64(bits)) else "hfence"
    word = "read" if how > 1 and rs1 == 0 else "write" if rd == 0 else "swap"
    return f"{word} {csr_name(bits >> 20)}"
