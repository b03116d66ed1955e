"""Zbs: single-bit instructions."""

from __future__ import annotations

from trapline.lang.functions import instruction
from trapline.lang.state import Hart
from trapline.lang.values import U64


@instruction("bclr rd, rs1, rs2", "0100100 rs2 rs1 001 rd 0110011", extension="Zbs")
def bclr(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = hart.x[rs1] & ~(U64(1) << (hart.x[rs2] & 63))


@instruction("bclri rd, rs1, shamt", "010010 shamt[5:0] rs1 001 rd 0010011", extension="Zbs")
def bclri(hart: Hart, rd: U64, rs1: U64, shamt: U64) -> None:
    hart.x[rd] = hart.x[rs1] & ~(U64(1) << (shamt & 63))


@instruction("bext rd, rs1, rs2", "0100100 rs2 rs1 101 rd 0110011", extension="Zbs")
def bext(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = (hart.x[rs1] >> (hart.x[rs2] & 63)) & 1


@instruction("bexti rd, rs1, shamt", "010010 shamt[5:0] rs1 101 rd 0010011", extension="Zbs")
def bexti(hart: Hart, rd: U64, rs1: U64, shamt: U64) -> None:
    hart.x[rd] = (hart.x[rs1] >> (shamt & 63)) & 1


@instruction("binv rd, rs1, rs2", "0110100 rs2 rs1 001 rd 0110011", extension="Zbs")
def binv(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = hart.x[rs1] ^ (U64(1) << (hart.x[rs2] & 63))


@instruction("binvi rd, rs1, shamt", "011010 shamt[5:0] rs1 001 rd 0010011", extension="Zbs")
def binvi(hart: Hart, rd: U64, rs1: U64, shamt: U64) -> None:
    hart.x[rd] = hart.x[rs1] ^ (U64(1) << (shamt & 63))


@instruction("bset rd, rs1, rs2", "0010100 rs2 rs1 001 rd 0110011", extension="Zbs")
def bset(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = hart.x[rs1] | (U64(1) << (hart.x[rs2] & 63))


@instruction("bseti rd, rs1, shamt", "001010 shamt[5:0] rs1 001 rd 0010011", extension="Zbs")
def bseti(hart: Hart, rd: U64, rs1: U64, shamt: U64) -> None:
    hart.x[rd] = hart.x[rs1] | (U64(1) << (shamt & 63))
