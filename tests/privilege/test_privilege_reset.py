"""Reset: what software finds that has written nothing yet."""

from __future__ import annotations

import pytest
from privilege_board import RAM, Board, R, V, W, X

from trapline.privilege import fields
from trapline.privilege.isa_string import DEFAULT_ISA
from trapline.privilege.reset import reset


@pytest.mark.parametrize(
    ("isa", "menvcfg"),
    [
        (DEFAULT_ISA, fields.ENVCFG_ADUE),
        ("rv64gc_svadu", fields.ENVCFG_ADUE),
        (f"{DEFAULT_ISA}_svade", 0),
        ("rv64gc_svade", 0),
        ("rv64gch", 0),
    ],
)
def test_menvcfg(isa: str, menvcfg: int) -> None:
    """The walker sets A and D from reset on where there is Svadu, unless the ISA string names Svade."""
    board = Board(isa)
    assert board.read("menvcfg") == menvcfg
    board.write("menvcfg", -1)
    reset(board.hart, 0, RAM)
    assert board.read("menvcfg") == menvcfg
    assert "h" not in isa.split("_")[0] or board.read("henvcfg") == 0


@pytest.mark.parametrize(("isa", "after"), [("rv64gc_svadu", V | R | W | X | 1 << 6), ("rv64gc_svadu_svade", None)])
def test_page_without_accessed_bit(isa: str, after: int | None) -> None:
    """A kernel that knows neither menvcfg nor A runs on a hart with Svadu alone, and faults with Svade too."""
    board = Board(isa)
    root = board.table()
    board.write("satp", 8 << 60 | root >> 12)
    board.mode("HS")
    pte = board.map(root, 3, 0x4000, RAM + 0x5000, V | R | W | X)
    if after is None:
        assert board.fault(0x4000, 2).cause == 12
    else:
        assert board.translate(0x4000, 2) == RAM + 0x5000
        assert board.read64(pte) & 0xFF == after
