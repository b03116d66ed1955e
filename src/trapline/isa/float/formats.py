"""The three formats that the hart has, each with its operations: one text for all of them.

The integer operations are cold functions; for singles and doubles the inline ones around them take the host's result
where `isa.float.host` allows it. (Unprivileged spec, F, D and Zfh chapters; IEEE 754-2008.)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import SimpleNamespace

from trapline.isa.float.arithmetic import soft_add, soft_div, soft_mul, soft_sqrt
from trapline.isa.float.compare import soft_eq, soft_le, soft_lt
from trapline.isa.float.convert import from_integer, from_signed, soft_convert, to_integer
from trapline.isa.float.exact import exactness
from trapline.isa.float.fma import soft_fma
from trapline.isa.float.host import (
    host_may_round,
    host_reads,
    inexact_noted,
    no_zero,
    result_stands,
    sum_stands,
    zero_product,
    zero_quotient,
)
from trapline.isa.float.parts import RNE, RTZ
from trapline.lang import floats
from trapline.lang.functions import cold, inline, named
from trapline.lang.state import Hart
from trapline.lang.values import U64, sext, u64, zext

Operation = Callable[..., U64]
ALL_ONES = (1 << 64) - 1


class Format:
    """An interchange format of `size` bytes: its widths, its place in f registers, and its operations.

    `letter` and `code` are its spelling and its two bits in an instruction; `box` are the bits above a number in an f
    register (NaN boxing), `host` the suffix of the host's operations, if it has the format.
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

    def __init__(self, name: str, letter: str, code: str, exponent: int, fraction: int, host: str = "") -> None:
        self.name, self.letter, self.code = name, letter, code
        self.exponent, self.fraction = exponent, fraction
        self.bits = 1 + exponent + fraction
        self.size = self.bits // 8
        self.sign = 1 << self.bits - 1
        self.box = ALL_ONES ^ (1 << self.bits) - 1
        self.nan = ((1 << exponent + 1) - 1) << fraction - 1
        self.unbox = unboxing(self)
        self.soft = integer_arithmetic(self)
        found = host_arithmetic(self, host) if host else self.soft
        self.add, self.mul, self.div, self.sqrt, self.fma = found.add, found.mul, found.div, found.sqrt, found.fma
        self.suffix = host
        comparisons(self, host)
        from_integers(self, host)
        to_integers(self, host)


def unboxing(fmt: Format) -> Operation:
    """The number in an f register; the canonical NaN if it is not NaN-boxed."""
    box, mask, nan = fmt.box, (1 << fmt.bits) - 1, fmt.nan

    @inline
    @named(f"{fmt.name}_of")
    def unbox(value: U64) -> U64:
        return value & mask if value >= box else U64(nan)

    return unbox


def integer_arithmetic(fmt: Format) -> SimpleNamespace:
    """Addition to fused multiply-add, in integers."""
    e, f = fmt.exponent, fmt.fraction

    @cold
    @named(f"{fmt.name}_add_soft")
    def add(hart: Hart, a: U64, b: U64, mode: U64) -> U64:
        return soft_add(hart, a, b, mode, U64(e), U64(f))

    @cold
    @named(f"{fmt.name}_mul_soft")
    def mul(hart: Hart, a: U64, b: U64, mode: U64) -> U64:
        return soft_mul(hart, a, b, mode, U64(e), U64(f))

    @cold
    @named(f"{fmt.name}_div_soft")
    def div(hart: Hart, a: U64, b: U64, mode: U64) -> U64:
        return soft_div(hart, a, b, mode, U64(e), U64(f))

    @cold
    @named(f"{fmt.name}_sqrt_soft")
    def sqrt(hart: Hart, a: U64, mode: U64) -> U64:
        return soft_sqrt(hart, a, mode, U64(e), U64(f))

    @cold
    @named(f"{fmt.name}_fma_soft")
    def fma(hart: Hart, a: U64, b: U64, c: U64, mode: U64) -> U64:
        return soft_fma(hart, a, b, c, mode, U64(e), U64(f))

    return SimpleNamespace(add=add, mul=mul, div=div, sqrt=sqrt, fma=fma)


def host_arithmetic(fmt: Format, suffix: str) -> SimpleNamespace:
    """The same, with the host's result where it is the same."""

    def two_operands(name: str) -> Operation:
        host: Operation = getattr(floats, f"host_{suffix}_{name}")
        soft: Operation = getattr(fmt.soft, name)
        exact: Callable[..., bool] = getattr(exactness(suffix, fmt.exponent, fmt.fraction), name)
        stands: Callable[..., bool] = sum_stands if name == "add" else result_stands
        zero: Callable[..., bool] = {"add": no_zero, "mul": zero_product, "div": zero_quotient}[name]
        e, f = fmt.exponent, fmt.fraction

        @inline
        @named(f"{fmt.name}_{name}")
        def operation(hart: Hart, a: U64, b: U64, mode: U64) -> U64:
            if mode == RNE:
                result = host(a, b)
                if stands(hart, result, U64(e), U64(f)) and (host_may_round(hart, mode) or exact(hart, a, b, result)):
                    return result
                if zero(a, b, result, U64(e), U64(f)):
                    return result
            return soft(hart, a, b, mode)

        return operation

    found = SimpleNamespace(**{name: two_operands(name) for name in ("add", "mul", "div")})
    found.sqrt, found.fma = host_sqrt(fmt, suffix), host_fma(fmt, suffix)
    return found


def host_sqrt(fmt: Format, suffix: str) -> Operation:
    """The square root."""
    host: Operation = getattr(floats, f"host_{suffix}_sqrt")
    exact: Callable[..., bool] = exactness(suffix, fmt.exponent, fmt.fraction).sqrt
    soft: Operation = fmt.soft.sqrt
    e, f = fmt.exponent, fmt.fraction

    @inline
    @named(f"{fmt.name}_sqrt")
    def sqrt(hart: Hart, a: U64, mode: U64) -> U64:
        if mode == RNE:
            result = host(a)
            if result_stands(hart, result, U64(e), U64(f)) and (host_may_round(hart, mode) or exact(hart, a, result)):
                return result
        return soft(hart, a, mode)

    return sqrt


def host_fma(fmt: Format, suffix: str) -> Operation:
    """a * b + c with one rounding."""
    host: Operation = getattr(floats, f"host_{suffix}_fma")
    exact: Callable[..., bool] = exactness(suffix, fmt.exponent, fmt.fraction).fma
    soft: Operation = fmt.soft.fma
    e, f = fmt.exponent, fmt.fraction

    @inline
    @named(f"{fmt.name}_fma")
    def fma(hart: Hart, a: U64, b: U64, c: U64, mode: U64) -> U64:
        if mode == RNE and host_reads(hart, a, b, c, U64(e), U64(f)):
            result = host(a, b, c)
            stands = result_stands(hart, result, U64(e), U64(f))
            if stands and (host_may_round(hart, mode) or exact(hart, a, b, c, result)):
                return result
        return soft(hart, a, b, c, mode)

    return fma


def comparisons(fmt: Format, suffix: str) -> None:
    """Comparisons: the host's, where neither is a NaN and it reads all numbers."""

    def comparison(name: str, soft: Operation) -> Operation:
        e, f = fmt.exponent, fmt.fraction

        @inline
        @named(f"{fmt.name}_{name}_soft")
        def integers(hart: Hart, a: U64, b: U64) -> U64:
            return soft(hart, a, b, U64(e), U64(f))

        if not suffix:
            return integers
        rare: Operation = cold(integers)
        ordered: Callable[..., bool] = getattr(floats, f"host_{suffix}_ordered")
        host: Callable[..., bool] = getattr(floats, f"host_{suffix}_{name}")

        @inline
        @named(f"{fmt.name}_{name}")
        def compare(hart: Hart, a: U64, b: U64) -> U64:
            if hart.host_subnormals != 0 and ordered(a, b):
                return u64(host(a, b))
            return rare(hart, a, b)

        return compare

    fmt.eq, fmt.lt, fmt.le = comparison("eq", soft_eq), comparison("lt", soft_lt), comparison("le", soft_le)


def from_integers(fmt: Format, suffix: str) -> None:
    """Conversions from signed and unsigned integers of 32 and 64 bits."""
    e, f = fmt.exponent, fmt.fraction
    rare = "_soft" if suffix else ""

    @cold
    @named(f"{fmt.name}_from_w{rare}")
    def from_w(hart: Hart, a: U64, mode: U64) -> U64:
        return from_signed(hart, sext(a, 32), mode, U64(e), U64(f))

    @cold
    @named(f"{fmt.name}_from_wu{rare}")
    def from_wu(hart: Hart, a: U64, mode: U64) -> U64:
        return from_integer(hart, U64(0), a & 0xFFFF_FFFF, mode, U64(e), U64(f))

    @cold
    @named(f"{fmt.name}_from_l{rare}")
    def from_l(hart: Hart, a: U64, mode: U64) -> U64:
        return from_signed(hart, a, mode, U64(e), U64(f))

    @cold
    @named(f"{fmt.name}_from_lu{rare}")
    def from_lu(hart: Hart, a: U64, mode: U64) -> U64:
        return from_integer(hart, U64(0), a, mode, U64(e), U64(f))

    fmt.from_w, fmt.from_wu, fmt.from_l, fmt.from_lu = from_w, from_wu, from_l, from_lu
    if suffix:
        from_integers_by_host(fmt, suffix)


def from_integers_by_host(fmt: Format, suffix: str) -> None:
    """The same by the host: where the integer has no more bits than the significand, or NX is set and the mode RNE."""
    width = fmt.fraction + 1
    of_signed: Operation = getattr(floats, f"host_{suffix}_from_i64")
    of_unsigned: Operation = getattr(floats, f"host_{suffix}_from_u64")

    def conversion(name: str, soft: Operation, bits: int, is_signed: bool) -> Operation:
        exact = width >= bits

        @inline
        @named(f"{fmt.name}_from_{name}")
        def signed_integer(hart: Hart, a: U64, mode: U64) -> U64:
            value = sext(a, bits)
            if exact or host_may_round(hart, mode) or sext(value, width + 1) == value:
                return of_signed(value)
            return soft(hart, a, mode)

        @inline
        @named(f"{fmt.name}_from_{name}")
        def unsigned_integer(hart: Hart, a: U64, mode: U64) -> U64:
            value = zext(a, bits)
            if exact or host_may_round(hart, mode) or value >> width == 0:
                return of_unsigned(value)
            return soft(hart, a, mode)

        return signed_integer if is_signed else unsigned_integer

    fmt.from_w, fmt.from_wu = conversion("w", fmt.from_w, 32, True), conversion("wu", fmt.from_wu, 32, False)
    fmt.from_l, fmt.from_lu = conversion("l", fmt.from_l, 64, True), conversion("lu", fmt.from_lu, 64, False)


def to_integers(fmt: Format, suffix: str) -> None:
    """Conversions to integers: a result of 32 bits is sign-extended, one out of range is the nearest (NV)."""
    rare = "_soft" if suffix else ""

    def conversion(name: str, bits: int, most: int, least: int) -> Operation:
        e, f = fmt.exponent, fmt.fraction

        @cold
        @named(f"{fmt.name}_to_{name}{rare}")
        def convert(hart: Hart, a: U64, mode: U64) -> U64:
            return sext(to_integer(hart, a, mode, U64(most), U64(least), U64(e), U64(f)), bits)

        return convert

    fmt.to_w = conversion("w", 32, 0x7FFF_FFFF, 0x8000_0000)
    fmt.to_wu = conversion("wu", 32, 0xFFFF_FFFF, 0)
    fmt.to_l = conversion("l", 64, 0x7FFF_FFFF_FFFF_FFFF, 0x8000_0000_0000_0000)
    fmt.to_lu = conversion("lu", 64, 0xFFFF_FFFF_FFFF_FFFF, 0)
    if suffix:
        to_integers_by_host(fmt, suffix)


def to_integers_by_host(fmt: Format, suffix: str) -> None:
    """The same by the host, which cuts off: for whole numbers, and in RTZ where NX is set; none near the end."""
    whole_of: Operation = getattr(floats, f"host_{suffix}_to_i64")
    number_of: Operation = getattr(floats, f"host_{suffix}_from_i64")

    def conversion(name: str, soft: Operation, bits: int, power: int, is_signed: bool) -> Operation:
        # Exponents below that of 2^power; a sign stands above the exponent, so it makes the number large.
        beyond = power + (1 << fmt.exponent - 1) - 1
        f, mask = fmt.fraction, (1 << fmt.exponent) - 1 if is_signed else (2 << fmt.exponent) - 1

        @inline
        @named(f"{fmt.name}_to_{name}")
        def convert(hart: Hart, a: U64, mode: U64) -> U64:
            if (a >> f) & mask < beyond:
                whole = whole_of(a)
                if (mode == RTZ and inexact_noted(hart)) or number_of(whole) == a:
                    return sext(whole, bits)
            return soft(hart, a, mode)

        return convert

    fmt.to_w, fmt.to_wu = conversion("w", fmt.to_w, 32, 31, True), conversion("wu", fmt.to_wu, 32, 32, False)
    fmt.to_l, fmt.to_lu = conversion("l", fmt.to_l, 64, 63, True), conversion("lu", fmt.to_lu, 64, 63, False)


@cache
def conversion(source: Format, result: Format) -> Operation:
    """A number of another format; exact where that is narrower."""
    by_host = source.suffix != "" and result.suffix != ""
    rare = "_soft" if by_host else ""

    @cold
    @named(f"{result.name}_from_{source.name}{rare}")
    def convert(hart: Hart, a: U64, mode: U64) -> U64:
        return soft_convert(
            hart, a, mode, U64(source.exponent), U64(source.fraction), U64(result.exponent), U64(result.fraction)
        )

    return conversion_by_host(source, result, convert) if by_host else convert


def conversion_by_host(source: Format, result: Format, soft: Operation) -> Operation:
    """The same by the host: a wider number of one that is finite, a narrower one under the rules of arithmetic."""
    host: Operation = getattr(floats, f"host_{result.suffix}_from_{source.suffix}")
    f, e2, f2 = source.fraction, result.exponent, result.fraction
    mask = (1 << source.exponent) - 1

    @inline
    @named(f"{result.name}_from_{source.name}")
    def widen(hart: Hart, a: U64, mode: U64) -> U64:
        field = (a >> f) & mask
        if field != mask and (hart.host_subnormals != 0 or field != 0):
            return host(a)
        return soft(hart, a, mode)

    @inline
    @named(f"{result.name}_from_{source.name}")
    def narrow(hart: Hart, a: U64, mode: U64) -> U64:
        if host_may_round(hart, mode):
            number = host(a)
            if result_stands(hart, number, U64(e2), U64(f2)):
                return number
        return soft(hart, a, mode)

    return widen if result.bits > source.bits else narrow


HALF = Format("half", "h", "10", 5, 10)
SINGLE = Format("single", "s", "00", 8, 23, host="f32")
DOUBLE = Format("double", "d", "01", 11, 52, host="f64")
