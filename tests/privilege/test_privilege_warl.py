"""WARL fields: what stays of what is written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from privilege_board import Board

from trapline.lang.values import U64
from trapline.privilege.csr import csr_exists
from trapline.privilege.csr_numbers import CSR_BY_NAME
from trapline.privilege.isa_string import DEFAULT_ISA

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "csrs.md"
ADVANCED = f"{DEFAULT_ISA}_smaia_ssaia_smstateen"
# What a register passes on of others, or makes visible of them, is open while it is tried.
OPEN = ("mideleg", "hideleg", "menvcfg", "mcounteren", *(f"mstateen{i}" for i in range(4)), "mvien", "hvien")


def documented() -> tuple[dict[str, tuple[int, int] | None], ...]:
    """Read both tables of docs/csrs.md: by name, what ones and zeros leave; None where nothing is said."""
    tables = []
    for part in DOCUMENT.read_text().split("| CSR |")[1:]:
        found: dict[str, tuple[int, int] | None] = {}
        for line in part.split("\n\n")[0].splitlines()[2:]:
            names, ones, zeros = (cell.strip() for cell in line.strip("|").split("|")[:3])
            for name in names.split(", "):
                span = re.fullmatch(r"([a-z]+)(\d+)\.\.(\d+)", name)
                each = [f"{span[1]}{i}" for i in range(int(span[2]), int(span[3]) + 1)] if span else [name]
                found |= dict.fromkeys(each, (int(ones, 0), int(zeros, 0)) if ones else None)
        tables.append(found)
    return tuple(tables)


def after_writing(board: Board, csr: str) -> tuple[int, int]:
    """What a write of all ones and then one of zeros leave."""
    for other in OPEN:
        if other != csr and csr_exists(board.hart, U64(CSR_BY_NAME[other])):
            board.write(other, -1)
    board.hart.stimer_at = board.hart.vstimer_at = (1 << 64) - 1
    left = []
    for value in (-1, 0):
        board.write(csr, value)
        left.append(board.read(csr))
    return left[0], left[1]


@pytest.mark.parametrize("csr", [name for name, bits in documented()[0].items() if bits is not None])
def test_written_bits(csr: str) -> None:
    """A write of ones and one of zeros leave what docs/csrs.md says, which is what Spike keeps but for FIOM."""
    assert after_writing(Board(), csr) == documented()[0][csr]


@pytest.mark.parametrize("csr", [name for name, bits in documented()[1].items() if bits is not None])
def test_written_bits_with_advanced_interrupts(csr: str) -> None:
    """The same with Smaia, Ssaia, Smstateen, an IMSIC and three guest interrupt files."""
    assert after_writing(Board(ADVANCED, 3), csr) == documented()[1][csr]


@pytest.mark.parametrize(("isa", "guests"), [(DEFAULT_ISA, None), (ADVANCED, 3)])
def test_every_csr_is_documented(isa: str, guests: int | None) -> None:
    """docs/csrs.md names exactly the registers of the hart."""
    plain, advanced = documented()
    board = Board(isa, guests)
    here = {name for name, number in CSR_BY_NAME.items() if csr_exists(board.hart, U64(number))}
    assert here == (plain.keys() if guests is None else plain.keys() | advanced.keys())


def test_fence_of_io_may_be_asked_for_without_cache_blocks() -> None:
    """FIOM is writable in all three xenvcfg of a hart with no other bit in them."""
    board = Board("rv64gch")
    for csr in ("menvcfg", "henvcfg", "senvcfg"):
        board.write(csr, -1)
        assert board.read(csr) == 1


def test_medeleg_bit_0_appears_without_c() -> None:
    """Instruction address misaligned can be delegated only where it can occur."""
    board = Board("rv64imafdh")
    board.write("medeleg", -1)
    assert board.read("medeleg") == 0xFCB7FF


def test_without_h_its_causes_cannot_be_delegated() -> None:
    """Without H, mideleg has no read-only ones and medeleg neither 10 nor 20..23."""
    board = Board("rv64gc")
    board.write("medeleg", -1)
    board.write("mideleg", -1)
    assert (board.read("medeleg"), board.read("mideleg")) == (0xCB3FE, 0x222)


def test_without_h_no_event_filters_virtual_modes() -> None:
    """mhpmevent.VSINH and VUINH are there with H only."""
    board = Board("rv64gc_sscofpmf")
    board.write("mhpmevent3", -1)
    assert board.read("mhpmevent3") == 0xF0000000000FFFFF


def test_unsupported_satp_mode_ignores_the_write() -> None:
    """satp, also as VS-mode writes it, ignores the whole write; vsatp and hgatp from outside keep MODE alone."""
    board = Board()
    for csr in ("satp", "vsatp", "hgatp"):
        board.write(csr, 8 << 60 | 0x1000)
    for csr in ("satp", "vsatp", "hgatp"):
        board.write(csr, 5 << 60 | 0x2000)
    assert board.read("satp") == 8 << 60 | 0x1000
    assert board.read("vsatp") == 8 << 60 | 0x2000
    assert board.read("hgatp") == 8 << 60 | 0x2000
    board.mode("VS")
    board.write("vsatp", 5 << 60 | 0x3000)
    assert board.read("vsatp") == 8 << 60 | 0x2000


@pytest.mark.parametrize(("limit", "modes"), [("sv39", {8}), ("sv48", {8, 9}), ("sv57", {8, 9, 10})])
def test_modes_of_translation_follow_the_isa_string(limit: str, modes: set[int]) -> None:
    """satp takes the modes up to the largest that the ISA string names."""
    board = Board(f"{DEFAULT_ISA}_{limit}")
    taken = set()
    for mode in range(1, 16):
        board.write("satp", mode << 60)
        if board.read("satp") >> 60 == mode:
            taken.add(mode)
    assert taken == modes


def test_reserved_values() -> None:
    """MPP=2 becomes U, CBIE=2 becomes 0, and a PMP entry with W but not R loses W."""
    board = Board()
    board.write("mstatus", 2 << 11)
    board.write("menvcfg", 2 << 4)
    board.write("pmpcfg2", 2)
    assert board.read("mstatus") >> 11 & 3 == 0
    assert board.read("menvcfg") == 0
    assert board.read("pmpcfg2") == 0


def test_henvcfg_shows_only_what_menvcfg_allows() -> None:
    """Corner case 13: ADUE, PBMTE and STCE of henvcfg are read-only zero while menvcfg's are 0."""
    board = Board()
    board.write("menvcfg", 0)
    board.write("henvcfg", -1)
    assert board.read("henvcfg") == 0xF1
    board.write("menvcfg", -1)
    board.write("henvcfg", -1)
    board.write("menvcfg", 1 << 62)
    assert board.read("henvcfg") == 1 << 62 | 0xF1


def test_vgein_up_to_geilen() -> None:
    """hstatus.VGEIN exists with guest external interrupts only, and refuses numbers beyond GEILEN."""
    from trapline.privilege.isa_string import set_masks

    board = Board()
    board.hart.geilen = 5
    set_masks(board.hart)
    board.write("hstatus", 5 << 12)
    board.write("hstatus", 6 << 12)
    assert board.read("hstatus") >> 12 & 63 == 5
    board.write("hgeie", -1)
    assert board.read("hgeie") == 0x3E
