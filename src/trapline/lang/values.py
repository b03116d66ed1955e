"""The values of the Python subset: 64-bit words, unsigned or signed.

Every expression of a subset function is a `U64`, an `S64` or a bool. Arithmetic wraps at 64 bits,
`>>` and the comparisons follow the type, a literal takes the type of the other side, and mixing
U64 with S64 is an error here as it is in the compiler (docs/subset.md).
"""

from __future__ import annotations

from typing import Any

MASK64 = (1 << 64) - 1
_SIGN = 1 << 63

_new = int.__new__


class U64(int):
    """A 64-bit unsigned value."""

    __slots__ = ()

    def __new__(cls, value: int) -> U64:
        return _new(cls, value & MASK64)

    def __add__(self, other: int) -> U64:
        return _new(U64, int.__add__(self, other) & MASK64)

    __radd__ = __add__

    def __sub__(self, other: int) -> U64:
        return _new(U64, int.__sub__(self, other) & MASK64)

    def __rsub__(self, other: int) -> U64:
        return _new(U64, int.__rsub__(self, other) & MASK64)

    def __mul__(self, other: int) -> U64:
        return _new(U64, int.__mul__(self, other) & MASK64)

    __rmul__ = __mul__

    def __and__(self, other: int) -> U64:
        return _new(U64, int.__and__(self, other))

    __rand__ = __and__

    def __or__(self, other: int) -> U64:
        return _new(U64, int.__or__(self, other) & MASK64)

    __ror__ = __or__

    def __xor__(self, other: int) -> U64:
        return _new(U64, int.__xor__(self, other) & MASK64)

    __rxor__ = __xor__

    def __lshift__(self, count: int) -> U64:
        if count > 63:
            raise ValueError(f"shift count {int(count)} is not masked to 0..63")
        return _new(U64, int.__lshift__(self, count) & MASK64)

    def __rlshift__(self, value: int) -> U64:
        return U64(value) << self

    def __rshift__(self, count: int) -> U64:
        if count > 63:
            raise ValueError(f"shift count {int(count)} is not masked to 0..63")
        return _new(U64, int.__rshift__(self, count))

    def __rrshift__(self, value: int) -> U64:
        return U64(value) >> self

    def __invert__(self) -> U64:
        return _new(U64, int.__xor__(self, MASK64))

    def __neg__(self) -> U64:
        return _new(U64, -int(self) & MASK64)

    def _refuse(self, *_: Any) -> Any:
        raise TypeError("// and % are not in the subset: use udiv, urem, sdiv, srem")

    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __truediv__ = __pow__ = _refuse

    def __bool__(self) -> bool:
        raise TypeError("a 64-bit value is not a condition: compare it")


def _same(left: Any, right: Any) -> int:
    if type(right) is U64:
        raise TypeError("S64 mixed with U64: convert with signed() or unsigned()")
    return int(right)


class S64(U64):
    """The same 64 bits read as two's complement."""

    __slots__ = ()

    def __new__(cls, value: int) -> S64:
        value = int(value) & MASK64
        return _new(cls, value - (1 << 64) if value & _SIGN else value)

    def __add__(self, other: int) -> S64:
        return S64(int(self) + _same(self, other))

    __radd__ = __add__

    def __sub__(self, other: int) -> S64:
        return S64(int(self) - _same(self, other))

    def __rsub__(self, other: int) -> S64:
        return S64(_same(self, other) - int(self))

    def __mul__(self, other: int) -> S64:
        return S64(int(self) * _same(self, other))

    __rmul__ = __mul__

    def __and__(self, other: int) -> S64:
        return S64(int(self) & _same(self, other))

    __rand__ = __and__

    def __or__(self, other: int) -> S64:
        return S64(int(self) | _same(self, other))

    __ror__ = __or__

    def __xor__(self, other: int) -> S64:
        return S64(int(self) ^ _same(self, other))

    __rxor__ = __xor__

    def __lshift__(self, count: int) -> S64:
        if count > 63:
            raise ValueError(f"shift count {int(count)} is not masked to 0..63")
        return S64(int(self) << int(count))

    def __rshift__(self, count: int) -> S64:
        if count > 63:
            raise ValueError(f"shift count {int(count)} is not masked to 0..63")
        return S64(int(self) >> int(count))

    def __invert__(self) -> S64:
        return S64(~int(self))

    def __neg__(self) -> S64:
        return S64(-int(self))

    def __lt__(self, other: int) -> bool:
        return int(self) < _same(self, other)

    def __le__(self, other: int) -> bool:
        return int(self) <= _same(self, other)

    def __gt__(self, other: int) -> bool:
        return int(self) > _same(self, other)

    def __ge__(self, other: int) -> bool:
        return int(self) >= _same(self, other)

    def __eq__(self, other: object) -> bool:
        return int(self) == _same(self, other)

    def __ne__(self, other: object) -> bool:
        return int(self) != _same(self, other)

    __hash__ = int.__hash__


def signed(value: U64) -> S64:
    """Return the same bits as S64."""
    return S64(value)


def unsigned(value: S64) -> U64:
    """Return the same bits as U64."""
    return U64(int(value))


def u64(condition: bool) -> U64:
    """Return 1 or 0 for a condition: the only way from a bool to a value."""
    return _new(U64, 1 if condition else 0)


def sext(value: U64, bits: int) -> U64:
    """Sign-extend the low `bits` bits (a literal, 1..64)."""
    v = int(value) & ((1 << bits) - 1)
    return _new(U64, v - (1 << bits) & MASK64 if v >> (bits - 1) else v)


def zext(value: U64, bits: int) -> U64:
    """Keep the low `bits` bits (a literal, 1..64)."""
    return _new(U64, int(value) & ((1 << bits) - 1))


def bit(value: U64, number: int) -> bool:
    """Return whether bit `number` (0..63) is set."""
    return bool(int(value) >> number & 1)


def mulhu(a: U64, b: U64) -> U64:
    """High 64 bits of the unsigned 128-bit product."""
    return _new(U64, int(a) * int(b) >> 64)


def mulh(a: U64, b: U64) -> U64:
    """High 64 bits of the signed 128-bit product."""
    return U64(int(S64(a)) * int(S64(b)) >> 64)


def mulhsu(a: U64, b: U64) -> U64:
    """High 64 bits of the product of a signed and an unsigned value."""
    return U64(int(S64(a)) * int(b) >> 64)


def udiv(a: U64, b: U64) -> U64:
    """Unsigned quotient; the source guards b != 0."""
    return _new(U64, int(a) // int(b))


def urem(a: U64, b: U64) -> U64:
    """Unsigned remainder; the source guards b != 0."""
    return _new(U64, int(a) % int(b))


def sdiv(a: S64, b: S64) -> S64:
    """Quotient rounded toward zero; the source guards b != 0 and the one overflow."""
    q = abs(int(a)) // abs(int(b))
    return S64(q if (a < 0) == (b < 0) else -q)


def srem(a: S64, b: S64) -> S64:
    """Remainder with the sign of the dividend; the source guards b != 0 and the one overflow."""
    r = abs(int(a)) % abs(int(b))
    return S64(-r if a < 0 else r)


def clz(value: U64) -> U64:
    """Leading zeros of 64 bits; 64 for 0."""
    return _new(U64, 64 - int(value).bit_length())


def ctz(value: U64) -> U64:
    """Trailing zeros of 64 bits; 64 for 0."""
    v = int(value)
    return _new(U64, (v & -v).bit_length() - 1 if v else 64)


def popcount(value: U64) -> U64:
    """Number of set bits."""
    return _new(U64, int(value).bit_count())


def byte_reverse(value: U64) -> U64:
    """Reverse the order of the eight bytes."""
    return _new(U64, int.from_bytes(int(value).to_bytes(8, "little"), "big"))
