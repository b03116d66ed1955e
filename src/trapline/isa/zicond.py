"""Zicond: integer conditional operations."""

from __future__ import annotations

from trapline.lang.functions import instruction
from trapline.lang.state import Hart
from trapline.lang.values import U64


@instruction("czero.eqz rd, rs1, rs2", "0000111 rs2 rs1 101 rd 0110011", extension="Zicond")
def czero_eqz(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = U64(0) if hart.x[rs2] == 0 else hart.x[rs1]


@instruction("czero.nez rd, rs1, rs2", "0000111 rs2 rs1 111 rd 0110011", extension="Zicond")
def czero_nez(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = U64(0) if hart.x[rs2] != 0 else hart.x[rs1]
