"""Where standard output is no terminal, plain lines are written without rich, as rich would write them."""

from __future__ import annotations

import io

import pytest

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
