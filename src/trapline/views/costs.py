"""What `conform --costs` shows: instructions of a round trip by part, beside what QEMU counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trapline.conform.costs import PARTS
from trapline.views.tables import show, table
from trapline.views.terminal import number, put, say

if TYPE_CHECKING:
    from rich.console import Console

    from trapline.conform.costs import CostTable


def show_costs(out: Console, tables: Sequence[CostTable]) -> None:
    """Print a table for each host."""
    for costs in tables:
        say(out, f"kernel {costs.release}   firmware {costs.firmware}", 0, "bold")
        numbers = ("M", "kvm", "kernel", "user", "guest", "mean", "QEMU", "", "irqs")
        made = table(("trap", "left"), *[(name, "right") for name in numbers])
        for row in costs.rows:
            qemu = costs.qemu(row.loop.name)
            parts = [number(round(row.parts.get(p, 0)) or None) for p in PARTS]
            change = "" if qemu is None else f"{100 * (row.total - qemu) / qemu:+.1f} %"
            made.add_row(
                row.loop.text, *parts, number(round(row.total)), number(qemu), change, number(row.interrupts or None)
            )
        show(out, made)
        say(
            out,
            "M to guest: stepped, without interrupts; mean: everyone, with the host's interrupts (irqs in all rounds)",
        )
        put(out)
