"""PMP and the attributes of physical memory."""

from __future__ import annotations

import pytest
from privilege_board import RAM, Board

from trapline.lang.values import U64
from trapline.privilege.protection import check_physical, pmp_page_uniform, region_of

LOAD, STORE, FETCH = 0, 1, 2
TOR, NA4, NAPOT, L = 1 << 3, 2 << 3, 3 << 3, 0x80


def allowed(board: Board, pa: int, size: int = 4, access: int = LOAD, priv: int = 1) -> bool:
    return bool(check_physical(board.hart, U64(pa), U64(size), U64(access), U64(priv)))


def pmp(board: Board, index: int, config: int, address: int) -> None:
    """Write one entry."""
    board.write(f"pmpaddr{index}", address)
    name = f"pmpcfg{index // 8 * 2}"
    shift = index % 8 * 8
    board.write(name, board.read(name) & ~(0xFF << shift) | config << shift)


def test_reset_permits_everything() -> None:
    """After reset PMP entry 0 permits every access, and pmp_active says that there is nothing to check."""
    board = Board()
    assert board.hart.pmp_active == 0
    assert all(allowed(board, RAM, access=a, priv=p) for a in (LOAD, STORE, FETCH) for p in (0, 1, 3))


def test_no_match_refuses_all_but_m() -> None:
    """With every entry off, S and U may access nothing and M everything."""
    board = Board()
    board.write("pmpcfg0", 0)
    assert board.hart.pmp_active == 1
    assert [allowed(board, RAM, priv=p) for p in (0, 1, 3)] == [False, False, True]


@pytest.mark.parametrize(
    ("config", "address", "first", "last"),
    [
        (NA4, RAM + 0x10 >> 2, 0x10, 0x13),
        (NAPOT, RAM + 0x10 >> 2, 0x10, 0x17),
        (NAPOT, RAM + 0x1000 >> 2 | 0x1FF, 0x1000, 0x1FFF),
    ],
)
def test_ranges(config: int, address: int, first: int, last: int) -> None:
    """NA4 and NAPOT match exactly their bytes; an access that sticks out of its entry fails."""
    board = Board()
    board.write("pmpcfg0", 0)
    pmp(board, 0, config | 1, address)
    assert allowed(board, RAM + first, 1)
    assert allowed(board, RAM + last, 1)
    assert not allowed(board, RAM + first - 1, 1)
    assert not allowed(board, RAM + last + 1, 1)
    assert not allowed(board, RAM + last, 2)
    assert not allowed(board, RAM + last, 2, priv=3)


def test_tor_ranges() -> None:
    """TOR starts at the preceding pmpaddr, or at 0 for entry 0; an empty range matches nothing."""
    board = Board()
    board.write("pmpcfg0", 0)
    pmp(board, 0, TOR | 1, RAM + 0x1000 >> 2)
    pmp(board, 1, TOR | 3, RAM + 0x2000 >> 2)
    pmp(board, 2, TOR | 7, RAM + 0x2000 >> 2)
    assert allowed(board, RAM)
    assert not allowed(board, RAM, access=STORE)
    assert allowed(board, RAM + 0x1000, access=STORE)
    assert not allowed(board, RAM + 0x2000)


def test_first_match_decides() -> None:
    """The lowest-numbered entry that matches decides, also when a later one would permit more."""
    board = Board()
    pmp(board, 0, NA4, RAM >> 2)
    pmp(board, 1, NAPOT | 7, (1 << 54) - 1)
    assert not allowed(board, RAM)
    assert allowed(board, RAM + 4)


def test_locked_entries_bind_m_and_stay() -> None:
    """A locked entry applies to M-mode and neither it, nor the base of a locked TOR range, can be written."""
    board = Board()
    pmp(board, 2, 0, RAM >> 2)
    pmp(board, 3, L | TOR | 1, RAM + 0x1000 >> 2)
    pmp(board, 0, 0, 0)
    assert not allowed(board, RAM, access=STORE, priv=3)
    assert allowed(board, RAM, priv=3)
    before = [board.read(c) for c in ("pmpaddr2", "pmpaddr3")]
    board.write("pmpaddr2", 0)
    board.write("pmpaddr3", 0)
    board.write("pmpcfg0", 0)
    assert [board.read(c) for c in ("pmpaddr2", "pmpaddr3")] == before
    assert board.read("pmpcfg0") == (L | TOR | 1) << 24


def test_page_uniform() -> None:
    """A page is uniform when no entry boundary lies inside it."""
    board = Board()
    board.write("pmpcfg0", 0)
    pmp(board, 0, TOR | 1, RAM + 0x1800 >> 2)
    assert pmp_page_uniform(board.hart, U64(RAM))
    assert not pmp_page_uniform(board.hart, U64(RAM + 0x1000))
    assert pmp_page_uniform(board.hart, U64(RAM + 0x2000))


def test_pmp_writes_flush_translations() -> None:
    """Writing a PMP register forgets cached translations."""
    board = Board()
    flushed: list[int] = []
    board.hart.on_flush_translations = lambda: flushed.append(1)  # type: ignore[method-assign]
    board.write("pmpaddr1", 5)
    board.write("pmpcfg0", 0)
    assert len(flushed) == 2


@pytest.mark.parametrize(
    ("kind", "noexec", "rights"),
    [(1, False, "rwx"), (1, True, "rw"), (2, False, "rx"), (3, False, "rw"), (4, False, "")],
)
def test_attributes(kind: int, noexec: bool, rights: str) -> None:
    """RAM, no-execute RAM, ROM, devices and holes permit what they are."""
    board = Board()
    board.region(0x1000, 0x1000, kind, noexec=noexec)
    got = "".join(
        name for name, access in (("r", LOAD), ("w", STORE), ("x", FETCH)) if allowed(board, 0x1800, access=access)
    )
    assert got == rights


def test_edges_of_regions() -> None:
    """An access outside every region, or across the end of one, is refused."""
    board = Board()
    assert region_of(board.hart, U64(RAM - 1)) == (1 << 64) - 1
    assert region_of(board.hart, U64(RAM)) == 0
    assert allowed(board, RAM + 0x20_0000 - 4)
    assert not allowed(board, RAM + 0x20_0000 - 2)
    assert not allowed(board, (1 << 64) - 2)
