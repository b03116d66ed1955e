"""F: single-precision floating point (Unprivileged spec, F chapter).

Guards come first, in Spike's order: FS on, then a valid rounding mode. An instruction that writes an
f register marks FS dirty; one that writes an x register does so only if it raises a flag.
"""

from __future__ import annotations

from typing import Any

from trapline.isa.float.compare import soft_classify, soft_eq, soft_le, soft_lt, soft_pick
from trapline.isa.float.registers import SINGLE_BOX, SINGLE_SIGN, rounding_mode, single_of
from trapline.isa.float.single import (
    single_add,
    single_div,
    single_fma,
    single_from_l,
    single_from_lu,
    single_from_w,
    single_from_wu,
    single_mul,
    single_sqrt,
    single_to_l,
    single_to_lu,
    single_to_w,
    single_to_wu,
)
from trapline.lang.functions import instruction
from trapline.lang.values import U64, sext
from trapline.privilege.guards import mark_fp_dirty, require_fp
from trapline.privilege.memory import load, store

# Loads and stores.


@instruction("flw frd, imm(rs1)", "imm[11:0] rs1 010 rd 0000111", extension="F")
def flw(hart: Any, rd: U64, rs1: U64, imm: U64) -> None:
    require_fp(hart)
    value = load(hart, hart.x[rs1] + imm, 4)
    mark_fp_dirty(hart)
    hart.f[rd] = SINGLE_BOX | value


@instruction("fsw frs2, imm(rs1)", "imm[11:5] rs2 rs1 010 imm[4:0] 0100111", extension="F")
def fsw(hart: Any, rs1: U64, rs2: U64, imm: U64) -> None:
    require_fp(hart)
    store(hart, hart.x[rs1] + imm, 4, hart.f[rs2])


# Arithmetic.


@instruction("fadd.s frd, frs1, frs2, rm", "0000000 rs2 rs1 rm rd 1010011", extension="F")
def fadd_s(hart: Any, rd: U64, rs1: U64, rs2: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    hart.f[rd] = SINGLE_BOX | single_add(hart, single_of(hart.f[rs1]), single_of(hart.f[rs2]), mode)


@instruction("fsub.s frd, frs1, frs2, rm", "0000100 rs2 rs1 rm rd 1010011", extension="F")
def fsub_s(hart: Any, rd: U64, rs1: U64, rs2: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    hart.f[rd] = SINGLE_BOX | single_add(hart, single_of(hart.f[rs1]), single_of(hart.f[rs2]) ^ SINGLE_SIGN, mode)


@instruction("fmul.s frd, frs1, frs2, rm", "0001000 rs2 rs1 rm rd 1010011", extension="F")
def fmul_s(hart: Any, rd: U64, rs1: U64, rs2: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    hart.f[rd] = SINGLE_BOX | single_mul(hart, single_of(hart.f[rs1]), single_of(hart.f[rs2]), mode)


@instruction("fdiv.s frd, frs1, frs2, rm", "0001100 rs2 rs1 rm rd 1010011", extension="F")
def fdiv_s(hart: Any, rd: U64, rs1: U64, rs2: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    hart.f[rd] = SINGLE_BOX | single_div(hart, single_of(hart.f[rs1]), single_of(hart.f[rs2]), mode)


@instruction("fsqrt.s frd, frs1, rm", "0101100 00000 rs1 rm rd 1010011", extension="F")
def fsqrt_s(hart: Any, rd: U64, rs1: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    hart.f[rd] = SINGLE_BOX | single_sqrt(hart, single_of(hart.f[rs1]), mode)


@instruction("fmadd.s frd, frs1, frs2, frs3, rm", "rs3 00 rs2 rs1 rm rd 1000011", extension="F")
def fmadd_s(hart: Any, rd: U64, rs1: U64, rs2: U64, rs3: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    a = single_of(hart.f[rs1])
    c = single_of(hart.f[rs3])
    hart.f[rd] = SINGLE_BOX | single_fma(hart, a, single_of(hart.f[rs2]), c, mode)


@instruction("fmsub.s frd, frs1, frs2, frs3, rm", "rs3 00 rs2 rs1 rm rd 1000111", extension="F")
def fmsub_s(hart: Any, rd: U64, rs1: U64, rs2: U64, rs3: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    a = single_of(hart.f[rs1])
    c = single_of(hart.f[rs3]) ^ SINGLE_SIGN
    hart.f[rd] = SINGLE_BOX | single_fma(hart, a, single_of(hart.f[rs2]), c, mode)


@instruction("fnmsub.s frd, frs1, frs2, frs3, rm", "rs3 00 rs2 rs1 rm rd 1001011", extension="F")
def fnmsub_s(hart: Any, rd: U64, rs1: U64, rs2: U64, rs3: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    a = single_of(hart.f[rs1]) ^ SINGLE_SIGN
    c = single_of(hart.f[rs3])
    hart.f[rd] = SINGLE_BOX | single_fma(hart, a, single_of(hart.f[rs2]), c, mode)


@instruction("fnmadd.s frd, frs1, frs2, frs3, rm", "rs3 00 rs2 rs1 rm rd 1001111", extension="F")
def fnmadd_s(hart: Any, rd: U64, rs1: U64, rs2: U64, rs3: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    a = single_of(hart.f[rs1]) ^ SINGLE_SIGN
    c = single_of(hart.f[rs3]) ^ SINGLE_SIGN
    hart.f[rd] = SINGLE_BOX | single_fma(hart, a, single_of(hart.f[rs2]), c, mode)


# Sign injection, minimum and maximum.


@instruction("fsgnj.s frd, frs1, frs2", "0010000 rs2 rs1 000 rd 1010011", extension="F")
def fsgnj_s(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    require_fp(hart)
    mark_fp_dirty(hart)
    a = single_of(hart.f[rs1])
    b = single_of(hart.f[rs2])
    hart.f[rd] = SINGLE_BOX | (a & (SINGLE_SIGN - 1)) | (b & SINGLE_SIGN)


@instruction("fsgnjn.s frd, frs1, frs2", "0010000 rs2 rs1 001 rd 1010011", extension="F")
def fsgnjn_s(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    require_fp(hart)
    mark_fp_dirty(hart)
    a = single_of(hart.f[rs1])
    b = single_of(hart.f[rs2])
    hart.f[rd] = SINGLE_BOX | (a & (SINGLE_SIGN - 1)) | (~b & SINGLE_SIGN)


@instruction("fsgnjx.s frd, frs1, frs2", "0010000 rs2 rs1 010 rd 1010011", extension="F")
def fsgnjx_s(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    require_fp(hart)
    mark_fp_dirty(hart)
    a = single_of(hart.f[rs1])
    b = single_of(hart.f[rs2])
    hart.f[rd] = SINGLE_BOX | (a ^ (b & SINGLE_SIGN))


@instruction("fmin.s frd, frs1, frs2", "0010100 rs2 rs1 000 rd 1010011", extension="F")
def fmin_s(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    require_fp(hart)
    mark_fp_dirty(hart)
    hart.f[rd] = SINGLE_BOX | soft_pick(hart, single_of(hart.f[rs1]), single_of(hart.f[rs2]), False, 8, 23)


@instruction("fmax.s frd, frs1, frs2", "0010100 rs2 rs1 001 rd 1010011", extension="F")
def fmax_s(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    require_fp(hart)
    mark_fp_dirty(hart)
    hart.f[rd] = SINGLE_BOX | soft_pick(hart, single_of(hart.f[rs1]), single_of(hart.f[rs2]), True, 8, 23)


# Comparison and classification.


@instruction("feq.s rd, frs1, frs2", "1010000 rs2 rs1 010 rd 1010011", extension="F")
def feq_s(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    require_fp(hart)
    hart.x[rd] = soft_eq(hart, single_of(hart.f[rs1]), single_of(hart.f[rs2]), 8, 23)


@instruction("flt.s rd, frs1, frs2", "1010000 rs2 rs1 001 rd 1010011", extension="F")
def flt_s(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    require_fp(hart)
    hart.x[rd] = soft_lt(hart, single_of(hart.f[rs1]), single_of(hart.f[rs2]), 8, 23)


@instruction("fle.s rd, frs1, frs2", "1010000 rs2 rs1 000 rd 1010011", extension="F")
def fle_s(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    require_fp(hart)
    hart.x[rd] = soft_le(hart, single_of(hart.f[rs1]), single_of(hart.f[rs2]), 8, 23)


@instruction("fclass.s rd, frs1", "1110000 00000 rs1 001 rd 1010011", extension="F")
def fclass_s(hart: Any, rd: U64, rs1: U64) -> None:
    require_fp(hart)
    hart.x[rd] = soft_classify(single_of(hart.f[rs1]), 8, 23)


# Moves of bits.


@instruction("fmv.x.w rd, frs1", "1110000 00000 rs1 000 rd 1010011", extension="F")
def fmv_x_w(hart: Any, rd: U64, rs1: U64) -> None:
    require_fp(hart)
    hart.x[rd] = sext(hart.f[rs1], 32)


@instruction("fmv.w.x frd, rs1", "1111000 00000 rs1 000 rd 1010011", extension="F")
def fmv_w_x(hart: Any, rd: U64, rs1: U64) -> None:
    require_fp(hart)
    mark_fp_dirty(hart)
    hart.f[rd] = SINGLE_BOX | hart.x[rs1]


# Conversions to and from integers.


@instruction("fcvt.w.s rd, frs1, rm", "1100000 00000 rs1 rm rd 1010011", extension="F")
def fcvt_w_s(hart: Any, rd: U64, rs1: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    hart.x[rd] = single_to_w(hart, single_of(hart.f[rs1]), mode)


@instruction("fcvt.wu.s rd, frs1, rm", "1100000 00001 rs1 rm rd 1010011", extension="F")
def fcvt_wu_s(hart: Any, rd: U64, rs1: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    hart.x[rd] = single_to_wu(hart, single_of(hart.f[rs1]), mode)


@instruction("fcvt.l.s rd, frs1, rm", "1100000 00010 rs1 rm rd 1010011", extension="F")
def fcvt_l_s(hart: Any, rd: U64, rs1: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    hart.x[rd] = single_to_l(hart, single_of(hart.f[rs1]), mode)


@instruction("fcvt.lu.s rd, frs1, rm", "1100000 00011 rs1 rm rd 1010011", extension="F")
def fcvt_lu_s(hart: Any, rd: U64, rs1: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    hart.x[rd] = single_to_lu(hart, single_of(hart.f[rs1]), mode)


@instruction("fcvt.s.w frd, rs1, rm", "1101000 00000 rs1 rm rd 1010011", extension="F")
def fcvt_s_w(hart: Any, rd: U64, rs1: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    hart.f[rd] = SINGLE_BOX | single_from_w(hart, hart.x[rs1], mode)


@instruction("fcvt.s.wu frd, rs1, rm", "1101000 00001 rs1 rm rd 1010011", extension="F")
def fcvt_s_wu(hart: Any, rd: U64, rs1: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    hart.f[rd] = SINGLE_BOX | single_from_wu(hart, hart.x[rs1], mode)


@instruction("fcvt.s.l frd, rs1, rm", "1101000 00010 rs1 rm rd 1010011", extension="F")
def fcvt_s_l(hart: Any, rd: U64, rs1: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    hart.f[rd] = SINGLE_BOX | single_from_l(hart, hart.x[rs1], mode)


@instruction("fcvt.s.lu frd, rs1, rm", "1101000 00011 rs1 rm rd 1010011", extension="F")
def fcvt_s_lu(hart: Any, rd: U64, rs1: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    hart.f[rd] = SINGLE_BOX | single_from_lu(hart, hart.x[rs1], mode)
