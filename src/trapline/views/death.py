"""A killed guest: the rule, KVM's log lines, the last traps, every level's CSRs, registers, code, walks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from trapline.views.terminal import say, table

if TYPE_CHECKING:
    from trapline.kvm.death import Death


def show_death(console: Console, death: Death) -> None:
    """Print everything that is known of a kill."""
    say(console, f"the rule that killed: {death.rule.source or 'no source given'}", 0, "bold red")
    for line in death.log:
        console.print(f"  kvm: {line}", soft_wrap=True)
    console.print()
    console.print("code", style="bold")
    for code in death.code:
        mark = ">" if code.current else " "
        bits = "" if code.bits is None else f"{code.bits:08x}" if code.bits & 3 == 3 else f"    {code.bits:04x}"
        console.print(f" {mark} {code.address:#18x}: {bits:8}  {code.text}", soft_wrap=True)
    console.print()
    console.print("last traps", style="bold")
    for record in death.routes[-8:]:
        console.print(f"   {record.name:22} {record.route()}  ({record.end})", soft_wrap=True)
    for walk in death.walks:
        console.print()
        console.print(f"{walk.stage}-stage walk of {walk.address:#x}: {walk.why}", style="bold", soft_wrap=True)
        for step in walk.steps:
            console.print(
                f"   level {step.level}  at {step.address:#x}: {step.entry:#018x} {step.flags}", soft_wrap=True
            )
    for level, csrs in death.csrs.items():
        console.print()
        made = table((f"{level} CSRs", "left"), ("value", "right"), ("", "wrap"))
        for csr in csrs:
            made.add_row(csr.name, f"{csr.value:#x}", csr.meaning)
        console.print(made)
    console.print()
    names = list(death.registers.items())
    for at in range(0, len(names), 4):
        console.print("  ".join(f"{n:>5} {v:016x}" for n, v in names[at : at + 4]), soft_wrap=True)
