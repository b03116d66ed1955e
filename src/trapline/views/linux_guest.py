"""What `conform --guest` shows: how a Linux guest of the real KVM booted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from trapline.views.tables import show, table
from trapline.views.terminal import count, number, say

if TYPE_CHECKING:
    from trapline.lab.conform.linux import LinuxGuest


def show_guests(out: Console, guests: Sequence[LinuxGuest]) -> None:
    """Print who ran where, instructions by level, exits."""
    for guest in guests:
        _show(out, guest)


def _show(out: Console, guest: LinuxGuest) -> None:
    say(out, f"guest {guest.guest_release or '(not up)'} in host {guest.host_release} on {guest.firmware}", 0, "bold")
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
