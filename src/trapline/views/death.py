"""A killed guest: the rule, KVM's log lines, the last traps, every level's CSRs, registers, code, walks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from trapline.views.tables import show, table
from trapline.views.terminal import put, say

if TYPE_CHECKING:
    from trapline.kvm.death import Death


def show_death(console: Console, death: Death) -> None:
    """Print everything that is known of a kill."""
    say(console, f"the rule that killed: {death.rule.source or 'no source given'}", 0, "bold red")
    for line in death.log:
        put(console, f"  kvm: {line}")
    put(console)
    put(console, "code", "bold")
    for code in death.code:
        mark = ">" if code.current else " "
        bits = "" if code.bits is None else f"{code.bits:08x}" if code.bits & 3 == 3 else f"    {code.bits:04x}"
        put(console, f" {mark} {code.address:#18x}: {bits:8}  {code.text}")
    put(console)
    put(console, "last traps", "bold")
    for record in death.routes[-8:]:
        put(console, f"   {record.name:22} {record.route()}  ({record.end})")
    for walk in death.walks:
        put(console)
        put(console, f"{walk.stage}-stage walk of {walk.address:#x}: {walk.why}", "bold")
        for step in walk.steps:
            put(console, f"   level {step.level}  at {step.address:#x}: {step.entry:#018x} {step.flags}")
    for level, csrs in death.csrs.items():
        put(console)
        made = table((f"{level} CSRs", "left"), ("value", "right"), ("", "wrap"))
        for csr in csrs:
            made.add_row(csr.name, f"{csr.value:#x}", csr.meaning)
        show(console, made)
    put(console)
    names = list(death.registers.items())
    beside = max(1, min(4, (console.width + 2) // 24))
    for at in range(0, len(names), beside):
        put(console, "  ".join(f"{n:>5} {v:016x}" for n, v in names[at : at + beside]))
