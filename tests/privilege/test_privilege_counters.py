"""Counters: values, inhibition, guest time, overflow bits."""

from __future__ import annotations

from privilege_board import Board


def test_counters_count_retired_instructions() -> None:
    """cycle and instret are the instructions that retired: attempts that trapped are not among them."""
    board = Board()
    board.hart.instret, board.hart.not_retired = 100, 7
    assert [board.read(c) for c in ("cycle", "instret", "mcycle", "minstret")] == [93] * 4


def test_written_counter_is_what_the_next_instruction_reads() -> None:
    """A write of minstret takes the place of the writing instruction's own increment."""
    board = Board()
    board.hart.instret = 50
    board.write("minstret", 1000)
    board.hart.instret = 51
    assert board.read("minstret") == 1000
    assert board.read("mcycle") == 51


def test_inhibited_counter_stands_still() -> None:
    """mcountinhibit stops mcycle and minstret one by one, and they go on from where they stood."""
    board = Board()
    h = board.hart
    h.instret = 10
    board.write("mcountinhibit", 4)
    h.instret = 30
    assert (board.read("minstret"), board.read("mcycle")) == (10, 30)
    board.write("minstret", 77)
    board.write("mcountinhibit", 0)
    h.instret = 35
    assert board.read("minstret") == 82


def test_time_has_the_guest_offset_at_v1() -> None:
    """time is instret / ratio + offset, and plus htimedelta at V=1; cycle is the same in both."""
    board = Board()
    h = board.hart
    h.time_ratio, h.time_offset, h.instret = 100, 1000, 250
    board.write("htimedelta", -2)
    board.mode("HS")
    assert (board.read("time"), board.read("cycle")) == (1002, 250)
    board.mode("VS")
    assert (board.read("time"), board.read("cycle")) == (1000, 250)


def test_scountovf_shows_what_the_counter_enables_allow() -> None:
    """scountovf has the OF bits of mhpmevent, masked by mcounteren below M and hcounteren at V=1."""
    board = Board()
    for i in (3, 4, 5):
        board.write(f"mhpmevent{i}", 1 << 63)
    board.write("mcounteren", 0x18)
    board.write("hcounteren", 0x30)
    seen = []
    for mode in ("M", "HS", "VS"):
        board.mode(mode)
        seen.append(board.read("scountovf"))
    assert seen == [0x38, 0x18, 0x10]
