"""What was fetched, and the command lines that use it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trapline.views.tables import show, table
from trapline.views.terminal import number, put, say

if TYPE_CHECKING:
    from rich.console import Console

    from trapline.fetch.fetch import FetchReport


def show_fetched(console: Console, report: FetchReport) -> None:
    """Print what is there now and how to use it."""
    for kind, version in report.versions.items():
        state = "fetched" if kind in report.fresh else "was there already"
        put(console, f"{kind:8} {version}   {state}")
    if report.from_files:
        say(console, "unpacked from the given files: nobody checked where they come from", 0, "yellow")
    elif report.signed_by:
        say(console, f"signed by {report.signed_by}; every SHA256 is right", 0, "green")
    else:
        say(console, "the signature was NOT checked; every SHA256 is as the mirror's index says", 0, "yellow")
    for note in report.notes:
        say(console, f"note: {note}", 0, "yellow" if "NOT" in note else "dim")
    if report.kernel is not None:
        _commands(console, report)


def _commands(console: Console, report: FetchReport) -> None:
    from trapline.fetch.store import APPEND

    kernel = report.kernel
    assert kernel is not None
    put(console)
    say(console, "Under the hosted KVM, to a shell on this terminal (Ctrl-A x ends it, Ctrl-A h helps):", 0, "bold")
    put(console, f"  trapline run {kernel.alias}")
    if kernel.bios is not None:
        say(console, "On the board, in HS-mode under real OpenSBI:", 0, "bold")
        put(console, f"  trapline boot {kernel.alias}")
    if kernel.bios is not None and kernel.kvm:
        say(console, "Its own KVM against the preset of its version:", 0, "bold")
        put(console, f"  trapline conform --kernel {kernel.alias}")
    say(console, "The same with every file named:", 0, "bold")
    tail = f"--initrd {kernel.initrd} --append '{APPEND}'"
    put(console, f"  trapline run {kernel.image} {tail}")
    if kernel.bios is not None:
        put(console, f"  trapline boot --bios {kernel.bios} --kernel {kernel.image} {tail}")


def show_listing(console: Console, rows: list[dict[str, Any]]) -> None:
    """Print the cache's contents."""
    if not rows:
        say(console, "nothing has been fetched yet: trapline fetch linux")
        return
    made = table(("run it as", "left"), ("kind", "left"), ("version", "left"), ("suite", "left"), ("MB", "right"))
    for row in rows:
        made.add_row(
            row["name"] or "", row["kind"], row["version"], ", ".join(row["suites"]), number(row["bytes"] >> 20)
        )
    show(console, made)
    put(console)
    put(console, f"in {rows[0]['directory'].rpartition('/')[0]}", "dim")
