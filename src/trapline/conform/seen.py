"""What became of one event, in the same form for the real kernel and for the hosted one."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from trapline.conform.port import Window
from trapline.privilege.causes import STORE_GUEST_PAGE_FAULT
from trapline.session.observe.trap_counts import Trap

REGISTERS = (
    "pc", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7",
    "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6", "mode",
)  # fmt: skip
CSRS = ("sstatus", "sie", "stvec", "sscratch", "sepc", "scause", "stval", "sip", "satp", "scounteren")
PREFIX = re.compile(r"^kvm(?: \[\d+\])?: ")


@dataclass(slots=True)
class Seen:
    """One event from one mode: what KVM_RUN returned, what the guest noted, what counted."""

    event: str
    mode: str
    end: str  # reached, killed, hung, vmm (an exit that the VMM does not serve), no-mark
    errno: int = 0
    exit_reason: int = 0  # of the last KVM_RUN
    exits: list[dict[str, int]] = field(default_factory=list)
    log: list[tuple[int, int, int, int]] = field(default_factory=list)  # scause, sepc, stval, sstatus of each handler
    registers: dict[str, int] = field(default_factory=dict)
    csrs: dict[str, int] = field(default_factory=dict)
    kernel: list[str] = field(default_factory=list)
    stats: dict[str, int] = field(default_factory=dict)
    traps: dict[Trap, int] | None = None  # exceptions that hardware took from the guest
    levels: dict[str, int] = field(default_factory=dict)  # CSRs of M- and HS-mode while the guest ran
    window: Window | None = None

    def outcome(self) -> str:
        """Return the outcome in a word or two, in the words of `trapline route`."""
        if self.end == "killed":
            return f"killed -{self.errno}"
        if self.end != "reached":
            return self.end
        if self.log:
            return f"guest {self.log[0][0]}"
        return "vmm" if self.exits else "went on"


def without_end(seen: Seen) -> Seen:
    """Take the write that ends an event, and says so to the VMM, out of what counted."""
    if seen.end not in ("reached", "lost"):
        return seen
    for name in ("exits", "mmio_exit_user"):
        if seen.stats.get(name):
            seen.stats[name] -= 1
            if seen.stats[name] == 0:
                del seen.stats[name]
    for mode in (seen.mode, "VS", "VU"):
        trap = (STORE_GUEST_PAGE_FAULT, mode, "HS")
        if seen.traps and trap in seen.traps:
            seen.traps = {t: n - (t == trap) for t, n in seen.traps.items() if n > (t == trap)}
            break
    return seen


def from_report(line: dict[str, Any]) -> Seen:
    """Return what the KVM user program reported in one line of JSON."""
    return Seen(
        event=line["event"],
        mode=line["from"],
        end=line["end"],
        errno=line["errno"],
        exit_reason=line["exit_reason"],
        exits=line["exits"],
        log=[(r[0], r[1], r[2], r[3]) for r in line["log"]],
        registers=dict(zip(REGISTERS, line["x"], strict=True)),
        csrs=dict(zip(CSRS, line["csrs"], strict=True)),
        kernel=[PREFIX.sub("", text) for text in line["kernel"]],
        stats=line["stats"],
    )
