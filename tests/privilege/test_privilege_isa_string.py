"""ISA strings, and what an extension that is off takes with it."""

from __future__ import annotations

import pytest
from privilege_board import Board

from trapline.privilege.csr_numbers import CSR_BY_NAME
from trapline.privilege.isa_string import DEFAULT_ISA, IMPLIES, configure, enabled_extensions, extensions, parse


def test_default_has_what_the_project_promises() -> None:
    """The default hart has every extension but Zcb, Zicclsm, Svade, Smstateen and the AIA's."""
    assert extensions(DEFAULT_ISA) == set(IMPLIES) - {"zcb", "zicclsm", "svade", "smstateen", "smaia", "ssaia"}


@pytest.mark.parametrize(
    ("isa", "more"),
    [
        ("rv64i", set()),
        ("RV64GC", {"m", "a", "f", "d", "c", "zifencei"}),
        ("rv64id", {"f", "d"}),
        ("rv64imh_sstc", {"m", "h", "sstc"}),
        ("rv64izba_zbs", {"zba", "zbs"}),
        ("rv64ib_zfh", {"zba", "zbb", "zbs", "zfh", "zfhmin", "f"}),
        ("rv64i_sscofpmf", {"sscofpmf", "zihpm"}),
    ],
)
def test_extensions_and_what_they_imply(isa: str, more: set[str]) -> None:
    """Single letters, G, B and multi-letter names are understood, with what they imply; S, U, Zicsr are always on."""
    assert extensions(isa) == {"s", "u", "zicsr"} | more


@pytest.mark.parametrize(
    ("isa", "message"),
    [
        ("rv32imac", "rv64"),
        ("x86", "rv64"),
        ("rv64", "base"),
        ("rv64mac", "base"),
        ("rv64gcv", "'v'"),
        ("rv64gc_zknd", "'zknd'"),
        ("rv64gc_sv32", "'sv32'"),
    ],
)
def test_bad_strings_are_named(isa: str, message: str) -> None:
    """A string that is not supported is refused with the part that is wrong."""
    with pytest.raises(ValueError, match=message):
        parse(isa)


def test_misa_follows() -> None:
    """misa has the letters of the string, B only with all of Zba, Zbb, Zbs, and is read-only."""
    board = Board("rv64imac")
    assert board.read("misa") == 0x8000_0000_0014_1105
    board.write("misa", 0)
    assert board.read("misa") == 0x8000_0000_0014_1105
    assert Board("rv64ib").read("misa") & 2 == 2
    assert Board("rv64i_zba_zbb").read("misa") & 2 == 0


@pytest.mark.parametrize(
    ("without", "gone"),
    [
        ("h", ["hstatus", "hgatp", "vsatp", "vsstatus", "hvip", "mtval2", "mtinst", "htimedelta", "hgeip"]),
        ("_sstc", ["stimecmp", "vstimecmp"]),
        ("_sscofpmf", ["scountovf"]),
        ("_zicntr", ["cycle", "time", "instret"]),
        ("fd", ["fflags", "frm", "fcsr"]),
    ],
)
def test_registers_of_an_extension_that_is_off(without: str, gone: list[str]) -> None:
    """Without an extension its registers are illegal, also in M-mode, and no others."""
    smaller = DEFAULT_ISA.replace("_zfh", "") if without == "fd" else DEFAULT_ISA
    smaller = smaller.replace(without, "", 1) if without != "h" else smaller.replace("dch_", "dc_")
    full, less = Board(), Board(smaller)
    full.write("mstatus", 3 << 13)
    less.write("mstatus", 3 << 13)
    lost = {csr for csr in CSR_BY_NAME if full.access(csr) == 0 and less.access(csr) == 2}
    assert lost >= set(gone)
    if without != "h":
        assert lost == set(gone)


def test_reconfigure() -> None:
    """A hart can be configured again: nothing of the earlier string remains."""
    board = Board()
    configure(board.hart, "rv64i")
    assert enabled_extensions(board.hart) == {"s", "u", "zicsr"}
    assert board.hart.mideleg_ones == 0
