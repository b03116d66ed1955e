"""The guided first run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from trapline.views.routes import cost, show_routes
from trapline.views.terminal import say, style_of, table

if TYPE_CHECKING:
    from trapline.lab.demo import Demo

QUESTION = "A guest's user program jumps to an address behind which there is no memory. Who gets the trap?"


def show_demo(console: Console, result: Demo, *, full: bool = True) -> None:
    """Print the tour."""
    say(console, QUESTION, 0, "bold")
    console.print()
    made = table(("policy", "left"), ("route", "left"), ("outcome", "left"), ("the guest sees", "wrap"))
    for scene in result.scenes:
        sees = scene.route.guest_sees
        words = f"cause {sees.cause}, tval {sees.tval:#x}, from {sees.privilege}" if sees else "nothing: the VM is gone"
        outcome = scene.route.outcome()
        made.add_row(scene.policy, scene.route.arrow(), Text(outcome, style=style_of(outcome)), words)
    console.print(made)
    death = result.scenes[0].seen.death
    if death is not None:
        console.print()
        for line in death.log:
            console.print(f"  kvm: {line}", style="red", soft_wrap=True)
    console.print()
    console.print("What each way of giving it to the guest costs, in instructions of all levels", style="bold")
    made = table(("way", "left"), ("under", "left"), ("route", "left"), ("instr.", "right"))
    for way, under, route in result.costs:
        made.add_row(way, under, route.arrow(), cost(route))
    console.print(made)
    if full:
        console.print()
        show_routes(console, result.table, notes=False)
    console.print()
    say(console, "Next: trapline audit linux-7.2, trapline route --policy patel, trapline run GUEST")
