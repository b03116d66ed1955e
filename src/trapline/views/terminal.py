"""Consoles: colour and the terminal's width for people, plain text of a fixed width for pipes."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from trapline.people import grouped

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

PLAIN_WIDTH = 10_000  # where no terminal is: every table as wide as it is
PROSE_WIDTH = 100
NARROWEST = 40
WHOLE = "\N{NO-BREAK SPACE}"  # becomes a space when it is printed
FORCED = ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")  # rich takes a pipe for a terminal then
_CONTROLS = dict.fromkeys((7, 8, 11, 12, 13))  # what rich leaves out of a text
_THOUSANDS = re.compile(r"(?<=\d) (?=\d{3}(?!\d))")


def out() -> Any:
    """Return the console of standard output."""
    return _console(sys.stdout)


class Pipe:
    """A console that is no terminal: plain lines are written at once, and rich is imported for all else."""

    def __init__(self, stream: Any, width: int) -> None:
        self._stream = stream
        self.width = width
        self.encoding = (getattr(stream, "encoding", None) or "utf-8").lower()

    def line(self, text: str) -> None:
        """Write a line as rich would."""
        self._stream.write(text.translate(_CONTROLS).expandtabs() + "\n")

    @cached_property
    def _rich(self) -> Console:
        return _rich(self._stream, self.width)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rich, name)


def _console(stream: Any) -> Any:
    terminal = hasattr(stream, "isatty") and stream.isatty()
    columns = os.environ.get("COLUMNS", "")
    width = int(columns) if columns.isdigit() and int(columns) >= NARROWEST else None if terminal else PLAIN_WIDTH
    if terminal or width is None or any(name in os.environ for name in FORCED):
        return _rich(stream, width)
    return Pipe(stream, width)


def _rich(stream: Any, width: int | None) -> Console:
    from trapline.views.rich_stream import RichStream

    return RichStream(file=stream, width=width, highlight=False, soft_wrap=False, emoji=False, markup=False)


def put(console: Console | Pipe, text: str | Text = "", style: str = "") -> None:
    """Print one line as it is, however long: a path or a command line is copied."""
    if isinstance(console, Pipe):
        plain = (text if isinstance(text, str) else text.plain).replace(WHOLE, " ")
        if "\t" not in plain or plain.isascii():  # rich knows how wide letters before a tab are
            console.line(plain)
            return
    from rich.text import Text

    shown = text.copy() if isinstance(text, Text) else Text(text, style=style)
    shown.plain = shown.plain.replace(WHOLE, " ")
    console.print(shown, soft_wrap=True)


def say(console: Console, text: str, indent: int = 0, style: str = "") -> None:
    """Print a paragraph; lines that do not fit continue two columns further in, and no number is broken."""
    for part in wrapped(text, min(console.width, PROSE_WIDTH), indent):
        put(console, part, style)


def wrapped(text: str, width: int, indent: int = 0, further: int = 2) -> list[str]:
    """Break a text between words, and never within a number; lines behind the first are `further` columns in."""
    import textwrap  # a start prints no paragraph

    return textwrap.wrap(
        keep_whole(text),
        max(1, width),
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + further),
        break_long_words=False,
        break_on_hyphens=False,
    ) or [""]


def number(value: float | None) -> str:
    """Return a count with a space between thousands, rounded to one."""
    return "" if value is None else grouped(value)


def count(value: int, one: str, many: str = "") -> str:
    """Return a number with its noun: 1 trap, 2 traps."""
    return f"{number(value)} {one if value == 1 else many or one + 's'}"


def percent(part: float, whole: float) -> str:
    """Return a share in percent, with one decimal."""
    return f"{100 * part / whole:.1f}" if whole else ""


def keep_whole(text: str) -> str:
    """Join what must stand in one line: the digits of a number."""
    return _THOUSANDS.sub(WHOLE, text)


def facts(console: Console, items: Iterable[str], between: str = "   ", style: str = "", head: str = "") -> None:
    """Print short facts in a paragraph; each stands in one line where it fits there."""
    room = min(console.width, PROSE_WIDTH) - 2 - len(between)
    whole = [item.replace(" ", WHOLE) if len(item) <= room else item for item in items]
    say(console, head + between.join(whole), 0, style)


def route(*modes: str) -> str:
    """Return a way through modes that no line breaks."""
    return f"{WHOLE}>{WHOLE}".join(modes)


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
