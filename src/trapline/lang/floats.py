"""Primitives that use the host's floating-point unit on bit patterns.

They round to nearest, ties to even, and raise no flags that a subset function could see. A subset
function may use a result only where isa.float shows that it equals the integer result; NaN,
infinite, zero and subnormal results say nothing more than that. Single-precision patterns occupy
the low 32 bits; the upper bits of the operands are ignored, those of the results are zero. Integers are of 64 bits,
two's complement where a name says `i64`.
"""

from __future__ import annotations

import math
import struct
from fractions import Fraction

from trapline.lang.functions import primitive
from trapline.lang.values import U64

_F64 = struct.Struct("<d")
_U64 = struct.Struct("<Q")
_F32 = struct.Struct("<f")
_U32 = struct.Struct("<I")

_NAN64, _NAN32 = U64(0x7FF8 << 48), U64(0x7FC0 << 16)
_INF32 = 0x7F80 << 16
_OVERFLOW32 = math.ldexp(2 - 2**-24, 127)  # the least magnitude that rounds to infinity


def _double(bits: int) -> float:
    return float(_F64.unpack(_U64.pack(bits))[0])


def _bits64(value: float) -> U64:
    return U64(_U64.unpack(_F64.pack(value))[0])


def _single(bits: int) -> float:
    return float(_F32.unpack(_U32.pack(bits & 0xFFFFFFFF))[0])


def _bits32(value: float) -> U64:
    """Round a double to single. After one + - * / or sqrt of singles this second rounding is
    innocuous, since 53 >= 2 * 24 + 2 (Figueroa, "When is double rounding innocuous?").
    """
    if math.isnan(value):
        return _NAN32
    if abs(value) >= _OVERFLOW32:
        return U64(_INF32 | (value < 0) << 31)
    return U64(_U32.unpack(_F32.pack(value))[0])


def _divide(a: float, b: float) -> float:
    if b == 0:
        return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1, b)
    return a / b


def _square_root(a: float) -> float:
    return math.nan if a < 0 else math.sqrt(a)


def _fused(a: float, b: float, c: float) -> Fraction | None:
    """Return a * b + c exactly; None where that is not a finite number other than zero."""
    if not (math.isfinite(a) and math.isfinite(b) and math.isfinite(c)):
        return None
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    return exact or None


def _to_odd(exact: Fraction) -> float:
    """Round to double so that a later rounding to single sees neither a false tie nor a false exact."""
    near = float(exact)
    if Fraction(near) == exact or int(_bits64(near)) & 1:
        return near
    return math.nextafter(near, math.inf if exact > Fraction(near) else -math.inf)


@primitive
def host_f64_add(a: U64, b: U64) -> U64:
    """a + b."""
    return _bits64(_double(a) + _double(b))


@primitive
def host_f64_sub(a: U64, b: U64) -> U64:
    """a - b."""
    return _bits64(_double(a) - _double(b))


@primitive
def host_f64_mul(a: U64, b: U64) -> U64:
    """a * b."""
    return _bits64(_double(a) * _double(b))


@primitive
def host_f64_div(a: U64, b: U64) -> U64:
    """a / b."""
    return _bits64(_divide(_double(a), _double(b)))


@primitive
def host_f64_sqrt(a: U64) -> U64:
    """The square root of a."""
    return _bits64(_square_root(_double(a)))


@primitive
def host_f64_fma(a: U64, b: U64, c: U64) -> U64:
    """a * b + c with one rounding."""
    exact = _fused(_double(a), _double(b), _double(c))
    if exact is None:
        return _NAN64
    try:
        return _bits64(float(exact))
    except OverflowError:
        return _bits64(math.inf if exact > 0 else -math.inf)


@primitive
def host_f32_add(a: U64, b: U64) -> U64:
    """a + b."""
    return _bits32(_single(a) + _single(b))


@primitive
def host_f32_sub(a: U64, b: U64) -> U64:
    """a - b."""
    return _bits32(_single(a) - _single(b))


@primitive
def host_f32_mul(a: U64, b: U64) -> U64:
    """a * b."""
    return _bits32(_single(a) * _single(b))


@primitive
def host_f32_div(a: U64, b: U64) -> U64:
    """a / b."""
    return _bits32(_divide(_single(a), _single(b)))


@primitive
def host_f32_sqrt(a: U64) -> U64:
    """The square root of a."""
    return _bits32(_square_root(_single(a)))


@primitive
def host_f32_fma(a: U64, b: U64, c: U64) -> U64:
    """a * b + c with one rounding."""
    exact = _fused(_single(a), _single(b), _single(c))
    return _NAN32 if exact is None else _bits32(_to_odd(exact))


@primitive
def host_f64_ordered(a: U64, b: U64) -> bool:
    """Neither is a NaN."""
    return not (math.isnan(_double(a)) or math.isnan(_double(b)))


@primitive
def host_f64_eq(a: U64, b: U64) -> bool:
    """a == b; False with a NaN."""
    return _double(a) == _double(b)


@primitive
def host_f64_lt(a: U64, b: U64) -> bool:
    """a < b; False with a NaN."""
    return _double(a) < _double(b)


@primitive
def host_f64_le(a: U64, b: U64) -> bool:
    """a <= b; False with a NaN."""
    return _double(a) <= _double(b)


@primitive
def host_f32_ordered(a: U64, b: U64) -> bool:
    """Neither is a NaN."""
    return not (math.isnan(_single(a)) or math.isnan(_single(b)))


@primitive
def host_f32_eq(a: U64, b: U64) -> bool:
    """a == b; False with a NaN."""
    return _single(a) == _single(b)


@primitive
def host_f32_lt(a: U64, b: U64) -> bool:
    """a < b; False with a NaN."""
    return _single(a) < _single(b)


@primitive
def host_f32_le(a: U64, b: U64) -> bool:
    """a <= b; False with a NaN."""
    return _single(a) <= _single(b)


def _signed(value: int) -> int:
    return int(value) - (int(value) >> 63 << 64)


@primitive
def host_f64_from_i64(a: U64) -> U64:
    """A signed integer."""
    return _bits64(float(_signed(a)))


@primitive
def host_f64_from_u64(a: U64) -> U64:
    """An unsigned integer."""
    return _bits64(float(int(a)))


@primitive
def host_f32_from_i64(a: U64) -> U64:
    """A signed integer."""
    return _bits32(_to_odd(Fraction(_signed(a))))


@primitive
def host_f32_from_u64(a: U64) -> U64:
    """An unsigned integer."""
    return _bits32(_to_odd(Fraction(int(a))))


@primitive
def host_f64_to_i64(a: U64) -> U64:
    """The integer towards zero; only for magnitudes below 2^63."""
    return U64(int(_double(a)) & (1 << 64) - 1)


@primitive
def host_f32_to_i64(a: U64) -> U64:
    """The integer towards zero; only for magnitudes below 2^63."""
    return U64(int(_single(a)) & (1 << 64) - 1)


@primitive
def host_f64_from_f32(a: U64) -> U64:
    """A single as a double."""
    return _bits64(_single(a))


@primitive
def host_f32_from_f64(a: U64) -> U64:
    """A double as a single."""
    return _bits32(_double(a))
