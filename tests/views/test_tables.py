"""The one table: whole values at every width."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from trapline.people import times
from trapline.views import terminal
from trapline.views.tables import show, table
from trapline.views.terminal import count, number, percent, route, say

WORDS = st.lists(st.sampled_from("the guest kernel maps an MMIO page to user space 4 018 -14".split()), max_size=8)
NUMBERS = st.integers(0, 10**15)


def printed(made: object, width: int, encoding: str = "utf-8") -> str:
    """What a table looks like on a console of that width."""
    file = io.TextIOWrapper(io.BytesIO(), encoding)
    show(Console(file=file, width=width), made)  # type: ignore[arg-type]
    file.seek(0)
    return file.read()


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(NUMBERS, WORDS, NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=4), st.integers(40, 200))
def test_values_stand_whole(rows: list[tuple[int, list[str], int, int, int]], width: int) -> None:
    """No line is wider than the console, and each number is in one line, at every width."""
    made = table(("trap", "left"), ("a", "right"), ("words", "wrap"), ("b", "right"), ("c", "right"), ("d", "right"))
    for a, words, b, c, d in rows:
        made.add_row("store-guest-page-fault", number(a), " ".join(words), number(b), number(c), number(d))
    text = printed(made, width)
    assert max(map(len, text.splitlines())) <= width
    for a, words, *others in rows:
        for value in (a, *others):
            assert re.search(rf"(?<!\d){number(value)}(?!\d)", text)
        assert all(word in text for word in words)


def test_a_table_that_fits_is_a_table() -> None:
    """Where everything fits, columns stand beside each other, numbers end in one line."""
    made = table(("trap", "left"), ("count", "right"))
    made.add_row("syscall", number(59614))
    made.add_row("s-ext", number(7))
    assert printed(made, 40) == "trap       count\n────────────────\nsyscall   59 614\ns-ext          7\n"


def test_what_does_not_fit_is_folded_by_name() -> None:
    """The last columns, or those that are named, follow under their row with their headers; none is dropped."""
    made = table(("trap", "left"), ("way", "left"), ("count", "right"), ("mean", "right"), fold=("way",))
    made.add_row("store-guest-page-fault", "VS>HS>U>HS", number(1_234_567), number(4018))
    assert printed(made, 41).splitlines()[2:] == ["store-guest-page-fault  1 234 567  4 018", "    way VS>HS>U>HS"]
    assert printed(made, 30).splitlines()[2:] == [
        "store-guest-page-fault",
        "    way VS>HS>U>HS",
        "    count 1 234 567",
        "    mean 4 018",
    ]


def test_words_break_between_words_only() -> None:
    """A column of words gives way before anything is folded; a word that is too long for a line keeps its letters."""
    made = table(("cause", "left"), ("answer", "wrap"))
    made.add_row("1 inst-access", "if a slot has a hole, and the guest kernel maps it to user space")
    lines = printed(made, 50).splitlines()
    assert lines[2] == "1 inst-access   if a slot has a hole, and the"
    assert lines[3] == "                guest kernel maps it to user space"
    made.add_row("2", "/a/path/" + "x" * 60)
    assert "/a/path/" + "x" * 60 in printed(made, 50)


def test_headings_stand_alone() -> None:
    """A heading is as wide as it needs to be and widens no column."""
    made = table(("policy", "left"), ("count", "right"))
    made.add_heading("23 store-guest-page-fault from VS")
    made.add_row("none", "3")
    assert printed(made, 60).splitlines()[1:] == [
        "──────────────",
        "23 store-guest-page-fault from VS",
        "none         3",
    ]


def test_a_plain_encoding_gets_plain_rules() -> None:
    """Where the output has no line-drawing characters, rules are dashes, and a space parts thousands everywhere."""
    made = table(("count", "right"))
    made.add_row(number(1170))
    assert printed(made, 40, "ascii") == "count\n-----\n1 170\n"


@pytest.mark.parametrize("width", range(8, 40))
def test_prose_keeps_numbers(width: int) -> None:
    """A paragraph never breaks a number, a count with its noun may break between them, and lines fit."""
    file = io.StringIO()
    say(Console(file=file, width=width), f"exits {number(28_473)}, {count(1_234, 'trap')} and {times(1_000_000)}")
    text = file.getvalue()
    assert all(n in text for n in ("28 473", "1 234", "1 000 000"))


def test_without_a_terminal_tables_are_as_wide_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe gets every column; prose stays within a hundred; COLUMNS is obeyed."""
    monkeypatch.delenv("COLUMNS", raising=False)
    assert terminal.out().width == terminal.PLAIN_WIDTH
    monkeypatch.setenv("COLUMNS", "72")
    assert terminal.out().width == 72
    file = io.StringIO()
    say(Console(file=file, width=terminal.PLAIN_WIDTH), "word " * 60)
    assert max(map(len, file.getvalue().splitlines())) <= 100


def test_words_for_numbers() -> None:
    """One has its own word, zero and many the plural; a share of nothing is nothing."""
    assert [count(n, "trap") for n in (0, 1, 2, 1000)] == ["0 traps", "1 trap", "2 traps", "1 000 traps"]
    assert count(2, "entry", "entries") == "2 entries"
    assert [times(n) for n in (1, 2, 14_847)] == ["once", "2 times", "14 847 times"]
    assert (percent(1, 3), percent(0, 0)) == ("33.3", "")
    assert route("VS", "HS").replace(terminal.WHOLE, " ") == "VS > HS"
