"""Zicsr: control and status register instructions (Unprivileged spec, Zicsr chapter).

csrrw and csrrwi always write; with rd=x0 they do not read. csrrs, csrrc and their immediate forms
always read; with rs1=x0 or a zero immediate they do not write, so a read-only CSR is no error.
"""

from __future__ import annotations

from trapline.lang.functions import inline, instruction
from trapline.lang.state import Hart
from trapline.lang.values import U64, u64
from trapline.privilege.csr import check_csr, csr_read, csr_write, effective_csr


@inline
def swap(hart: Hart, rd: U64, csr: U64, value: U64) -> None:
    """Write value to the CSR and its old value to rd."""
    check_csr(hart, csr, U64(1))
    number = effective_csr(hart, csr)
    if rd == 0:
        csr_write(hart, number, value)
    else:
        old = csr_read(hart, number)
        csr_write(hart, number, value)
        hart.x[rd] = old


@inline
def set_bits(hart: Hart, rd: U64, csr: U64, bits: U64, source: U64) -> None:
    """Read the CSR to rd and set bits in it; `source` is the rs1 field, 0 for no write."""
    check_csr(hart, csr, u64(source != 0))
    number = effective_csr(hart, csr)
    old = csr_read(hart, number)
    if source != 0:
        csr_write(hart, number, old | bits)
    hart.x[rd] = old


@inline
def clear_bits(hart: Hart, rd: U64, csr: U64, bits: U64, source: U64) -> None:
    """Read the CSR to rd and clear bits in it; `source` is the rs1 field, 0 for no write."""
    check_csr(hart, csr, u64(source != 0))
    number = effective_csr(hart, csr)
    old = csr_read(hart, number)
    if source != 0:
        csr_write(hart, number, old & ~bits)
    hart.x[rd] = old


@instruction("csrrw rd, csr, rs1", "csr rs1 001 rd 1110011", extension="Zicsr")
def csrrw(hart: Hart, rd: U64, rs1: U64, csr: U64) -> None:
    swap(hart, rd, csr, hart.x[rs1])


@instruction("csrrs rd, csr, rs1", "csr rs1 010 rd 1110011", extension="Zicsr")
def csrrs(hart: Hart, rd: U64, rs1: U64, csr: U64) -> None:
    set_bits(hart, rd, csr, hart.x[rs1], rs1)


@instruction("csrrc rd, csr, rs1", "csr rs1 011 rd 1110011", extension="Zicsr")
def csrrc(hart: Hart, rd: U64, rs1: U64, csr: U64) -> None:
    clear_bits(hart, rd, csr, hart.x[rs1], rs1)


# In the immediate forms the rs1 field is the value itself.


@instruction("csrrwi rd, csr, zimm", "csr rs1 101 rd 1110011", extension="Zicsr")
def csrrwi(hart: Hart, rd: U64, rs1: U64, csr: U64) -> None:
    swap(hart, rd, csr, U64(rs1))


@instruction("csrrsi rd, csr, zimm", "csr rs1 110 rd 1110011", extension="Zicsr")
def csrrsi(hart: Hart, rd: U64, rs1: U64, csr: U64) -> None:
    set_bits(hart, rd, csr, U64(rs1), rs1)


@instruction("csrrci rd, csr, zimm", "csr rs1 111 rd 1110011", extension="Zicsr")
def csrrci(hart: Hart, rd: U64, rs1: U64, csr: U64) -> None:
    clear_bits(hart, rd, csr, U64(rs1), rs1)
