"""What is kept between runs, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from rich.console import Console

    from trapline.lab.kept import Kept

WHAT = {
    "engine": "the native engine, compiled",
    "regions": "guests' hot code, compiled",
    "templates": "instructions as the region compiler takes them",
}


def amount(size: int) -> str:
    """Bytes for people."""
    return f"{size / (1 << 20):.1f} MiB" if size >= 1 << 20 else f"{size / (1 << 10):.0f} KiB"


def show_kept(out: Console, kept: Kept) -> None:
    """Show the directory, a line a kind, and the regions that are of use now."""
    out.print(str(kept.directory), highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for heading, side in (
        ("kind", "left"),
        ("files", "right"),
        ("size", "right"),
        ("of use now", "right"),
        ("what", "left"),
    ):
        table.add_column(heading, justify=side)  # type: ignore[arg-type]
    for kind in kept.kinds:
        table.add_row(kind.name, str(kind.files), amount(kind.size), str(kind.current), WHAT[kind.name])
    out.print(table)
    if kept.trouble:
        out.print(kept.trouble, highlight=False, soft_wrap=True)
    out.print(f"{kept.regions} regions of {kept.instructions} instructions are of use now", highlight=False)


def show_cleared(out: Console, gone: Kept) -> None:
    """Say what was removed."""
    size, files = sum(k.size for k in gone.kinds), sum(k.files for k in gone.kinds)
    out.print(f"removed {files} files, {amount(size)}, from {gone.directory}", highlight=False, soft_wrap=True)
