"""The assembler: labels, directives, pseudo-instructions, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.isa import cross
from tests.isa.table import DECODER
from trapline.isa.assemble import AssemblyError, assemble, assemble_program
from trapline.lang.state import Hart
from trapline.lang.values import U64

BASE = cross.TEXT_BASE

PSEUDO_SOURCE = """
start:
    nop
    mv a0, a1
    not a0, a1
    neg a0, a1
    negw a0, a1
    sext.w a0, a1
    zext.b a0, a1
    seqz a0, a1
    snez a0, a1
    sltz a0, a1
    sgtz a0, a1
    sgt a0, a1, a2
    sgtu a0, a1, a2
1:  beqz a0, 1b
    bnez a0, 1f
    blez a0, start
    bgez a0, start
    bltz a0, start
    bgtz a0, start
1:  bgt a0, a1, start
    ble a0, a1, start
    bgtu a0, a1, 1b
    bleu a0, a1, end
    j end
    jal end
    jr a0
    jalr a0
    jalr a0, 8(a1)
    ret
    fence
    sfence.vma
    sfence.vma a0
    hfence.vvma
    hfence.gvma
    csrr a0, vsstatus
    csrw hgatp, a0
    csrs mie, a0
    csrc sip, a0
    csrwi sscratch, 5
    csrsi sstatus, 2
    csrci sstatus, 2
    rdcycle a0
    rdtime a0
    rdinstret a0
    frcsr a0
    fscsr a0
    frrm a0
    fsrm a0
    frflags a0
    fsflags a0
    fmv.d fa0, fa1
    fneg.s fa0, fa1
    fabs.d fa0, fa1
    fgt.s a0, fa0, fa1
    fge.d a0, fa0, fa1
    li a0, -2048
    li a0, 2047
    li a0, 0x12345678
    li a0, -1 << 31
    lw a0, (a1)
    amoadd.d a0, a1, 0(a2)
    lr.w.aq a0, (a1)
    fence rw, w
    .equ SIZE, 4 * (2 + 1)
    addi a0, a0, SIZE   # a comment; not a statement
    addi a0, a0, 'A'
    .balign 8
data:
    .byte 1, -1, 'x', 0xff
    .half 0x1234, -2
    .align 2
    .word end - start, 7
    .dword start, data + 8
    .asciz "a\\tb # \\"c\\""
    .zero 3
    .align 3
end:
    ecall; ebreak
"""


def test_pseudo_instructions_are_those_of_gnu_as(tmp_path: Path) -> None:
    """Pseudo-instructions, labels, expressions and directives give the bytes that GNU as gives."""
    theirs = cross.assemble(".option norvc\n" + PSEUDO_SOURCE, tmp_path)
    ours = assemble(PSEUDO_SOURCE, BASE)
    assert [ours[i : i + 4].hex() for i in range(0, len(ours), 4)] == [
        theirs[i : i + 4].hex() for i in range(0, len(theirs), 4)
    ]


def execute(code: bytes, base: int) -> Hart:
    """Run straight-line code in Python."""
    hart = Hart()
    at = 0
    while at < len(code):
        decoded = DECODER.decode(int.from_bytes(code[at : at + 4], "little"))
        assert decoded is not None
        hart.pc, hart.next_pc = base + at, base + at + decoded.length
        operands = [U64(decoded.operands[name]) for name in decoded.instruction.operands]
        assert decoded.instruction.function is not None
        decoded.instruction.function(hart, *operands)
        at += decoded.length
    return hart


@given(st.one_of(st.integers(-(1 << 63), (1 << 64) - 1), st.integers(-(1 << 33), 1 << 33)))
def test_li_loads_any_constant(value: int) -> None:
    """li leaves exactly the constant in the register, in at most eight instructions."""
    code = assemble(f"li a0, {value}", 0)
    assert execute(code, 0).x[10] == value & (1 << 64) - 1
    assert len(code) <= 32


@given(st.integers(-(1 << 31), (1 << 31) - 0x801))
def test_la_reaches_two_gigabytes_either_way(distance: int) -> None:
    """la gives the address of a symbol relative to the pc."""
    base = 1 << 40
    assert execute(assemble(f".equ there, {base + distance}\nla a0, there", base), base).x[10] == base + distance


def test_symbols() -> None:
    """A program gives the values of its labels."""
    program = assemble_program("nop\nhere: c.nop\nthere:\n", 0x1000)
    assert program.symbols == {"here": 0x1004, "there": 0x1006}
    assert len(program.code) == 6


def test_alignment_in_code_is_nops() -> None:
    """Padding is instructions that do nothing where it can be."""
    assert assemble("c.nop\n.align 3\nnop", 0).hex() == "010001001300000013000000"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nop\nfoo a0", "line 2: unknown instruction 'foo'"),
        ("add a0, a1", "line 1: add takes 3 operands, not 2"),
        ("add a0, a1, 5", "line 1: not a register: '5'"),
        ("addi a0, a0, 2048", "line 1: imm cannot be 2048"),
        ("beq a0, a1, nowhere", "line 1: unknown symbol 'nowhere'"),
        ("lw a0, a1", "does not fit"),
        ("x: nop\nx: nop", "line 2: 'x' is defined twice"),
        (".byte 256", "does not fit in 1 bytes"),
        (".frob 1", "unknown directive '.frob'"),
        ("c.addi16sp sp, 0", "reserved"),
        ("c.lw a0, 4(t6)", "rs1 cannot be 31"),
        ("li a0, later\nlater:", "use la"),
        ("fence rx, w", "not a fence set"),
        ("lui a0, 0x100000", "upper immediate out of range"),
        ("addi a0, a0, (1", "not an expression"),
        ("slliw a0, a0, 32", "shamt cannot be 32"),
    ],
)
def test_errors_name_the_line(source: str, message: str) -> None:
    """Source that cannot be assembled is refused with the line and the reason."""
    with pytest.raises(AssemblyError) as caught:
        assemble(source, 0)
    assert message in str(caught.value)
