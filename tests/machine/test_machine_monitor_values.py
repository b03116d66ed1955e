"""Values, registers, translations and names at the monitor's prompt."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from monitored import paged_board, paged_guest

from trapline.machine.machine import Machine
from trapline.machine.virtio.options import VirtioOptions
from trapline.vmm.guest import Guest


def _ask(made: Guest | Machine, line: str) -> list[str]:
    assert made.console.monitor is not None
    return made.console.monitor.run(line)


VALUES = [
    ("p 2 + 3 * 4", "0xe  (14)"),
    ("p/x ~0", "0xffffffffffffffff"),
    ("p /d ~0 - 1", "-2"),
    ("print $s3 + 0x10", "0x1244  (4676)"),
    ("p s3 & 0xff", "0x34  (52)"),
    ("p/t x19 >> 9", "0b1001"),
    ("p/c 65", "'A'"),
    ("p (1 << 63) >> 62", "0x2  (2)"),
    ("p 1 << 100", "0x0  (0)"),
    ("p 7 / 2 % 2", "0x1  (1)"),
    ("p 010", "0xa  (10)"),
    ("p/d ft0 + fa0", "0"),
    ("p fp", "0x0  (0)"),
    ("info registers s3", "        s3 0000000000001234"),
]


@pytest.mark.parametrize("make", [paged_guest, paged_board], ids=["guest", "board"])
def test_values(make: Callable[[], Guest | Machine]) -> None:
    """p computes with numbers and registers, unsigned in 64 bits, in the forms that gdb's and QEMU's p have."""
    made = make()
    assert [(line, *_ask(made, line)) for line, _ in VALUES] == VALUES


def test_any_register_by_name() -> None:
    """A board's CSRs have their names; a guest's supervisor registers are its own, and the host's are there too."""
    board, guest = paged_board(), paged_guest()
    assert _ask(board, "p/x $satp >> 60") == ["0x8"]
    assert _ask(board, "p/x misa >> 62") == ["0x2"]
    assert _ask(board, "p $MHARTID") == ["0x0  (0)"]
    assert _ask(guest, "p/x satp >> 60") == _ask(guest, "p/x vsatp >> 60") == ["0x8"]
    assert [line.split()[0] for line in _ask(guest, "info registers hedeleg pc")] == ["hedeleg", "pc"]


def test_bad_values() -> None:
    """What is no value, no register or no command is answered in one line, with the nearest name."""
    guest = paged_guest()
    for line, says in (
        ("p", "an expression is missing"),
        ("p 1 +", "'1 +' is no expression"),
        ("p " + "(" * 5000, "is no expression"),
        ("p " + "~" * 190 + "1", ""),
        ("p \uff12", "is no expression"),
        ("p 1 / 0", "division by zero"),
        ("p 1 % (s3 - s3)", "division by zero"),
        ("p 9 ** 9 ** 9", "'9 ** 9 ** 9' is none of numbers"),
        ("p __import__('os')", "is none of numbers"),
        ("p 1.5", "is none of numbers"),
        ("p 'a'", "is none of numbers"),
        ("p True", "is none of numbers"),
        ("p/z 1", "print /FMT EXPR"),
        ("p $stvek", "no register 'stvek': did you mean stvec"),
        ("info registers stvek", "no register 'stvek': did you mean stvec"),
        ("info regsters", "info 'regsters': did you mean registers?"),
        ("snapshto", "unknown command 'snapshto': did you mean snapshot?"),
        ("gva2gpa", "an expression is missing"),
        ("gva2gpa 0x10", "0x10 is not mapped (sv39)"),
        ("help sotp", "unknown command 'sotp': did you mean stop?"),
    ):
        answers = _ask(guest, line)
        assert len(answers) == 1, line
        assert says in answers[0]
        assert len(answers[0]) < 120


def test_help_of_one_command() -> None:
    """help CMD shows that command, by its short name too."""
    assert _ask(paged_guest(), "help cont") == _ask(paged_guest(), "help c") == ["cont|c             let it run on"]


def test_addresses_are_expressions() -> None:
    """x takes an expression, as p does."""
    guest = paged_guest()
    assert _ask(guest, "x/2xw $pc - 4 + 4") == _ask(guest, "x/2xw $pc")


def test_translation_of_apaged_guest() -> None:
    """gva2gpa shows the guest's stage, KVM's, and the slot; an address that KVM has not mapped yet is said to be so."""
    guest = paged_guest()
    first, second, third = _ask(guest, "gva2gpa 0x80200004")
    assert re.fullmatch(r"vsatp sv39     0x0000000080200004 -> 0x0000000080200004   1G VRWX--\w.", first)
    assert re.fullmatch(r"hgatp sv\d\dx4   0x0000000080200004 -> 0x[0-9a-f]{16}   [24][KM] VRWXU-AD", second)
    assert third == "0x0000000080200004 is in slot 0 (ram)"
    assert _ask(guest, "gva2gpa 0x90000000")[1:] == [
        "hgatp 0x0000000090000000 is not mapped",
        "0x0000000090000000 is in nothing",
    ]


def test_translation_of_apaged_board() -> None:
    """gva2gpa on a board shows satp's stage and the region; in M-mode addresses are physical."""
    board = paged_board()
    assert _ask(board, "gva2gpa 0x80000010") == ["M-mode: addresses are physical", "0x0000000080000010 is in RAM"]
    board.harts[0].priv = 1
    assert _ask(board, "gva2gpa 0x80000010") == [
        "satp  sv39     0x0000000080000010 -> 0x0000000080000010   1G VRWX--AD",
        "0x0000000080000010 is in RAM",
    ]
    assert _ask(board, "gva2gpa 0xbfffffff")[1] == "0x00000000bfffffff is in nothing"


def test_regions_have_names() -> None:
    """info mtree names what is in each virtio window."""
    virtio = VirtioOptions(rng=True, net="user")
    for made, kind in ((Machine(memory=4 << 20, virtio=virtio), "device "), (Guest(memory=4 << 20, virtio=virtio), "")):
        tree = _ask(made, "info mtree")
        assert [line for line in tree if "virtio" in line] == [
            f"0000000010001000-0000000010001fff {kind}virtio net",
            f"0000000010002000-0000000010002fff {kind}virtio rng",
            f"0000000010003000-0000000010008fff {kind}virtio, no device",
        ]
        assert max(map(len, tree)) <= 80
