"""Subset functions that test_compiler runs both ways."""

from __future__ import annotations

from typing import Any

from trapline.lang.functions import IllegalInstruction, Trap, cold, dispatch, inline
from trapline.lang.values import (
    S64,
    U64,
    bit,
    byte_reverse,
    clz,
    ctz,
    mulh,
    mulhsu,
    mulhu,
    popcount,
    sdiv,
    sext,
    signed,
    srem,
    u64,
    udiv,
    unsigned,
    urem,
    zext,
)

TABLE = (3, 1 << 63, 0xFFFF_FFFF_FFFF_FFFF)


@cold
def arithmetic(a: U64, b: U64) -> U64:
    return (a + b) * 3 - (a ^ b) + (~a & b) - (-b | 5)


@cold
def shifts(a: U64, b: U64) -> U64:
    return (a << (b & 63)) ^ (a >> (b & 31)) ^ unsigned(signed(a) >> (b & 63))


@cold
def comparisons(a: U64, b: U64) -> U64:
    word = u64(a < b) | u64(a <= b) << 1 | u64(a > b) << 2 | u64(a >= b) << 3 | u64(a == b) << 4 | u64(a != b) << 5
    return word | u64(signed(a) < signed(b)) << 6 | u64(signed(b) > 0) << 7 | u64(signed(a) >= -1) << 8


@cold
def widths(a: U64, b: U64) -> U64:
    return sext(a, 32) + zext(b, 17) + sext(b, 8) + sext(a, 1) + u64(bit(a, 40)) + sext(a, 64)


@cold
def builtins(a: U64, b: U64) -> U64:
    return (mulhu(a, b) ^ mulh(a, b) ^ mulhsu(a, b)) + clz(a) * 3 + ctz(b) * 5 + popcount(a) + byte_reverse(b)


@cold
def division(a: U64, b: U64) -> U64:
    if b == 0:
        return a
    if a == 1 << 63 and b == 0xFFFF_FFFF_FFFF_FFFF:
        return U64(7)
    return udiv(a, b) ^ urem(a, b) ^ unsigned(sdiv(signed(a), signed(b))) ^ unsigned(srem(signed(a), signed(b)))


@inline
def maximum(a: S64, b: S64) -> S64:
    return a if a > b else b


@cold
def logic(a: U64, b: U64) -> U64:
    both = a > 5 and (b > 5 or not a < 3)
    if both and a != b:
        return unsigned(maximum(signed(a), signed(b)))
    elif both or b == 0:
        return U64(1) if a == 0 else U64(2)
    return b


@cold
def loops(a: U64, b: U64) -> U64:
    total = U64(0)
    for i in range(3, 40):
        if (a >> i) & 1 == 0:
            continue
        if total > b:
            break
        total += TABLE[i & 1] + i
        for j in range(3):
            total = total ^ (TABLE[j] << (j + 1))
    return total


@cold
def even(hart: Any, a: U64, b: U64) -> U64:
    return a + b


@cold
def odd(hart: Any, a: U64, b: U64) -> U64:
    if b == 3:
        raise Trap(5, a, b)
    return a - b


CHOICES = {0: even, 1: odd, 1 << 40: even}


@cold
def dispatching(hart: Any, a: U64, b: U64) -> U64:
    key = a & 0x100_0000_0003
    if key in CHOICES:
        return dispatch(CHOICES, key, hart, a, b)
    return U64(9)


@cold
def state(hart: Any, a: U64, b: U64) -> U64:
    hart.x[a & 31] = b
    hart.mscratch = hart.x[a & 31] + hart.x[b & 31]
    hart.scratch[a & 7] += 3
    if hart.mscratch == 11:
        raise IllegalInstruction()
    return hart.mscratch + hart.scratch[b & 7]


@cold
def may_trap(hart: Any, a: U64) -> U64:
    if a == 4:
        raise Trap(5, a)
    return a


@cold
def writes_then_traps(hart: Any, a: U64) -> None:
    hart.x[a] = a
    hart.x[a] = may_trap(hart, a)


@cold
def traps_then_writes(hart: Any, a: U64) -> None:
    if a == 9:
        hart.x[a] = a
        return
    hart.x[a] = may_trap(hart, a)


PURE = [arithmetic, shifts, comparisons, widths, builtins, division, logic, loops]
WITH_STATE = [dispatching, state]
