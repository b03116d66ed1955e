"""The builder of LLVM text (engine.llvm)."""

from __future__ import annotations

from trapline.engine.llvm import LIKELY, STATE, Builder, words


def test_an_instruction_is_a_line_and_a_name() -> None:
    """Each call writes one line, and gives the name that the next one takes."""
    b = Builder("%v")
    b.store(b.add(b.load(b.at(STATE, 16)), -1), STATE)
    assert b.lines == [
        "  %v1 = getelementptr inbounds i8, ptr %st, i64 16",
        "  %v2 = load i64, ptr %v1, align 8",
        "  %v3 = add i64 %v2, -1",
        "  store i64 %v3, ptr %st, align 8",
    ]


def test_nothing_is_written_behind_a_branch() -> None:
    """What follows a branch is left out until a block begins; names go on all the same."""
    b = Builder("%v")
    b.branch(b.compare("eq", 1, 1), "on", "out", LIKELY)
    b.load(STATE)
    b.begin("on")
    assert b.load(STATE) == "%v3"
    assert b.lines[1:] == ["  br i1 %v1, label %on, label %out, !prof !0", "on:", "  %v3 = load i64, ptr %st, align 8"]


def test_a_void_call_has_no_name() -> None:
    """A call that gives nothing is a line without a name."""
    b = Builder("%v")
    assert (b.call("@f", "void", words(1)), b.call("@g", "i64", words(2))) == ("", "%v1")
    assert b.lines == ["  call fastcc void @f(i64 1)", "  %v1 = call fastcc i64 @g(i64 2)"]


def test_a_value_may_have_a_name_of_its_own() -> None:
    """A called value has its name, whatever is computed for it before."""
    b = Builder("%v")
    assert b.called("%pc", b.add, b.read("%page"), 4) == "%pc"
    assert b.lines == ["  %v1 = load i64, ptr %page", "  %pc = add i64 %v1, 4"]


def test_text_that_is_there_is_gone_on_with() -> None:
    """Behind lines that were taken, the builder writes on, even where it had ended a block."""
    b = Builder("%v")
    b.goto("on")
    b.take("on:")
    b.go_on("%h", STATE, 0, STATE)
    assert b.taken().split("\n")[1:] == [
        "on:",
        "  musttail call preserve_nonecc void %h(ptr %st, ptr %st, i64 0, ptr %st)",
        "  ret void",
    ]
    assert b.lines == []
