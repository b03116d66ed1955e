"""What is kept between runs, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trapline.views.tables import show, table
from trapline.views.terminal import WHOLE, count, number, put, say

if TYPE_CHECKING:
    from rich.console import Console

    from trapline.lab.kept import Kept

WHAT = {
    "engine": "the native engine, compiled",
    "regions": "guests' hot code, compiled",
    "templates": "instructions as the region compiler takes them",
    "start": "what each start would compute again",
}


def amount(size: int) -> str:
    """Bytes for people."""
    if size >= 1 << 20:
        return f"{number(size >> 20)}{WHOLE}MiB" if size >= 100 << 20 else f"{size / (1 << 20):.1f}{WHOLE}MiB"
    return f"{size / (1 << 10):.0f}{WHOLE}KiB"


def show_kept(out: Console, kept: Kept) -> None:
    """Show the directory, a line a kind, and the regions that are of use now."""
    put(out, str(kept.directory))
    made = table(("kind", "left"), ("files", "right"), ("size", "right"), ("of use now", "right"), ("what", "wrap"))
    for kind in kept.kinds:
        made.add_row(kind.name, number(kind.files), amount(kind.size), number(kind.current), WHAT[kind.name])
    show(out, made)
    if kept.trouble:
        put(out, kept.trouble)
    of = count(kept.instructions, "instruction")
    say(out, f"{count(kept.regions, 'region')} of {of} {'is' if kept.regions == 1 else 'are'} of use now")


def show_cleared(out: Console, gone: Kept) -> None:
    """Say what was removed."""
    size, files = sum(k.size for k in gone.kinds), sum(k.files for k in gone.kinds)
    say(out, f"removed {count(files, 'file')}, {amount(size)}, from {gone.directory}")
