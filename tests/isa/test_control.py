"""Jumps and environment instructions: order of guards and effects."""

from __future__ import annotations

import pytest

from trapline.isa.i import auipc, beq, ebreak, ecall, jal, jalr, lui
from trapline.lang.functions import Trap
from trapline.lang.state import Hart
from trapline.lang.values import U64


def hart_at(pc: int, *, has_c: int = 1, virt: int = 0) -> Hart:
    """Return a hart about to run a 32-bit instruction."""
    hart = Hart()
    hart.pc, hart.next_pc = pc, pc + 4
    hart.has_c, hart.virt = has_c, virt
    return hart


def test_jalr_reads_its_base_before_it_writes_the_link() -> None:
    """With rd equal to rs1 the target comes from the old value; bit 0 of the target is cleared."""
    hart = hart_at(0x1000)
    hart.x[1] = 0x2001
    jalr(hart, U64(1), U64(1), U64(4))
    assert (hart.next_pc, hart.x[1]) == (0x2004, 0x1004)


def test_link_after_a_compressed_jump() -> None:
    """The link is the address after the instruction, however long it is."""
    hart = hart_at(0x1000)
    hart.next_pc = 0x1002
    hart.x[5] = 0x3000
    jalr(hart, U64(1), U64(5), U64(0))
    assert hart.x[1] == 0x1002


@pytest.mark.parametrize("virt", [0, 1])
def test_misaligned_target_traps_on_the_jump(virt: int) -> None:
    """Without C a target that is no multiple of four is cause 0 with the target in tval, and rd keeps its value."""
    hart = hart_at(0x1000, has_c=0, virt=virt)
    hart.x[1], hart.x[5] = 7, 0x2002
    for call in (lambda: jalr(hart, U64(1), U64(5), U64(0)), lambda: jal(hart, U64(1), U64(0x1002))):
        with pytest.raises(Trap) as caught:
            call()
        assert (caught.value.cause, caught.value.tval, caught.value.gva) == (0, 0x2002, virt)
        assert (hart.x[1], hart.next_pc) == (7, 0x1004)


def test_branch_not_taken_never_traps() -> None:
    """The alignment of a branch's target matters only if it is taken."""
    hart = hart_at(0x1000, has_c=0)
    hart.x[1] = 1
    beq(hart, U64(0), U64(1), U64(2))
    assert hart.next_pc == 0x1004
    with pytest.raises(Trap):
        beq(hart, U64(0), U64(0), U64(2))


def test_upper_immediates() -> None:
    """lui and auipc use the sign-extended 32-bit value; x0 stays 0."""
    hart = hart_at(0x1000)
    lui(hart, U64(1), U64(-0x80000000))
    auipc(hart, U64(2), U64(-0x1000))
    lui(hart, U64(0), U64(0x1000))
    assert (hart.x[1], hart.x[2], hart.x[0]) == (0xFFFF_FFFF_8000_0000, 0, 0)


@pytest.mark.parametrize(("priv", "virt", "cause"), [(0, 0, 8), (0, 1, 8), (1, 0, 9), (1, 1, 10), (3, 0, 11)])
def test_ecall_cause(priv: int, virt: int, cause: int) -> None:
    """The cause of ecall names the mode it comes from."""
    hart = hart_at(0x1000, virt=virt)
    hart.priv = priv
    with pytest.raises(Trap) as caught:
        ecall(hart)
    assert (caught.value.cause, caught.value.tval) == (cause, 0)


def test_ebreak_reports_its_address() -> None:
    """tval of ebreak is the pc, a guest virtual address when V=1."""
    with pytest.raises(Trap) as caught:
        ebreak(hart_at(0x1000, virt=1))
    assert (caught.value.cause, caught.value.tval, caught.value.gva) == (3, 0x1000, 1)
