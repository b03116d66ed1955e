"""A killed guest: the rule, KVM's log lines, who survives, the last traps, code, walks, every level's CSRs, registers.

And a guest that was cut short: where its vCPUs are, and what they wait for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from trapline.people import address
from trapline.views.tables import show, table
from trapline.views.terminal import number, put, say, style_of, wrapped

if TYPE_CHECKING:
    from rich.console import Console

    from trapline.kvm.report.death import Death
    from trapline.kvm.report.trace import TrapRecord
    from trapline.lab.survival import Survival
    from trapline.lab.symbols import Symbols
    from trapline.lab.whereabouts import Place

TRAPS = 8  # lines of the last traps


def show_death(console: Console, death: Death, symbols: Symbols, survival: Survival | None = None) -> None:
    """Print everything that is known of a kill."""
    from trapline.kvm.report.death import code_line

    say(console, f"the rule that killed: {death.rule.source or 'no source given'}", 0, "bold red")
    for line in death.log:
        _whole(console, f"kvm: {line}", 2)
    put(console)
    _whole(console, f"pc {address(death.pc, symbols.name(death.origin, death.pc))}")
    ra = death.registers["ra"]
    _whole(console, f"ra {address(ra, symbols.caller(death.origin, ra))}")
    put(console)
    put(console, "code", "bold")
    for code in death.code:
        _whole(console, f"{'>' if code.current else ' '} {code_line(code)}", 1)
    if survival is not None:
        show_survival(console, survival)
    put(console)
    put(console, "last traps", "bold")
    show_traps(console, death.routes, symbols)
    for walk in death.walks:
        put(console)
        _whole(console, f"{walk.stage}-stage walk of {walk.address:#x}: {walk.why}", 0, "bold")
        for step in walk.steps:
            _whole(console, f"level {step.level}  at {step.address:#x}: {step.entry:#018x} {step.flags}", 3)
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


def _whole(console: Console, text: str, indent: int = 0, style: str = "") -> None:
    """Print a line as it is if it fits; else broken between words."""
    for part in wrapped(text, console.width, indent) if len(text) + indent > console.width else [" " * indent + text]:
        put(console, part, style)


def show_survival(console: Console, survival: Survival) -> None:
    """Print under which presets the same instruction of the same guest ends otherwise."""
    from trapline.lab.survival import describe

    put(console)
    put(console, "the same instruction under the presets", "bold")
    for line in describe(survival):
        say(console, line, 2)


def collapsed(routes: Sequence[TrapRecord]) -> list[tuple[int, TrapRecord]]:
    """Return how often each of the traps came in a row; traps that differ in nothing but when are equal."""
    found: list[tuple[int, TrapRecord]] = []
    for record in routes:
        if found and _same(found[-1][1], record):
            found[-1] = (found[-1][0] + 1, record)
        else:
            found.append((1, record))
    return found


def _same(one: TrapRecord, other: TrapRecord) -> bool:
    return (one.vcpu, one.cause, one.path, one.how, one.end, one.epc, one.tval) == (
        other.vcpu, other.cause, other.path, other.how, other.end, other.epc, other.tval
    )  # fmt: skip


def show_traps(console: Console, routes: Sequence[TrapRecord], symbols: Symbols) -> None:
    """Print the last traps that left the guest, the newest last; equal ones once, with how often they came."""
    made = table(("cause", "left"), ("route", "left"), ("", "left"), ("pc", "left"), ("tval", "left"), ("", "right"))
    for count, record in collapsed(routes)[-TRAPS:]:
        made.add_row(
            record.name,
            " > ".join(record.path),
            Text(f"killed -{record.errno}" if record.errno else record.end, style=style_of(record.end)),
            address(record.epc, symbols.name(record.origin, record.epc)),
            f"{record.tval:#x}",
            f"x {number(count)}" if count > 1 else "",
        )
    show(console, made)


def show_places(console: Console, places: Sequence[Place], loops: Mapping[int, str] | None = None) -> None:
    """Print where each vCPU is and what it waits for; of one that loops for ever (`loops`, by number) only that."""
    put(console)
    put(console, "where the guest is", "bold")
    for place in places:
        _whole(console, f"vCPU {place.vcpu} in {place.mode} at {address(place.pc, place.symbol)}")
        if loops and place.vcpu in loops:
            say(console, loops[place.vcpu], 2, "yellow")
            continue
        say(console, place.what, 2)
        for line in place.code:
            _whole(console, line, 4, "dim")
