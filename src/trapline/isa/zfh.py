"""Zfh: half-precision floating point, and its subset Zfhmin (Unprivileged spec, Zfh chapter). Guards as in isa.f."""

from __future__ import annotations

from typing import Any

from trapline.isa.float.compare import soft_classify, soft_eq, soft_le, soft_lt, soft_pick
from trapline.isa.float.double import double_from_half
from trapline.isa.float.half import (
    half_add,
    half_div,
    half_fma,
    half_from_double,
    half_from_l,
    half_from_lu,
    half_from_single,
    half_from_w,
    half_from_wu,
    half_mul,
    half_sqrt,
    half_to_l,
    half_to_lu,
    half_to_w,
    half_to_wu,
)
from trapline.isa.float.registers import HALF_BOX, HALF_SIGN, SINGLE_BOX, half_of, rounding_mode, single_of
from trapline.isa.float.single import single_from_half
from trapline.lang.functions import instruction
from trapline.lang.values import U64, sext
from trapline.privilege.guards import mark_fp_dirty, require_fp
from trapline.privilege.memory import load, store

# Loads and stores.


@instruction("flh frd, imm(rs1)", "imm[11:0] rs1 001 rd 0000111", extension="Zfh|Zfhmin")
def flh(hart: Any, rd: U64, rs1: U64, imm: U64) -> None:
    require_fp(hart)
    value = load(hart, hart.x[rs1] + imm, 2)
    mark_fp_dirty(hart)
    hart.f[rd] = HALF_BOX | value


@instruction("fsh frs2, imm(rs1)", "imm[11:5] rs2 rs1 001 imm[4:0] 0100111", extension="Zfh|Zfhmin")
def fsh(hart: Any, rs1: U64, rs2: U64, imm: U64) -> None:
    require_fp(hart)
    store(hart, hart.x[rs1] + imm, 2, hart.f[rs2])


# Arithmetic.


@instruction("fadd.h frd, frs1, frs2, rm", "0000010 rs2 rs1 rm rd 1010011", extension="Zfh")
def fadd_h(hart: Any, rd: U64, rs1: U64, rs2: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    hart.f[rd] = HALF_BOX | half_add(hart, half_of(hart.f[rs1]), half_of(hart.f[rs2]), mode)


@instruction("fsub.h frd, frs1, frs2, rm", "0000110 rs2 rs1 rm rd 1010011", extension="Zfh")
def fsub_h(hart: Any, rd: U64, rs1: U64, rs2: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    hart.f[rd] = HALF_BOX | half_add(hart, half_of(hart.f[rs1]), half_of(hart.f[rs2]) ^ HALF_SIGN, mode)


@instruction("fmul.h frd, frs1, frs2, rm", "0001010 rs2 rs1 rm rd 1010011", extension="Zfh")
def fmul_h(hart: Any, rd: U64, rs1: U64, rs2: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    hart.f[rd] = HALF_BOX | half_mul(hart, half_of(hart.f[rs1]), half_of(hart.f[rs2]), mode)


@instruction("fdiv.h frd, frs1, frs2, rm", "0001110 rs2 rs1 rm rd 1010011", extension="Zfh")
def fdiv_h(hart: Any, rd: U64, rs1: U64, rs2: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    hart.f[rd] = HALF_BOX | half_div(hart, half_of(hart.f[rs1]), half_of(hart.f[rs2]), mode)


@instruction("fsqrt.h frd, frs1, rm", "0101110 00000 rs1 rm rd 1010011", extension="Zfh")
def fsqrt_h(hart: Any, rd: U64, rs1: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    hart.f[rd] = HALF_BOX | half_sqrt(hart, half_of(hart.f[rs1]), mode)


@instruction("fmadd.h frd, frs1, frs2, frs3, rm", "rs3 10 rs2 rs1 rm rd 1000011", extension="Zfh")
def fmadd_h(hart: Any, rd: U64, rs1: U64, rs2: U64, rs3: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    a = half_of(hart.f[rs1])
    c = half_of(hart.f[rs3])
    hart.f[rd] = HALF_BOX | half_fma(hart, a, half_of(hart.f[rs2]), c, mode)


@instruction("fmsub.h frd, frs1, frs2, frs3, rm", "rs3 10 rs2 rs1 rm rd 1000111", extension="Zfh")
def fmsub_h(hart: Any, rd: U64, rs1: U64, rs2: U64, rs3: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    a = half_of(hart.f[rs1])
    c = half_of(hart.f[rs3]) ^ HALF_SIGN
    hart.f[rd] = HALF_BOX | half_fma(hart, a, half_of(hart.f[rs2]), c, mode)


@instruction("fnmsub.h frd, frs1, frs2, frs3, rm", "rs3 10 rs2 rs1 rm rd 1001011", extension="Zfh")
def fnmsub_h(hart: Any, rd: U64, rs1: U64, rs2: U64, rs3: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    a = half_of(hart.f[rs1]) ^ HALF_SIGN
    c = half_of(hart.f[rs3])
    hart.f[rd] = HALF_BOX | half_fma(hart, a, half_of(hart.f[rs2]), c, mode)


@instruction("fnmadd.h frd, frs1, frs2, frs3, rm", "rs3 10 rs2 rs1 rm rd 1001111", extension="Zfh")
def fnmadd_h(hart: Any, rd: U64, rs1: U64, rs2: U64, rs3: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    a = half_of(hart.f[rs1]) ^ HALF_SIGN
    c = half_of(hart.f[rs3]) ^ HALF_SIGN
    hart.f[rd] = HALF_BOX | half_fma(hart, a, half_of(hart.f[rs2]), c, mode)


# Sign injection, minimum and maximum.


@instruction("fsgnj.h frd, frs1, frs2", "0010010 rs2 rs1 000 rd 1010011", extension="Zfh")
def fsgnj_h(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    require_fp(hart)
    mark_fp_dirty(hart)
    a = half_of(hart.f[rs1])
    b = half_of(hart.f[rs2])
    hart.f[rd] = HALF_BOX | (a & (HALF_SIGN - 1)) | (b & HALF_SIGN)


@instruction("fsgnjn.h frd, frs1, frs2", "0010010 rs2 rs1 001 rd 1010011", extension="Zfh")
def fsgnjn_h(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    require_fp(hart)
    mark_fp_dirty(hart)
    a = half_of(hart.f[rs1])
    b = half_of(hart.f[rs2])
    hart.f[rd] = HALF_BOX | (a & (HALF_SIGN - 1)) | (~b & HALF_SIGN)


@instruction("fsgnjx.h frd, frs1, frs2", "0010010 rs2 rs1 010 rd 1010011", extension="Zfh")
def fsgnjx_h(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    require_fp(hart)
    mark_fp_dirty(hart)
    a = half_of(hart.f[rs1])
    b = half_of(hart.f[rs2])
    hart.f[rd] = HALF_BOX | (a ^ (b & HALF_SIGN))


@instruction("fmin.h frd, frs1, frs2", "0010110 rs2 rs1 000 rd 1010011", extension="Zfh")
def fmin_h(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    require_fp(hart)
    mark_fp_dirty(hart)
    hart.f[rd] = HALF_BOX | soft_pick(hart, half_of(hart.f[rs1]), half_of(hart.f[rs2]), False, 5, 10)


@instruction("fmax.h frd, frs1, frs2", "0010110 rs2 rs1 001 rd 1010011", extension="Zfh")
def fmax_h(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    require_fp(hart)
    mark_fp_dirty(hart)
    hart.f[rd] = HALF_BOX | soft_pick(hart, half_of(hart.f[rs1]), half_of(hart.f[rs2]), True, 5, 10)


# Comparison and classification.


@instruction("feq.h rd, frs1, frs2", "1010010 rs2 rs1 010 rd 1010011", extension="Zfh")
def feq_h(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    require_fp(hart)
    hart.x[rd] = soft_eq(hart, half_of(hart.f[rs1]), half_of(hart.f[rs2]), 5, 10)


@instruction("flt.h rd, frs1, frs2", "1010010 rs2 rs1 001 rd 1010011", extension="Zfh")
def flt_h(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    require_fp(hart)
    hart.x[rd] = soft_lt(hart, half_of(hart.f[rs1]), half_of(hart.f[rs2]), 5, 10)


@instruction("fle.h rd, frs1, frs2", "1010010 rs2 rs1 000 rd 1010011", extension="Zfh")
def fle_h(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    require_fp(hart)
    hart.x[rd] = soft_le(hart, half_of(hart.f[rs1]), half_of(hart.f[rs2]), 5, 10)


@instruction("fclass.h rd, frs1", "1110010 00000 rs1 001 rd 1010011", extension="Zfh")
def fclass_h(hart: Any, rd: U64, rs1: U64) -> None:
    require_fp(hart)
    hart.x[rd] = soft_classify(half_of(hart.f[rs1]), 5, 10)


# Moves of bits.


@instruction("fmv.x.h rd, frs1", "1110010 00000 rs1 000 rd 1010011", extension="Zfh|Zfhmin")
def fmv_x_h(hart: Any, rd: U64, rs1: U64) -> None:
    require_fp(hart)
    hart.x[rd] = sext(hart.f[rs1], 16)


@instruction("fmv.h.x frd, rs1", "1111010 00000 rs1 000 rd 1010011", extension="Zfh|Zfhmin")
def fmv_h_x(hart: Any, rd: U64, rs1: U64) -> None:
    require_fp(hart)
    mark_fp_dirty(hart)
    hart.f[rd] = HALF_BOX | hart.x[rs1]


# Conversions to and from integers.


@instruction("fcvt.w.h rd, frs1, rm", "1100010 00000 rs1 rm rd 1010011", extension="Zfh")
def fcvt_w_h(hart: Any, rd: U64, rs1: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    hart.x[rd] = half_to_w(hart, half_of(hart.f[rs1]), mode)


@instruction("fcvt.wu.h rd, frs1, rm", "1100010 00001 rs1 rm rd 1010011", extension="Zfh")
def fcvt_wu_h(hart: Any, rd: U64, rs1: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    hart.x[rd] = half_to_wu(hart, half_of(hart.f[rs1]), mode)


@instruction("fcvt.l.h rd, frs1, rm", "1100010 00010 rs1 rm rd 1010011", extension="Zfh")
def fcvt_l_h(hart: Any, rd: U64, rs1: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    hart.x[rd] = half_to_l(hart, half_of(hart.f[rs1]), mode)


@instruction("fcvt.lu.h rd, frs1, rm", "1100010 00011 rs1 rm rd 1010011", extension="Zfh")
def fcvt_lu_h(hart: Any, rd: U64, rs1: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    hart.x[rd] = half_to_lu(hart, half_of(hart.f[rs1]), mode)


@instruction("fcvt.h.w frd, rs1, rm", "1101010 00000 rs1 rm rd 1010011", extension="Zfh")
def fcvt_h_w(hart: Any, rd: U64, rs1: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    hart.f[rd] = HALF_BOX | half_from_w(hart, hart.x[rs1], mode)


@instruction("fcvt.h.wu frd, rs1, rm", "1101010 00001 rs1 rm rd 1010011", extension="Zfh")
def fcvt_h_wu(hart: Any, rd: U64, rs1: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    hart.f[rd] = HALF_BOX | half_from_wu(hart, hart.x[rs1], mode)


@instruction("fcvt.h.l frd, rs1, rm", "1101010 00010 rs1 rm rd 1010011", extension="Zfh")
def fcvt_h_l(hart: Any, rd: U64, rs1: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    hart.f[rd] = HALF_BOX | half_from_l(hart, hart.x[rs1], mode)


@instruction("fcvt.h.lu frd, rs1, rm", "1101010 00011 rs1 rm rd 1010011", extension="Zfh")
def fcvt_h_lu(hart: Any, rd: U64, rs1: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    hart.f[rd] = HALF_BOX | half_from_lu(hart, hart.x[rs1], mode)


# Conversions between formats.


@instruction("fcvt.s.h frd, frs1, rm", "0100000 00010 rs1 rm rd 1010011", extension="Zfh|Zfhmin")
def fcvt_s_h(hart: Any, rd: U64, rs1: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    hart.f[rd] = SINGLE_BOX | single_from_half(hart, half_of(hart.f[rs1]), mode)


@instruction("fcvt.h.s frd, frs1, rm", "0100010 00000 rs1 rm rd 1010011", extension="Zfh|Zfhmin")
def fcvt_h_s(hart: Any, rd: U64, rs1: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    hart.f[rd] = HALF_BOX | half_from_single(hart, single_of(hart.f[rs1]), mode)


@instruction("fcvt.d.h frd, frs1, rm", "0100001 00010 rs1 rm rd 1010011", extension="D&Zfh|Zfhmin")
def fcvt_d_h(hart: Any, rd: U64, rs1: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    hart.f[rd] = double_from_half(hart, half_of(hart.f[rs1]), mode)


@instruction("fcvt.h.d frd, frs1, rm", "0100010 00001 rs1 rm rd 1010011", extension="D&Zfh|Zfhmin")
def fcvt_h_d(hart: Any, rd: U64, rs1: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    hart.f[rd] = HALF_BOX | half_from_double(hart, hart.f[rs1], mode)
