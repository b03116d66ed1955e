"""The guided first run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from trapline.views.routes import cost, show_routes
from trapline.views.tables import show, table
from trapline.views.terminal import put, route, say, style_of

if TYPE_CHECKING:
    from rich.console import Console

    from trapline.lab.demo import Demo

QUESTION = "A guest's user program jumps to an address behind which there is no memory. Who gets the trap?"


def show_demo(console: Console, result: Demo, *, full: bool = True) -> None:
    """Print the tour."""
    say(console, QUESTION, 0, "bold")
    put(console)
    made = table(("policy", "left"), ("route", "left"), ("outcome", "left"), ("the guest sees", "wrap"))
    for scene in result.scenes:
        sees = scene.route.guest_sees
        words = f"cause {sees.cause}, tval {sees.tval:#x}, from {sees.privilege}" if sees else "nothing: the VM is gone"
        outcome = scene.route.outcome()
        made.add_row(scene.policy, route(*scene.route.path), Text(outcome, style=style_of(outcome)), words)
    show(console, made)
    death = result.scenes[0].seen.death
    if death is not None:
        put(console)
        for text in death.log:
            put(console, f"  kvm: {text}", "red")
    put(console)
    say(console, "What each way of giving it to the guest costs, in instructions of all levels", 0, "bold")
    made = table(("way", "left"), ("under", "left"), ("route", "left"), ("instr.", "right"))
    for way, under, taken in result.costs:
        made.add_row(way, under, route(*taken.path), cost(taken))
    show(console, made)
    if full:
        put(console)
        show_routes(console, result.table, notes=False)
    put(console)
    say(console, "Next: trapline audit linux-7.2, trapline route --policy patel, trapline run GUEST")
