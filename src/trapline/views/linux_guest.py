"""What `conform --guest` shows: how a guest of the real KVM ran, and where the hosted one differs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from trapline.views.tables import show, table
from trapline.views.terminal import count, facts, number, put, say

if TYPE_CHECKING:
    from rich.console import Console

    from trapline.conform.console_diff import LineDifference
    from trapline.conform.own_guest import GuestComparison

_LIMIT, _WIDEST = 40, 400


def show_guests(out: Console, guests: Sequence[GuestComparison]) -> None:
    """Print who ran where, instructions by level, exits, every line that differs, and the verdict."""
    for guest in guests:
        _show(out, guest)
    if all(g.passed for g in guests):
        say(out, "conforms", 0, "green")
    else:
        say(out, "does not conform", 0, "red")


def _show(out: Console, both: GuestComparison) -> None:
    guest, hosted = both.real, both.hosted
    what = f"guest {guest.guest_release}" if guest.guest_release else "guest"
    say(out, f"{what} in host {guest.host_release} on {guest.firmware}", 0, "bold")
    facts(out, hosted.settings.facts(), style="bold")
    made = table(("level", "left"), ("instructions", "right"))
    for mode in ("VU", "VS", "U", "HS", "M"):
        made.add_row(mode, number(guest.window.instructions.get(mode, 0)))
    made.add_row("all", number(sum(guest.window.instructions.values())))
    show(out, made)
    exits = guest.stats.get("exits", 0)
    say(out, f"exits: {number(exits)}; to the VMM {number(guest.exits['all'])}, MMIO {number(guest.exits['mmio'])}")
    say(
        out,
        f"ended by {guest.end}; {guest.seconds:.1f} s with the host's boot, {count(guest.instructions, 'instruction')}",
    )
    _show_differences(out, both)
    put(out)


def _show_differences(out: Console, both: GuestComparison) -> None:
    for name, real, hosted in both.ends:
        say(out, f"{name}: real {real or '-'}, hosted {hosted or '-'}", 2, "red")
    for entry, n in Counter(line.accepted for line in both.lines if line.accepted is not None).items():
        say(out, f"accepted, {count(n, 'line')}: {entry.reason}", 2, "dim")
    lines = both.failed
    if not lines:
        say(out, f"the consoles are equal ({count(both.compared, 'line')})")
        return
    say(out, f"{count(len(lines), 'line')} of the consoles differ{'s' if len(lines) == 1 else ''}: - real, + hosted")
    for line in lines[:_LIMIT]:
        _show_line(out, line)
    if len(lines) > _LIMIT:
        say(out, f"... and {number(len(lines) - _LIMIT)} more (--json FILE has more of them)", 2)


def _show_line(out: Console, line: LineDifference) -> None:
    if line.real is not None:
        put(out, f"  - {line.real_line}: {_shown(line.real)}", "red")
    if line.hosted is not None:
        put(out, f"  + {line.hosted_line}: {_shown(line.hosted)}", "green")


def _shown(text: str) -> str:
    """Return a guest's words without what would command a terminal, and not endless."""
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:_WIDEST])
    return safe + ("..." if len(text) > _WIDEST else "")
