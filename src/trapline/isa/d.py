"""D: double-precision floating point (Unprivileged spec, D chapter). Guards as in isa.f."""

from __future__ import annotations

from typing import Any

from trapline.isa.float.compare import soft_classify, soft_eq, soft_le, soft_lt, soft_pick
from trapline.isa.float.double import (
    double_add,
    double_div,
    double_fma,
    double_from_l,
    double_from_lu,
    double_from_single,
    double_from_w,
    double_from_wu,
    double_mul,
    double_sqrt,
    double_to_l,
    double_to_lu,
    double_to_w,
    double_to_wu,
)
from trapline.isa.float.registers import DOUBLE_SIGN, SINGLE_BOX, rounding_mode, single_of
from trapline.isa.float.single import single_from_double
from trapline.lang.functions import instruction
from trapline.lang.values import U64
from trapline.privilege.guards import mark_fp_dirty, require_fp
from trapline.privilege.memory import load, store

# Loads and stores.


@instruction("fld frd, imm(rs1)", "imm[11:0] rs1 011 rd 0000111", extension="D")
def fld(hart: Any, rd: U64, rs1: U64, imm: U64) -> None:
    require_fp(hart)
    value = load(hart, hart.x[rs1] + imm, 8)
    mark_fp_dirty(hart)
    hart.f[rd] = value


@instruction("fsd frs2, imm(rs1)", "imm[11:5] rs2 rs1 011 imm[4:0] 0100111", extension="D")
def fsd(hart: Any, rs1: U64, rs2: U64, imm: U64) -> None:
    require_fp(hart)
    store(hart, hart.x[rs1] + imm, 8, hart.f[rs2])


# Arithmetic.


@instruction("fadd.d frd, frs1, frs2, rm", "0000001 rs2 rs1 rm rd 1010011", extension="D")
def fadd_d(hart: Any, rd: U64, rs1: U64, rs2: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    hart.f[rd] = double_add(hart, hart.f[rs1], hart.f[rs2], mode)


@instruction("fsub.d frd, frs1, frs2, rm", "0000101 rs2 rs1 rm rd 1010011", extension="D")
def fsub_d(hart: Any, rd: U64, rs1: U64, rs2: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    hart.f[rd] = double_add(hart, hart.f[rs1], hart.f[rs2] ^ DOUBLE_SIGN, mode)


@instruction("fmul.d frd, frs1, frs2, rm", "0001001 rs2 rs1 rm rd 1010011", extension="D")
def fmul_d(hart: Any, rd: U64, rs1: U64, rs2: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    hart.f[rd] = double_mul(hart, hart.f[rs1], hart.f[rs2], mode)


@instruction("fdiv.d frd, frs1, frs2, rm", "0001101 rs2 rs1 rm rd 1010011", extension="D")
def fdiv_d(hart: Any, rd: U64, rs1: U64, rs2: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    hart.f[rd] = double_div(hart, hart.f[rs1], hart.f[rs2], mode)


@instruction("fsqrt.d frd, frs1, rm", "0101101 00000 rs1 rm rd 1010011", extension="D")
def fsqrt_d(hart: Any, rd: U64, rs1: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    hart.f[rd] = double_sqrt(hart, hart.f[rs1], mode)


@instruction("fmadd.d frd, frs1, frs2, frs3, rm", "rs3 01 rs2 rs1 rm rd 1000011", extension="D")
def fmadd_d(hart: Any, rd: U64, rs1: U64, rs2: U64, rs3: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    a = hart.f[rs1]
    c = hart.f[rs3]
    hart.f[rd] = double_fma(hart, a, hart.f[rs2], c, mode)


@instruction("fmsub.d frd, frs1, frs2, frs3, rm", "rs3 01 rs2 rs1 rm rd 1000111", extension="D")
def fmsub_d(hart: Any, rd: U64, rs1: U64, rs2: U64, rs3: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    a = hart.f[rs1]
    c = hart.f[rs3] ^ DOUBLE_SIGN
    hart.f[rd] = double_fma(hart, a, hart.f[rs2], c, mode)


@instruction("fnmsub.d frd, frs1, frs2, frs3, rm", "rs3 01 rs2 rs1 rm rd 1001011", extension="D")
def fnmsub_d(hart: Any, rd: U64, rs1: U64, rs2: U64, rs3: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    a = hart.f[rs1] ^ DOUBLE_SIGN
    c = hart.f[rs3]
    hart.f[rd] = double_fma(hart, a, hart.f[rs2], c, mode)


@instruction("fnmadd.d frd, frs1, frs2, frs3, rm", "rs3 01 rs2 rs1 rm rd 1001111", extension="D")
def fnmadd_d(hart: Any, rd: U64, rs1: U64, rs2: U64, rs3: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    a = hart.f[rs1] ^ DOUBLE_SIGN
    c = hart.f[rs3] ^ DOUBLE_SIGN
    hart.f[rd] = double_fma(hart, a, hart.f[rs2], c, mode)


# Sign injection, minimum and maximum.


@instruction("fsgnj.d frd, frs1, frs2", "0010001 rs2 rs1 000 rd 1010011", extension="D")
def fsgnj_d(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    require_fp(hart)
    mark_fp_dirty(hart)
    a = hart.f[rs1]
    b = hart.f[rs2]
    hart.f[rd] = (a & (DOUBLE_SIGN - 1)) | (b & DOUBLE_SIGN)


@instruction("fsgnjn.d frd, frs1, frs2", "0010001 rs2 rs1 001 rd 1010011", extension="D")
def fsgnjn_d(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    require_fp(hart)
    mark_fp_dirty(hart)
    a = hart.f[rs1]
    b = hart.f[rs2]
    hart.f[rd] = (a & (DOUBLE_SIGN - 1)) | (~b & DOUBLE_SIGN)


@instruction("fsgnjx.d frd, frs1, frs2", "0010001 rs2 rs1 010 rd 1010011", extension="D")
def fsgnjx_d(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    require_fp(hart)
    mark_fp_dirty(hart)
    a = hart.f[rs1]
    b = hart.f[rs2]
    hart.f[rd] = a ^ (b & DOUBLE_SIGN)


@instruction("fmin.d frd, frs1, frs2", "0010101 rs2 rs1 000 rd 1010011", extension="D")
def fmin_d(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    require_fp(hart)
    mark_fp_dirty(hart)
    hart.f[rd] = soft_pick(hart, hart.f[rs1], hart.f[rs2], False, 11, 52)


@instruction("fmax.d frd, frs1, frs2", "0010101 rs2 rs1 001 rd 1010011", extension="D")
def fmax_d(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    require_fp(hart)
    mark_fp_dirty(hart)
    hart.f[rd] = soft_pick(hart, hart.f[rs1], hart.f[rs2], True, 11, 52)


# Comparison and classification.


@instruction("feq.d rd, frs1, frs2", "1010001 rs2 rs1 010 rd 1010011", extension="D")
def feq_d(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    require_fp(hart)
    hart.x[rd] = soft_eq(hart, hart.f[rs1], hart.f[rs2], 11, 52)


@instruction("flt.d rd, frs1, frs2", "1010001 rs2 rs1 001 rd 1010011", extension="D")
def flt_d(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    require_fp(hart)
    hart.x[rd] = soft_lt(hart, hart.f[rs1], hart.f[rs2], 11, 52)


@instruction("fle.d rd, frs1, frs2", "1010001 rs2 rs1 000 rd 1010011", extension="D")
def fle_d(hart: Any, rd: U64, rs1: U64, rs2: U64) -> None:
    require_fp(hart)
    hart.x[rd] = soft_le(hart, hart.f[rs1], hart.f[rs2], 11, 52)


@instruction("fclass.d rd, frs1", "1110001 00000 rs1 001 rd 1010011", extension="D")
def fclass_d(hart: Any, rd: U64, rs1: U64) -> None:
    require_fp(hart)
    hart.x[rd] = soft_classify(hart.f[rs1], 11, 52)


# Moves of bits.


@instruction("fmv.x.d rd, frs1", "1110001 00000 rs1 000 rd 1010011", extension="D")
def fmv_x_d(hart: Any, rd: U64, rs1: U64) -> None:
    require_fp(hart)
    hart.x[rd] = hart.f[rs1]


@instruction("fmv.d.x frd, rs1", "1111001 00000 rs1 000 rd 1010011", extension="D")
def fmv_d_x(hart: Any, rd: U64, rs1: U64) -> None:
    require_fp(hart)
    mark_fp_dirty(hart)
    hart.f[rd] = hart.x[rs1]


# Conversions to and from integers.


@instruction("fcvt.w.d rd, frs1, rm", "1100001 00000 rs1 rm rd 1010011", extension="D")
def fcvt_w_d(hart: Any, rd: U64, rs1: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    hart.x[rd] = double_to_w(hart, hart.f[rs1], mode)


@instruction("fcvt.wu.d rd, frs1, rm", "1100001 00001 rs1 rm rd 1010011", extension="D")
def fcvt_wu_d(hart: Any, rd: U64, rs1: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    hart.x[rd] = double_to_wu(hart, hart.f[rs1], mode)


@instruction("fcvt.l.d rd, frs1, rm", "1100001 00010 rs1 rm rd 1010011", extension="D")
def fcvt_l_d(hart: Any, rd: U64, rs1: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    hart.x[rd] = double_to_l(hart, hart.f[rs1], mode)


@instruction("fcvt.lu.d rd, frs1, rm", "1100001 00011 rs1 rm rd 1010011", extension="D")
def fcvt_lu_d(hart: Any, rd: U64, rs1: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    hart.x[rd] = double_to_lu(hart, hart.f[rs1], mode)


@instruction("fcvt.d.w frd, rs1, rm", "1101001 00000 rs1 rm rd 1010011", extension="D")
def fcvt_d_w(hart: Any, rd: U64, rs1: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    hart.f[rd] = double_from_w(hart, hart.x[rs1], mode)


@instruction("fcvt.d.wu frd, rs1, rm", "1101001 00001 rs1 rm rd 1010011", extension="D")
def fcvt_d_wu(hart: Any, rd: U64, rs1: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    hart.f[rd] = double_from_wu(hart, hart.x[rs1], mode)


@instruction("fcvt.d.l frd, rs1, rm", "1101001 00010 rs1 rm rd 1010011", extension="D")
def fcvt_d_l(hart: Any, rd: U64, rs1: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    hart.f[rd] = double_from_l(hart, hart.x[rs1], mode)


@instruction("fcvt.d.lu frd, rs1, rm", "1101001 00011 rs1 rm rd 1010011", extension="D")
def fcvt_d_lu(hart: Any, rd: U64, rs1: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    hart.f[rd] = double_from_lu(hart, hart.x[rs1], mode)


# Conversions between formats.


@instruction("fcvt.s.d frd, frs1, rm", "0100000 00001 rs1 rm rd 1010011", extension="D")
def fcvt_s_d(hart: Any, rd: U64, rs1: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    hart.f[rd] = SINGLE_BOX | single_from_double(hart, hart.f[rs1], mode)


@instruction("fcvt.d.s frd, frs1, rm", "0100001 00000 rs1 rm rd 1010011", extension="D")
def fcvt_d_s(hart: Any, rd: U64, rs1: U64, rm: U64) -> None:
    require_fp(hart)
    mode = rounding_mode(hart, rm)
    mark_fp_dirty(hart)
    hart.f[rd] = double_from_single(hart, single_of(hart.f[rs1]), mode)
