"""Consoles: colour and the terminal's width for people, plain text of a fixed width for pipes."""

from __future__ import annotations

import os
import sys
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

PLAIN_WIDTH = 100


def out() -> Console:
    """Return the console of standard output."""
    return _console(sys.stdout)


def err() -> Console:
    """Return the console of standard error: progress and remarks."""
    return _console(sys.stderr)


def _console(stream: Any) -> Console:
    terminal = hasattr(stream, "isatty") and stream.isatty()
    columns = os.environ.get("COLUMNS", "")
    width = int(columns) if columns.isdigit() and int(columns) >= 40 else None if terminal else PLAIN_WIDTH
    return Console(file=stream, width=width, highlight=False, soft_wrap=False, emoji=False, markup=False)


def table(*columns: tuple[str, str] | tuple[str, str, int], title: str = "") -> Table:
    """Return an empty table; a column is (header, "left" | "right" | "wrap", least width).

    Only "wrap" columns give way when the terminal is narrow; they break between words.
    """
    made = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False, show_edge=False)
    for header, kind, *least in columns:
        made.add_column(
            header,
            justify="right" if kind == "right" else "left",
            no_wrap=kind != "wrap",
            overflow="fold",
            min_width=least[0] if least else None,
        )
    return made


def say(console: Console, text: str, indent: int = 0, style: str = "") -> None:
    """Print a paragraph; lines that do not fit continue two columns further in."""
    import textwrap

    first, rest = " " * indent, " " * (indent + 2)
    wrapped = textwrap.fill(
        text,
        console.width,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
    console.print(Text(wrapped, style=style), soft_wrap=True)


def number(value: float | None) -> str:
    """Return a count with a space between thousands."""
    return "" if value is None else f"{value:,}".replace(",", " ")


STYLES = {
    "killed": "bold red",
    "hung": "bold red",
    "guest": "green",
    "emulated": "cyan",
    "resumed": "cyan",
    "vmm": "blue",
    "no-trap": "dim",
}


def style_of(end: str) -> str:
    """Return the style of an outcome."""
    return STYLES.get(end.split(" ")[0], "")
