"""What was fetched, and the command lines that use it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console

from trapline.views.terminal import number, say, table

if TYPE_CHECKING:
    from trapline.lab.fetch.fetch import FetchReport


def show_fetched(console: Console, report: FetchReport) -> None:
    """Print what is there now and how to use it."""
    for kind, version in report.versions.items():
        state = "fetched" if kind in report.fresh else "was there already"
        console.print(f"{kind:8} {version}   {state}", soft_wrap=True)
    if report.from_files:
        console.print("unpacked from the given files: nobody checked where they come from", style="yellow")
    elif report.signed_by:
        say(console, f"signed by {report.signed_by}; every SHA256 is right", 0, "green")
    else:
        console.print("the signature was NOT checked; every SHA256 is as the mirror's index says", style="yellow")
    for note in report.notes:
        say(console, f"note: {note}", 0, "yellow" if "NOT" in note else "dim")
    if report.kernel is not None:
        _commands(console, report)


def _commands(console: Console, report: FetchReport) -> None:
    from trapline.lab.fetch.fetch import APPEND

    kernel = report.kernel
    assert kernel is not None
    console.print()
    console.print("Under the hosted KVM, to a shell on this terminal (Ctrl-A x ends it, Ctrl-A h helps):", style="bold")
    console.print(f"  trapline run {kernel.alias}", soft_wrap=True)
    if kernel.bios is not None:
        console.print("On the board, in HS-mode under real OpenSBI:", style="bold")
        console.print(f"  trapline boot {kernel.alias}", soft_wrap=True)
    if kernel.bios is not None and kernel.kvm:
        console.print("Its own KVM against the preset of its version:", style="bold")
        console.print(f"  trapline conform --kernel {kernel.alias}", soft_wrap=True)
    console.print("The same with every file named:", style="bold")
    tail = f"--initrd {kernel.initrd} --append '{APPEND}'"
    console.print(f"  trapline run {kernel.image} {tail}", soft_wrap=True)
    if kernel.bios is not None:
        console.print(f"  trapline boot --bios {kernel.bios} --kernel {kernel.image} {tail}", soft_wrap=True)


def show_listing(console: Console, rows: list[dict[str, Any]]) -> None:
    """Print the cache's contents."""
    if not rows:
        console.print("nothing has been fetched yet: trapline fetch linux")
        return
    made = table(("run it as", "left"), ("kind", "left"), ("version", "left"), ("suite", "left"), ("MB", "right"))
    for row in rows:
        made.add_row(
            row["name"] or "", row["kind"], row["version"], ", ".join(row["suites"]), number(row["bytes"] >> 20)
        )
    console.print(made)
    console.print()
    console.print(f"in {rows[0]['directory'].rpartition('/')[0]}", style="dim", soft_wrap=True)
