"""A extension for atomic instructions. One hart runs at a time, so acquire and release need nothing."""

from __future__ import annotations

from typing import Any

from trapline.lang.functions import instruction
from trapline.lang.values import U64, sext, signed, zext
from trapline.privilege.memory import amo_load, load_reserved, store, store_conditional


@instruction("lr.w rd, (rs1)", "00010 aq rl 00000 rs1 010 rd 0101111", extension="A", partial=True)
def lr_w(hart: Any, rd: U64, rs1: U64) -> None:
    hart.x[rd] = sext(load_reserved(hart, hart.x[rs1], 4), 32)


@instruction("lr.d rd, (rs1)", "00010 aq rl 00000 rs1 011 rd 0101111", extension="A", partial=True)
def lr_d(hart: Any, rd: U64, rs1: U64) -> None:
    hart.x[rd] = load_reserved(hart, hart.x[rs1], 8)


@instruction("sc.w rd, rs2, (rs1)", "00011 aq rl rs2 rs1 010 rd 0101111", extension="A", partial=True)
def sc_w(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = store_conditional(hart, hart.x[rs1], 4, hart.x[rs2])


@instruction("sc.d rd, rs2, (rs1)", "00011 aq rl rs2 rs1 011 rd 0101111", extension="A", partial=True)
def sc_d(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = store_conditional(hart, hart.x[rs1], 8, hart.x[rs2])


# Memory and rd get the loaded value as it was before the operation; a word is sign-extended in rd.


@instruction("amoswap.w rd, rs2, (rs1)", "00001 aq rl rs2 rs1 010 rd 0101111", extension="A")
def amoswap_w(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    address = hart.x[rs1]
    operand = hart.x[rs2]
    old = sext(amo_load(hart, address, 4), 32)
    store(hart, address, 4, operand)
    hart.x[rd] = old


@instruction("amoadd.w rd, rs2, (rs1)", "00000 aq rl rs2 rs1 010 rd 0101111", extension="A")
def amoadd_w(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    address = hart.x[rs1]
    operand = hart.x[rs2]
    old = sext(amo_load(hart, address, 4), 32)
    store(hart, address, 4, old + operand)
    hart.x[rd] = old


@instruction("amoxor.w rd, rs2, (rs1)", "00100 aq rl rs2 rs1 010 rd 0101111", extension="A")
def amoxor_w(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    address = hart.x[rs1]
    operand = hart.x[rs2]
    old = sext(amo_load(hart, address, 4), 32)
    store(hart, address, 4, old ^ operand)
    hart.x[rd] = old


@instruction("amoand.w rd, rs2, (rs1)", "01100 aq rl rs2 rs1 010 rd 0101111", extension="A")
def amoand_w(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    address = hart.x[rs1]
    operand = hart.x[rs2]
    old = sext(amo_load(hart, address, 4), 32)
    store(hart, address, 4, old & operand)
    hart.x[rd] = old


@instruction("amoor.w rd, rs2, (rs1)", "01000 aq rl rs2 rs1 010 rd 0101111", extension="A")
def amoor_w(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    address = hart.x[rs1]
    operand = hart.x[rs2]
    old = sext(amo_load(hart, address, 4), 32)
    store(hart, address, 4, old | operand)
    hart.x[rd] = old


@instruction("amomin.w rd, rs2, (rs1)", "10000 aq rl rs2 rs1 010 rd 0101111", extension="A")
def amomin_w(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    address = hart.x[rs1]
    operand = hart.x[rs2]
    old = sext(amo_load(hart, address, 4), 32)
    store(hart, address, 4, old if signed(old) < signed(sext(operand, 32)) else operand)
    hart.x[rd] = old


@instruction("amomax.w rd, rs2, (rs1)", "10100 aq rl rs2 rs1 010 rd 0101111", extension="A")
def amomax_w(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    address = hart.x[rs1]
    operand = hart.x[rs2]
    old = sext(amo_load(hart, address, 4), 32)
    store(hart, address, 4, old if signed(old) > signed(sext(operand, 32)) else operand)
    hart.x[rd] = old


@instruction("amominu.w rd, rs2, (rs1)", "11000 aq rl rs2 rs1 010 rd 0101111", extension="A")
def amominu_w(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    address = hart.x[rs1]
    operand = hart.x[rs2]
    old = sext(amo_load(hart, address, 4), 32)
    store(hart, address, 4, old if zext(old, 32) < zext(operand, 32) else operand)
    hart.x[rd] = old


@instruction("amomaxu.w rd, rs2, (rs1)", "11100 aq rl rs2 rs1 010 rd 0101111", extension="A")
def amomaxu_w(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    address = hart.x[rs1]
    operand = hart.x[rs2]
    old = sext(amo_load(hart, address, 4), 32)
    store(hart, address, 4, old if zext(old, 32) > zext(operand, 32) else operand)
    hart.x[rd] = old


@instruction("amoswap.d rd, rs2, (rs1)", "00001 aq rl rs2 rs1 011 rd 0101111", extension="A")
def amoswap_d(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    address = hart.x[rs1]
    operand = hart.x[rs2]
    old = amo_load(hart, address, 8)
    store(hart, address, 8, operand)
    hart.x[rd] = old


@instruction("amoadd.d rd, rs2, (rs1)", "00000 aq rl rs2 rs1 011 rd 0101111", extension="A")
def amoadd_d(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    address = hart.x[rs1]
    operand = hart.x[rs2]
    old = amo_load(hart, address, 8)
    store(hart, address, 8, old + operand)
    hart.x[rd] = old


@instruction("amoxor.d rd, rs2, (rs1)", "00100 aq rl rs2 rs1 011 rd 0101111", extension="A")
def amoxor_d(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    address = hart.x[rs1]
    operand = hart.x[rs2]
    old = amo_load(hart, address, 8)
    store(hart, address, 8, old ^ operand)
    hart.x[rd] = old


@instruction("amoand.d rd, rs2, (rs1)", "01100 aq rl rs2 rs1 011 rd 0101111", extension="A")
def amoand_d(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    address = hart.x[rs1]
    operand = hart.x[rs2]
    old = amo_load(hart, address, 8)
    store(hart, address, 8, old & operand)
    hart.x[rd] = old


@instruction("amoor.d rd, rs2, (rs1)", "01000 aq rl rs2 rs1 011 rd 0101111", extension="A")
def amoor_d(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    address = hart.x[rs1]
    operand = hart.x[rs2]
    old = amo_load(hart, address, 8)
    store(hart, address, 8, old | operand)
    hart.x[rd] = old


@instruction("amomin.d rd, rs2, (rs1)", "10000 aq rl rs2 rs1 011 rd 0101111", extension="A")
def amomin_d(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    address = hart.x[rs1]
    operand = hart.x[rs2]
    old = amo_load(hart, address, 8)
    store(hart, address, 8, old if signed(old) < signed(operand) else operand)
    hart.x[rd] = old


@instruction("amomax.d rd, rs2, (rs1)", "10100 aq rl rs2 rs1 011 rd 0101111", extension="A")
def amomax_d(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    address = hart.x[rs1]
    operand = hart.x[rs2]
    old = amo_load(hart, address, 8)
    store(hart, address, 8, old if signed(old) > signed(operand) else operand)
    hart.x[rd] = old


@instruction("amominu.d rd, rs2, (rs1)", "11000 aq rl rs2 rs1 011 rd 0101111", extension="A")
def amominu_d(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    address = hart.x[rs1]
    operand = hart.x[rs2]
    old = amo_load(hart, address, 8)
    store(hart, address, 8, old if old < operand else operand)
    hart.x[rd] = old


@instruction("amomaxu.d rd, rs2, (rs1)", "11100 aq rl rs2 rs1 011 rd 0101111", extension="A")
def amomaxu_d(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    address = hart.x[rs1]
    operand = hart.x[rs2]
    old = amo_load(hart, address, 8)
    store(hart, address, 8, old if old > operand else operand)
    hart.x[rd] = old
