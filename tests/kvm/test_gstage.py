"""The G-stage table in simulated memory."""

from __future__ import annotations

import pytest

from trapline.kvm.gstage import MODES, PAGE, GStage, TableMemory
from trapline.privilege.pte import PTE_A, PTE_D, PTE_R, PTE_U, PTE_V, PTE_W, PTE_X
from trapline.session.regions import Regions

ALL = PTE_V | PTE_R | PTE_W | PTE_X | PTE_U | PTE_A | PTE_D
MEGA = 2 << 20


def make(mode: int = 8) -> GStage:
    region = Regions().ram("tables", 0x8000_0000, 4 << 20)
    return GStage(TableMemory(region), mode)


@pytest.mark.parametrize("mode", MODES)
def test_a_page_is_a_user_leaf_with_a_and_d_preset(mode: int) -> None:
    """A mapped page is V R W X U A D at level 0, however deep the table is."""
    stage = make(mode)
    gpa = (1 << stage.gpa_bits) - PAGE
    assert stage.map(gpa, 0x1_0000_0000, 0, writable=True)
    _, level, entry = stage.find(gpa + 0x123)
    assert level == 0
    assert entry == 0x1_0000_0000 >> 12 << 10 | ALL


def test_the_root_is_four_times_as_large() -> None:
    """The root table is 16 KiB, aligned, and its index has two more bits."""
    stage = make()
    assert stage.root % 0x4000 == 0
    assert stage.index((1 << 41) - 1, 2) == 2047
    assert stage.hgatp(3) == 8 << 60 | 3 << 44 | stage.root >> 12


def test_a_read_only_page_has_no_w() -> None:
    """A read-only page is readable and executable."""
    stage = make()
    stage.map(0x1000, 0x1_0000_0000, 0, writable=False)
    assert stage.find(0x1000)[2] & (PTE_R | PTE_W | PTE_X) == PTE_R | PTE_X


def test_mapping_again_changes_nothing() -> None:
    """The same mapping is not a change, another one is."""
    stage = make()
    assert stage.map(0, PAGE, 0, writable=True)
    assert not stage.map(0, PAGE, 0, writable=True)
    assert stage.map(0, PAGE, 0, writable=False)
    assert stage.mapped_pages == 1


def test_a_large_block_is_one_leaf() -> None:
    """2 MiB are one entry at level 1; unaligned addresses are refused."""
    stage = make()
    stage.map(MEGA, 0x1_0020_0000, 1, writable=True)
    assert stage.find(MEGA + 0x12345)[1] == 1
    assert stage.mapped_pages == 512
    with pytest.raises(ValueError, match="aligned"):
        stage.map(PAGE, 0x1_0020_0000, 1, writable=True)


def test_unmapping_a_page_of_a_block_splits_it() -> None:
    """The rest of a block stays mapped, to the right addresses."""
    stage = make()
    stage.map(0, 0x1_0000_0000, 1, writable=True)
    assert stage.unmap(3 * PAGE, PAGE) == 1
    assert not stage.find(3 * PAGE)[2] & PTE_V
    assert stage.find(4 * PAGE)[2] >> 10 << 12 == 0x1_0000_4000
    assert stage.mapped_pages == 511


def test_unmapping_everything() -> None:
    """A whole range goes at once, holes in it are skipped."""
    stage = make()
    for gpa in (0, 5 * PAGE, MEGA, 1 << 30):
        stage.map(gpa, 0x1_0000_0000 + gpa, 0, writable=True)
    assert stage.unmap(0, 2 << 30) == 4
    assert stage.mapped_pages == 0


def test_write_protection_takes_w_and_splits() -> None:
    """Pages of the range lose W, their neighbours keep it."""
    stage = make()
    stage.map(0, 0x1_0000_0000, 1, writable=True)
    assert stage.write_protect(PAGE, PAGE) == 1
    assert not stage.find(PAGE)[2] & PTE_W
    assert stage.find(0)[2] & PTE_W
    assert stage.find(2 * PAGE)[2] & PTE_W


def test_a_block_over_a_table_frees_it() -> None:
    """Mapping 2 MiB over small pages gives their table back, and a new table is zeroed."""
    stage = make()
    stage.map(0, 0x1_0000_0000, 0, writable=True)
    stage.map(0, 0x1_0000_0000, 1, writable=True)
    assert stage.mapped_pages == 512
    stage.map(1 << 30, 0x1_0000_0000, 0, writable=True)
    assert not stage.find((1 << 30) + PAGE)[2] & PTE_V


def test_table_memory_runs_out_loudly() -> None:
    """No memory for tables is an error that says so."""
    memory = TableMemory(Regions().ram("tables", 0x8000_0000, 0x8000))
    memory.root()
    with pytest.raises(MemoryError, match="exhausted"):
        for _ in range(5):
            memory.page()
