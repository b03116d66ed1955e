"""An independent oracle: exact rational arithmetic, then one rounding, written for clarity only.

It shares nothing with isa.float: numbers are Fractions, and the rounding is the definition of
IEEE 754 with tininess detected after rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

NX, UF, OF, DZ, NV = 1, 2, 4, 8, 16
RNE, RTZ, RDN, RUP, RMM = range(5)
MODES = (RNE, RTZ, RDN, RUP, RMM)
Result = tuple[int, int]  # bits, flags


@dataclass(frozen=True)
class Format:
    """A binary interchange format."""

    name: str
    e: int
    f: int

    @property
    def width(self) -> int:
        return 1 + self.e + self.f

    @property
    def emin(self) -> int:
        return 2 - (1 << (self.e - 1))

    @property
    def emax(self) -> int:
        return (1 << (self.e - 1)) - 1

    @property
    def inf(self) -> int:
        return ((1 << self.e) - 1) << self.f

    @property
    def nan(self) -> int:
        return self.inf | 1 << (self.f - 1)

    def negative(self, bits: int) -> bool:
        return bool(bits >> (self.width - 1))

    def magnitude(self, bits: int) -> int:
        return bits & ((1 << (self.width - 1)) - 1)

    def is_nan(self, bits: int) -> bool:
        return self.magnitude(bits) > self.inf

    def is_signaling(self, bits: int) -> bool:
        return self.is_nan(bits) and not bits >> (self.f - 1) & 1

    def is_inf(self, bits: int) -> bool:
        return self.magnitude(bits) == self.inf

    def is_zero(self, bits: int) -> bool:
        return self.magnitude(bits) == 0

    def signed(self, negative: bool, bits: int) -> int:
        return bits | negative << (self.width - 1)

    def value(self, bits: int) -> Fraction:
        field, fraction = self.magnitude(bits) >> self.f, bits & ((1 << self.f) - 1)
        exact = Fraction(fraction + ((1 << self.f) if field else 0)) * Fraction(2) ** (
            max(field, 1) - 1 + self.emin - self.f
        )
        return -exact if self.negative(bits) else exact


HALF, SINGLE, DOUBLE = Format("half", 5, 10), Format("single", 8, 23), Format("double", 11, 52)
FORMATS = (HALF, SINGLE, DOUBLE)


def round_integer(x: Fraction, mode: int) -> int:
    """Round to an integer in one of the five modes."""
    low = math.floor(x)
    rest = x - low
    if rest == 0 or mode == RDN:
        return low
    if mode == RUP:
        return low + 1
    if mode == RTZ:
        return low + (x < 0)
    if rest != Fraction(1, 2):
        return low + (rest > Fraction(1, 2))
    if mode == RNE:
        return low + (low & 1)
    return low + (x > 0)


def _exponent(x: Fraction) -> int:
    """floor(log2(x)) of a positive number."""
    n = x.numerator.bit_length() - x.denominator.bit_length()
    return n if Fraction(2) ** n <= x else n - 1


def round_number(fmt: Format, x: Fraction, mode: int) -> Result:
    """Round an exact number other than zero to the format."""
    negative = x < 0
    scale = _exponent(abs(x))
    unbounded = abs(round_integer(x / Fraction(2) ** (scale - fmt.f), mode)) * Fraction(2) ** (scale - fmt.f)
    tiny = unbounded < Fraction(2) ** fmt.emin
    unit = Fraction(2) ** (max(scale, fmt.emin) - fmt.f)
    count = round_integer(x / unit, mode)
    inexact = count * unit != x
    if abs(count) * unit >= Fraction(2) ** (fmt.emax + 1):
        inward = mode == RTZ or (mode == RDN and not negative) or (mode == RUP and negative)
        return fmt.signed(negative, fmt.inf - inward), OF | NX
    count = abs(count)
    field = 0
    if count >> fmt.f:
        if count >> (fmt.f + 1):
            count, scale = count >> 1, max(scale, fmt.emin) + 1
        field = max(scale, fmt.emin) - fmt.emin + 1
    bits = (field << fmt.f) | (count & ((1 << fmt.f) - 1))
    return fmt.signed(negative, bits), (NX | (UF if tiny else 0)) if inexact else 0


def _nan(fmt: Format, *operands: int) -> Result:
    return fmt.nan, NV if any(fmt.is_signaling(x) for x in operands) else 0


def _sum_zero(fmt: Format, negative_a: bool, negative_b: bool, mode: int) -> Result:
    return fmt.signed(negative_a if negative_a == negative_b else mode == RDN, 0), 0


def add(fmt: Format, a: int, b: int, mode: int) -> Result:
    if fmt.is_nan(a) or fmt.is_nan(b):
        return _nan(fmt, a, b)
    if fmt.is_inf(a) or fmt.is_inf(b):
        if fmt.is_inf(a) and fmt.is_inf(b) and a != b:
            return fmt.nan, NV
        return a if fmt.is_inf(a) else b, 0
    exact = fmt.value(a) + fmt.value(b)
    if exact == 0:
        same = fmt.is_zero(a) and fmt.negative(a) == fmt.negative(b)
        return fmt.signed(fmt.negative(a) if same else mode == RDN, 0), 0
    return round_number(fmt, exact, mode)


def mul(fmt: Format, a: int, b: int, mode: int) -> Result:
    negative = fmt.negative(a) != fmt.negative(b)
    if fmt.is_nan(a) or fmt.is_nan(b):
        return _nan(fmt, a, b)
    if fmt.is_inf(a) or fmt.is_inf(b):
        return (fmt.nan, NV) if fmt.is_zero(a) or fmt.is_zero(b) else (fmt.signed(negative, fmt.inf), 0)
    if fmt.is_zero(a) or fmt.is_zero(b):
        return fmt.signed(negative, 0), 0
    return round_number(fmt, fmt.value(a) * fmt.value(b), mode)


def div(fmt: Format, a: int, b: int, mode: int) -> Result:
    negative = fmt.negative(a) != fmt.negative(b)
    if fmt.is_nan(a) or fmt.is_nan(b):
        return _nan(fmt, a, b)
    if (fmt.is_inf(a) and fmt.is_inf(b)) or (fmt.is_zero(a) and fmt.is_zero(b)):
        return fmt.nan, NV
    if fmt.is_zero(b):
        return fmt.signed(negative, fmt.inf), 0 if fmt.is_inf(a) else DZ
    if fmt.is_inf(a):
        return fmt.signed(negative, fmt.inf), 0
    if fmt.is_inf(b) or fmt.is_zero(a):
        return fmt.signed(negative, 0), 0
    return round_number(fmt, fmt.value(a) / fmt.value(b), mode)


def sqrt(fmt: Format, a: int, mode: int) -> Result:
    if fmt.is_nan(a):
        return _nan(fmt, a)
    if fmt.is_zero(a):
        return a, 0
    if fmt.negative(a):
        return fmt.nan, NV
    if fmt.is_inf(a):
        return a, 0
    x = fmt.value(a)
    # 2^2400 makes an integer of any format's number, and leaves more than 100 bits in the root.
    scaled = x * 2**2400
    assert scaled.denominator == 1
    root = math.isqrt(scaled.numerator)
    exact = Fraction(2 * root + (root * root != scaled), 2)  # half a unit stands for all that is missing
    return round_number(fmt, exact / 2**1200, mode)


def fma(fmt: Format, a: int, b: int, c: int, mode: int) -> Result:
    negative = fmt.negative(a) != fmt.negative(b)
    if (fmt.is_inf(a) and fmt.is_zero(b)) or (fmt.is_zero(a) and fmt.is_inf(b)):
        return fmt.nan, NV
    if fmt.is_nan(a) or fmt.is_nan(b) or fmt.is_nan(c):
        return _nan(fmt, a, b, c)
    if fmt.is_inf(a) or fmt.is_inf(b):
        product = fmt.signed(negative, fmt.inf)
        return (fmt.nan, NV) if fmt.is_inf(c) and c != product else (product, 0)
    if fmt.is_inf(c):
        return c, 0
    exact = fmt.value(a) * fmt.value(b) + fmt.value(c)
    if exact == 0:
        same = fmt.is_zero(c) and fmt.negative(c) == negative
        return fmt.signed(negative if same else mode == RDN, 0), 0
    return round_number(fmt, exact, mode)


def convert(source: Format, target: Format, a: int, mode: int) -> Result:
    if source.is_nan(a):
        return target.nan, NV if source.is_signaling(a) else 0
    if source.is_inf(a):
        return target.signed(source.negative(a), target.inf), 0
    if source.is_zero(a):
        return target.signed(source.negative(a), 0), 0
    return round_number(target, source.value(a), mode)


def from_int(fmt: Format, value: int, mode: int) -> Result:
    return round_number(fmt, Fraction(value), mode) if value else (0, 0)


def to_int(fmt: Format, a: int, mode: int, low: int, high: int) -> Result:
    """The result is the integer itself, between low and high."""
    if fmt.is_nan(a):
        return high, NV
    if fmt.is_inf(a):
        return low if fmt.negative(a) else high, NV
    rounded = round_integer(fmt.value(a), mode)
    if not low <= rounded <= high:
        return low if rounded < low else high, NV
    return rounded, NX if rounded != fmt.value(a) else 0


def compare(fmt: Format, a: int, b: int, op: str) -> Result:
    if fmt.is_nan(a) or fmt.is_nan(b):
        quiet = op == "eq" and not fmt.is_signaling(a) and not fmt.is_signaling(b)
        return 0, 0 if quiet else NV
    x, y = (_extended(fmt, v) for v in (a, b))
    return int({"eq": x == y, "lt": x < y, "le": x <= y}[op]), 0


def _extended(fmt: Format, bits: int) -> Fraction:
    if fmt.is_inf(bits):
        return Fraction(2) ** (fmt.emax + 2) * (-1 if fmt.negative(bits) else 1)
    return fmt.value(bits)


def pick(fmt: Format, a: int, b: int, larger: bool) -> Result:
    flags = NV if fmt.is_signaling(a) or fmt.is_signaling(b) else 0
    if fmt.is_nan(a):
        return fmt.nan if fmt.is_nan(b) else b, flags
    if fmt.is_nan(b):
        return a, flags
    key = [(_extended(fmt, v), not fmt.negative(v), v) for v in (a, b)]
    return (max(key) if larger else min(key))[2], flags


def classify(fmt: Format, a: int) -> int:
    if fmt.is_nan(a):
        return 1 << (8 if fmt.is_signaling(a) else 9)
    m = fmt.magnitude(a)
    rank = 0 if m == fmt.inf else 1 if m >> fmt.f else 2 if m else 3
    return 1 << (rank if fmt.negative(a) else 7 - rank)
