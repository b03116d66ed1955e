"""Every view with large numbers, at every width: nothing is cut."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parent))
from big import VIEWS, Shown

from trapline.views.compare import consoles
from trapline.views.terminal import PLAIN_WIDTH, WHOLE

WIDTHS = (*range(40, 100, 5), 79, 80, 81, *range(100, 201, 20), PLAIN_WIDTH)
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("view", VIEWS, ids=lambda v: v.__name__)
def test_nothing_is_cut(view: Callable[[], Shown]) -> None:
    """Each number, route and name of the data stands whole in one line, and no line is wider than the terminal."""
    show, whole = view()
    for width in WIDTHS:
        file = io.StringIO()
        show(Console(file=file, width=width))
        text = file.getvalue()
        assert max(map(len, text.splitlines())) <= width, text
        assert WHOLE not in text
        for value in dict.fromkeys(whole):
            pattern = re.escape(value.replace(WHOLE, " "))
            assert re.search(rf"(?<![\d]){pattern}(?!\d)", text), (width, value, text)


def test_every_view_prints_through_one_place() -> None:
    """No view has a table of its own, or prints past the functions that keep numbers whole."""
    for path in (ROOT / "src" / "trapline" / "views").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "rich.table" not in text, path.name
        assert path.name == "terminal.py" or ".print(" not in text, path.name


def test_one_way_to_write_thousands() -> None:
    """One function writes numbers for people; no other format has commas in it."""
    for room in ("views", "lab", "cli"):
        for path in (ROOT / "src" / "trapline" / room).rglob("*.py"):
            if path.name != "output.py":
                assert not re.search(r"\{[^{}]*:[^{}]*,[.\d]*[a-z]?\}", path.read_text(encoding="utf-8")), path.name


@pytest.mark.parametrize(
    ("here", "there", "says"),
    [
        (b"same\n", b"same\n", None),
        (b"a\nb 1\n", b"a\nb 2\n", ', first in line 2: "b 1" under one, "b 2" under two'),
        (b"a\n", b"a\nb\n", ', first in line 2: has ended under one, "b" under two'),
        (b"\x1b[1m\xff\n", b"", ', first in line 1: "\\x1b[1m\\xff" under one, has ended under two'),
        (
            b"x" * 50 + b"1" + b"y" * 50,
            b"x" * 50 + b"2",
            f', first in line 1: "...{"x" * 12}1{"y" * 27}..." under one, "...{"x" * 12}2" under two',
        ),
    ],
)
def test_consoles_that_differ_say_where(here: bytes, there: bytes, says: str | None) -> None:
    """The first line that differs is shown under both policies, near the difference; one that has ended says so."""
    assert consoles([("one", here), ("two", there)]) == says
