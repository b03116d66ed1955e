"""The three formats that the hart has, each with its operations: one text for all of them.

They compute in integers. (Unprivileged spec, F, D and Zfh chapters; IEEE 754-2008.)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from trapline.isa.float.arithmetic import soft_add, soft_div, soft_mul, soft_sqrt
from trapline.isa.float.compare import soft_eq, soft_le, soft_lt
from trapline.isa.float.convert import from_integer, from_signed, soft_convert, to_integer
from trapline.isa.float.fma import soft_fma
from trapline.lang.functions import cold, inline, named
from trapline.lang.state import Hart
from trapline.lang.values import U64, sext
from trapline.privilege.fields import ALL_ONES

Operation = Callable[..., U64]


class Format:
    """An interchange format of `size` bytes: its widths, its place in f registers, and its operations.

    `letter` and `code` are its spelling and its two bits in an instruction; `box` are the bits above a number in an f
    register (NaN boxing).
    """

    unbox: Operation
    add: Operation
    mul: Operation
    div: Operation
    sqrt: Operation
    fma: Operation
    eq: Operation
    lt: Operation
    le: Operation
    from_w: Operation
    from_wu: Operation
    from_l: Operation
    from_lu: Operation
    to_w: Operation
    to_wu: Operation
    to_l: Operation
    to_lu: Operation

    def __init__(self, name: str, letter: str, code: str, exponent: int, fraction: int) -> None:
        self.name, self.letter, self.code = name, letter, code
        self.exponent, self.fraction = exponent, fraction
        self.bits = 1 + exponent + fraction
        self.size = self.bits // 8
        self.sign = 1 << self.bits - 1
        self.box = ALL_ONES ^ (1 << self.bits) - 1
        self.nan = ((1 << exponent + 1) - 1) << fraction - 1
        self.unbox = unboxing(self)
        arithmetic(self)
        comparisons(self)
        from_integers(self)
        to_integers(self)


def unboxing(fmt: Format) -> Operation:
    """The number in an f register; the canonical NaN if it is not NaN-boxed."""
    box, mask, nan = fmt.box, (1 << fmt.bits) - 1, fmt.nan

    @inline
    @named(f"{fmt.name}_of")
    def unbox(value: U64) -> U64:
        return value & mask if value >= box else U64(nan)

    return unbox


def arithmetic(fmt: Format) -> None:
    """Addition to fused multiply-add."""
    e, f = fmt.exponent, fmt.fraction

    @cold
    @named(f"{fmt.name}_add")
    def add(hart: Hart, a: U64, b: U64, mode: U64) -> U64:
        return soft_add(hart, a, b, mode, U64(e), U64(f))

    @cold
    @named(f"{fmt.name}_mul")
    def mul(hart: Hart, a: U64, b: U64, mode: U64) -> U64:
        return soft_mul(hart, a, b, mode, U64(e), U64(f))

    @cold
    @named(f"{fmt.name}_div")
    def div(hart: Hart, a: U64, b: U64, mode: U64) -> U64:
        return soft_div(hart, a, b, mode, U64(e), U64(f))

    @cold
    @named(f"{fmt.name}_sqrt")
    def sqrt(hart: Hart, a: U64, mode: U64) -> U64:
        return soft_sqrt(hart, a, mode, U64(e), U64(f))

    @cold
    @named(f"{fmt.name}_fma")
    def fma(hart: Hart, a: U64, b: U64, c: U64, mode: U64) -> U64:
        return soft_fma(hart, a, b, c, mode, U64(e), U64(f))

    fmt.add, fmt.mul, fmt.div, fmt.sqrt, fmt.fma = add, mul, div, sqrt, fma


def comparisons(fmt: Format) -> None:
    """Comparisons."""

    def comparison(name: str, soft: Operation) -> Operation:
        e, f = fmt.exponent, fmt.fraction

        @inline
        @named(f"{fmt.name}_{name}")
        def compare(hart: Hart, a: U64, b: U64) -> U64:
            return soft(hart, a, b, U64(e), U64(f))

        return compare

    fmt.eq, fmt.lt, fmt.le = comparison("eq", soft_eq), comparison("lt", soft_lt), comparison("le", soft_le)


def from_integers(fmt: Format) -> None:
    """Conversions from signed and unsigned integers of 32 and 64 bits."""
    e, f = fmt.exponent, fmt.fraction

    @cold
    @named(f"{fmt.name}_from_w")
    def from_w(hart: Hart, a: U64, mode: U64) -> U64:
        return from_signed(hart, sext(a, 32), mode, U64(e), U64(f))

    @cold
    @named(f"{fmt.name}_from_wu")
    def from_wu(hart: Hart, a: U64, mode: U64) -> U64:
        return from_integer(hart, U64(0), a & 0xFFFF_FFFF, mode, U64(e), U64(f))

    @cold
    @named(f"{fmt.name}_from_l")
    def from_l(hart: Hart, a: U64, mode: U64) -> U64:
        return from_signed(hart, a, mode, U64(e), U64(f))

    @cold
    @named(f"{fmt.name}_from_lu")
    def from_lu(hart: Hart, a: U64, mode: U64) -> U64:
        return from_integer(hart, U64(0), a, mode, U64(e), U64(f))

    fmt.from_w, fmt.from_wu, fmt.from_l, fmt.from_lu = from_w, from_wu, from_l, from_lu


def to_integers(fmt: Format) -> None:
    """Conversions to integers: a result of 32 bits is sign-extended, one out of range is the nearest (NV)."""

    def conversion(name: str, bits: int, most: int, least: int) -> Operation:
        e, f = fmt.exponent, fmt.fraction

        @cold
        @named(f"{fmt.name}_to_{name}")
        def convert(hart: Hart, a: U64, mode: U64) -> U64:
            return sext(to_integer(hart, a, mode, U64(most), U64(least), U64(e), U64(f)), bits)

        return convert

    fmt.to_w = conversion("w", 32, 0x7FFF_FFFF, 0x8000_0000)
    fmt.to_wu = conversion("wu", 32, 0xFFFF_FFFF, 0)
    fmt.to_l = conversion("l", 64, 0x7FFF_FFFF_FFFF_FFFF, 0x8000_0000_0000_0000)
    fmt.to_lu = conversion("lu", 64, 0xFFFF_FFFF_FFFF_FFFF, 0)


@cache
def conversion(source: Format, result: Format) -> Operation:
    """A number of another format; exact where that is narrower."""

    @cold
    @named(f"{result.name}_from_{source.name}")
    def convert(hart: Hart, a: U64, mode: U64) -> U64:
        return soft_convert(
            hart, a, mode, U64(source.exponent), U64(source.fraction), U64(result.exponent), U64(result.fraction)
        )

    return convert


HALF = Format("half", "h", "10", 5, 10)
SINGLE = Format("single", "s", "00", 8, 23)
DOUBLE = Format("double", "d", "01", 11, 52)
