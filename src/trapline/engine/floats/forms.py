"""Forms of the operations of singles and doubles: the host's result where the rules allow it, else the integer one."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType

from trapline.engine.floats.exact import exactness
from trapline.engine.floats.rules import (
    host_may_round,
    host_reads,
    inexact_noted,
    no_zero,
    result_stands,
    sum_stands,
    zero_product,
    zero_quotient,
)
from trapline.engine.floats.unit import of_host
from trapline.engine.forms import instead_of
from trapline.isa.float.formats import DOUBLE, SINGLE, Format, Operation, conversion
from trapline.isa.float.parts import RNE, RTZ
from trapline.lang.functions import cold, inline, named
from trapline.lang.state import Hart
from trapline.lang.values import U64, sext, u64, zext

SUFFIX = {SINGLE: "f32", DOUBLE: "f64"}  # of the host's operations


def rare(function: Operation) -> Operation:
    """The integer operation itself, for its form: a function of its own, which has no form."""
    assert isinstance(function, FunctionType)
    code, space, cells = function.__code__, function.__globals__, function.__closure__
    return cold(named(f"{function.__name__}_soft")(FunctionType(code, space, closure=cells)))


def arithmetic(fmt: Format, suffix: str) -> None:
    """Addition to fused multiply-add."""

    def two_operands(name: str) -> None:
        host: Operation = of_host(suffix, name)
        function: Operation = getattr(fmt, name)
        soft = rare(function)
        exact: Callable[..., bool] = getattr(exactness(suffix, fmt.exponent, fmt.fraction), name)
        stands: Callable[..., bool] = sum_stands if name == "add" else result_stands
        zero: Callable[..., bool] = {"add": no_zero, "mul": zero_product, "div": zero_quotient}[name]
        e, f = fmt.exponent, fmt.fraction

        @instead_of(function)
        @inline
        def operation(hart: Hart, a: U64, b: U64, mode: U64) -> U64:
            if mode == RNE:
                result = host(a, b)
                if stands(hart, result, U64(e), U64(f)) and (host_may_round(hart, mode) or exact(hart, a, b, result)):
                    return result
                if zero(a, b, result, U64(e), U64(f)):
                    return result
            return soft(hart, a, b, mode)

    for name in ("add", "mul", "div"):
        two_operands(name)
    root(fmt, suffix)
    fused(fmt, suffix)


def root(fmt: Format, suffix: str) -> None:
    """The square root."""
    host: Operation = of_host(suffix, "sqrt")
    exact: Callable[..., bool] = exactness(suffix, fmt.exponent, fmt.fraction).sqrt
    soft = rare(fmt.sqrt)
    e, f = fmt.exponent, fmt.fraction

    @instead_of(fmt.sqrt)
    @inline
    def sqrt(hart: Hart, a: U64, mode: U64) -> U64:
        if mode == RNE:
            result = host(a)
            if result_stands(hart, result, U64(e), U64(f)) and (host_may_round(hart, mode) or exact(hart, a, result)):
                return result
        return soft(hart, a, mode)


def fused(fmt: Format, suffix: str) -> None:
    """a * b + c with one rounding."""
    host: Operation = of_host(suffix, "fma")
    exact: Callable[..., bool] = exactness(suffix, fmt.exponent, fmt.fraction).fma
    soft = rare(fmt.fma)
    e, f = fmt.exponent, fmt.fraction

    @instead_of(fmt.fma)
    @inline
    def fma(hart: Hart, a: U64, b: U64, c: U64, mode: U64) -> U64:
        if mode == RNE and host_reads(hart, a, b, c, U64(e), U64(f)):
            result = host(a, b, c)
            stands = result_stands(hart, result, U64(e), U64(f))
            if stands and (host_may_round(hart, mode) or exact(hart, a, b, c, result)):
                return result
        return soft(hart, a, b, c, mode)


def comparisons(fmt: Format, suffix: str) -> None:
    """Comparisons: the host's, where neither is a NaN and it reads all numbers."""
    ordered: Callable[..., bool] = of_host(suffix, "ordered")

    def comparison(name: str) -> None:
        function: Operation = getattr(fmt, name)
        soft = rare(function)
        host: Callable[..., bool] = of_host(suffix, name)

        @instead_of(function)
        @inline
        def compare(hart: Hart, a: U64, b: U64) -> U64:
            if hart.host_subnormals != 0 and ordered(a, b):
                return u64(host(a, b))
            return soft(hart, a, b)

    for name in ("eq", "lt", "le"):
        comparison(name)


def from_integers(fmt: Format, suffix: str) -> None:
    """Of integers: where the integer has no more bits than the significand, or NX is set and the mode RNE."""
    width = fmt.fraction + 1
    of_signed: Operation = of_host(suffix, "from_i64")
    of_unsigned: Operation = of_host(suffix, "from_u64")

    def conversion(function: Operation, bits: int, is_signed: bool) -> None:
        exact, soft = width >= bits, rare(function)

        @inline
        def signed_integer(hart: Hart, a: U64, mode: U64) -> U64:
            value = sext(a, bits)
            if exact or host_may_round(hart, mode) or sext(value, width + 1) == value:
                return of_signed(value)
            return soft(hart, a, mode)

        @inline
        def unsigned_integer(hart: Hart, a: U64, mode: U64) -> U64:
            value = zext(a, bits)
            if exact or host_may_round(hart, mode) or value >> width == 0:
                return of_unsigned(value)
            return soft(hart, a, mode)

        instead_of(function)(signed_integer if is_signed else unsigned_integer)

    for bits, signed, unsigned in ((32, fmt.from_w, fmt.from_wu), (64, fmt.from_l, fmt.from_lu)):
        conversion(signed, bits, True)
        conversion(unsigned, bits, False)


def to_integers(fmt: Format, suffix: str) -> None:
    """To integers by the host, which cuts off: for whole numbers, and in RTZ where NX is set; none near the end."""
    whole_of: Operation = of_host(suffix, "to_i64")
    number_of: Operation = of_host(suffix, "from_i64")

    def conversion(function: Operation, bits: int, power: int, is_signed: bool) -> None:
        # Exponents below that of 2^power; a sign stands above the exponent, so it makes the number large.
        beyond = power + (1 << fmt.exponent - 1) - 1
        f, mask = fmt.fraction, (1 << fmt.exponent) - 1 if is_signed else (2 << fmt.exponent) - 1

        soft = rare(function)

        @instead_of(function)
        @inline
        def convert(hart: Hart, a: U64, mode: U64) -> U64:
            if (a >> f) & mask < beyond:
                whole = whole_of(a)
                if (mode == RTZ and inexact_noted(hart)) or number_of(whole) == a:
                    return sext(whole, bits)
            return soft(hart, a, mode)

    conversion(fmt.to_w, 32, 31, True)
    conversion(fmt.to_wu, 32, 32, False)
    conversion(fmt.to_l, 64, 63, True)
    conversion(fmt.to_lu, 64, 63, False)


def conversions(source: Format, result: Format) -> None:
    """Of another format: a wider number of one that is finite, a narrower one under the rules of arithmetic."""
    host: Operation = of_host(SUFFIX[result], f"from_{SUFFIX[source]}")
    function = conversion(source, result)
    soft = rare(function)
    f, e2, f2 = source.fraction, result.exponent, result.fraction
    mask = (1 << source.exponent) - 1

    @inline
    def widen(hart: Hart, a: U64, mode: U64) -> U64:
        field = (a >> f) & mask
        if field != mask and (hart.host_subnormals != 0 or field != 0):
            return host(a)
        return soft(hart, a, mode)

    @inline
    def narrow(hart: Hart, a: U64, mode: U64) -> U64:
        if host_may_round(hart, mode):
            number = host(a)
            if result_stands(hart, number, U64(e2), U64(f2)):
                return number
        return soft(hart, a, mode)

    instead_of(function)(widen if result.bits > source.bits else narrow)


for _format, _suffix in SUFFIX.items():
    arithmetic(_format, _suffix)
    comparisons(_format, _suffix)
    from_integers(_format, _suffix)
    to_integers(_format, _suffix)
conversions(SINGLE, DOUBLE)
conversions(DOUBLE, SINGLE)
