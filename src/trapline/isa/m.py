"""M extension for integer multiplication and division.

Division by zero and the one signed overflow give the results that the spec's table names; neither traps.
"""

from __future__ import annotations

from trapline.lang.functions import inline, instruction
from trapline.lang.state import Hart
from trapline.lang.values import U64, sdiv, sext, signed, srem, udiv, unsigned, urem, zext
from trapline.lang.values import mulh as high_signed
from trapline.lang.values import mulhsu as high_signed_unsigned
from trapline.lang.values import mulhu as high_unsigned
from trapline.privilege.fields import ALL_ONES

MOST_NEGATIVE = 0x8000_0000_0000_0000


@inline
def divide_signed(a: U64, b: U64) -> U64:
    """Quotient rounded toward zero."""
    if b == 0:
        return U64(ALL_ONES)
    if a == MOST_NEGATIVE and b == ALL_ONES:
        return a
    return unsigned(sdiv(signed(a), signed(b)))


@inline
def divide_unsigned(a: U64, b: U64) -> U64:
    """Unsigned quotient."""
    if b == 0:
        return U64(ALL_ONES)
    return udiv(a, b)


@inline
def remainder_signed(a: U64, b: U64) -> U64:
    """Remainder with the sign of the dividend."""
    if b == 0:
        return a
    if a == MOST_NEGATIVE and b == ALL_ONES:
        return U64(0)
    return unsigned(srem(signed(a), signed(b)))


@inline
def remainder_unsigned(a: U64, b: U64) -> U64:
    """Unsigned remainder."""
    if b == 0:
        return a
    return urem(a, b)


@instruction("mul rd, rs1, rs2", "0000001 rs2 rs1 000 rd 0110011", extension="M")
def mul(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = hart.x[rs1] * hart.x[rs2]


@instruction("mulh rd, rs1, rs2", "0000001 rs2 rs1 001 rd 0110011", extension="M")
def mulh(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = high_signed(hart.x[rs1], hart.x[rs2])


@instruction("mulhsu rd, rs1, rs2", "0000001 rs2 rs1 010 rd 0110011", extension="M")
def mulhsu(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = high_signed_unsigned(hart.x[rs1], hart.x[rs2])


@instruction("mulhu rd, rs1, rs2", "0000001 rs2 rs1 011 rd 0110011", extension="M")
def mulhu(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = high_unsigned(hart.x[rs1], hart.x[rs2])


@instruction("div rd, rs1, rs2", "0000001 rs2 rs1 100 rd 0110011", extension="M")
def div(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = divide_signed(hart.x[rs1], hart.x[rs2])


@instruction("divu rd, rs1, rs2", "0000001 rs2 rs1 101 rd 0110011", extension="M")
def divu(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = divide_unsigned(hart.x[rs1], hart.x[rs2])


@instruction("rem rd, rs1, rs2", "0000001 rs2 rs1 110 rd 0110011", extension="M")
def rem(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = remainder_signed(hart.x[rs1], hart.x[rs2])


@instruction("remu rd, rs1, rs2", "0000001 rs2 rs1 111 rd 0110011", extension="M")
def remu(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = remainder_unsigned(hart.x[rs1], hart.x[rs2])


# The word forms: the quotient of the one overflow, 2^31, wraps to -2^31 by itself.


@instruction("mulw rd, rs1, rs2", "0000001 rs2 rs1 000 rd 0111011", extension="M")
def mulw(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = sext(hart.x[rs1] * hart.x[rs2], 32)


@instruction("divw rd, rs1, rs2", "0000001 rs2 rs1 100 rd 0111011", extension="M")
def divw(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = sext(divide_signed(sext(hart.x[rs1], 32), sext(hart.x[rs2], 32)), 32)


@instruction("divuw rd, rs1, rs2", "0000001 rs2 rs1 101 rd 0111011", extension="M")
def divuw(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = sext(divide_unsigned(zext(hart.x[rs1], 32), zext(hart.x[rs2], 32)), 32)


@instruction("remw rd, rs1, rs2", "0000001 rs2 rs1 110 rd 0111011", extension="M")
def remw(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = sext(remainder_signed(sext(hart.x[rs1], 32), sext(hart.x[rs2], 32)), 32)


@instruction("remuw rd, rs1, rs2", "0000001 rs2 rs1 111 rd 0111011", extension="M")
def remuw(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = sext(remainder_unsigned(zext(hart.x[rs1], 32), zext(hart.x[rs2], 32)), 32)
