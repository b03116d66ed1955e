"""Where standard output is no terminal, plain lines are written without rich, as rich would write them."""

from __future__ import annotations

import io

import pytest

from trapline.views.tables import show, table
from trapline.views.terminal import PLAIN_WIDTH, Pipe, _rich, put, say

LINES = (
    "",
    "abc",
    "a\tb",
    "x\N{NO-BREAK SPACE}y",
    "behind   ",
    "w " * 200,
    "\x07bell\r",
    "two\nlines",
    "é\tx",
    "日本\tx",
    "日本",
)


@pytest.mark.parametrize("text", LINES)
@pytest.mark.parametrize("width", [40, PLAIN_WIDTH])
def test_a_pipe_gets_what_rich_writes(text: str, width: int) -> None:
    """A line and a paragraph are the same through both consoles, with tabs, control codes and wide letters."""
    plain, rich = io.StringIO(), io.StringIO()
    for console in (Pipe(plain, width), _rich(rich, width)):
        put(console, text, "bold red")
        say(console, text, 2)
    assert plain.getvalue() == rich.getvalue()


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_a_table_is_the_same_without_rich(encoding: str) -> None:
    """A table through a pipe has the rule that the encoding allows, and the lines that rich prints."""
    written = []
    for make in (Pipe, _rich):
        bytes_ = io.BytesIO()
        stream = io.TextIOWrapper(bytes_, encoding)
        made = table(("name", "left"), ("count", "right"))
        made.add_row("a", "1 000")
        show(make(stream, 60), made)
        stream.flush()
        written.append(bytes_.getvalue())
    assert written[0] == written[1]
