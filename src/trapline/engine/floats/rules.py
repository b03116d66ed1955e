"""When a result of the host's floating-point unit may stand for the integer one.

The host computes addition to square root and fused multiply-add of singles and doubles. Its result is
taken where it has the same bits and the same flags:

- The rounding mode is RNE, which is the host's.
- NX is already set, or the result is exact (engine.floats.exact). Then an operation with a normal finite result
  leaves fflags as they are: NV and DZ come with a NaN or an infinity, OF with the infinity or (in other
  modes) the largest number, UF with a result near or below the smallest normal number, all of which the
  test turns away.
- The result is at least 2^f times the smallest normal number. That covers tininess, wherever the host
  detects it, zeros from underflow, and hosts that were told to flush subnormal numbers to zero:
  a flushed operand changes such a sum by less than half a unit, and makes a product, a quotient or a
  root zero, infinite or NaN, which is turned away too. Only in a * b + c could it hide, so there the
  operands must be normal or zero.

A zero that comes of a zero is exact and raises nothing: 0 * x and 0 / x, where the host says that they are zero.
Had it read a subnormal x as zero, 0 / x would be a NaN.

Conversions follow the same rules, or are exact: their own conditions stand beside them (engine.floats.forms).

Native code tells the host to keep subnormal numbers (`host_subnormals`). Then operands may be anything, and a sum
only has to be finite: one that is zero or subnormal is exact.
"""

from __future__ import annotations

from trapline.isa.float.parts import RNE, is_zero
from trapline.lang.functions import inline
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege.fields import NX


@inline
def host_may_round(hart: Hart, mode: U64) -> bool:
    """Whether the mode is RNE and NX is set."""
    if hart.inexact_known != 0:
        return mode == RNE
    return mode | (~hart.fflags & NX) == 0


@inline
def inexact_noted(hart: Hart) -> bool:
    """Whether NX is set and FS dirty: then raising NX changes nothing."""
    return hart.inexact_known | (hart.fflags & NX) != 0 and hart.fp_clean == 0


@inline
def result_stands(hart: Hart, result: U64, e: U64, f: U64) -> bool:
    """Whether the host's result is finite and far enough above the subnormal numbers."""
    field = (result >> f) & ((1 << e) - 1)
    return field - (f + 4) < (1 << e) - 1 - (f + 4)


@inline
def sum_stands(hart: Hart, result: U64, e: U64, f: U64) -> bool:
    """Whether the host's sum of two numbers is theirs."""
    if hart.host_subnormals != 0:
        return (result >> f) & ((1 << e) - 1) != (1 << e) - 1
    return result_stands(hart, result, e, f)


@inline
def host_reads(hart: Hart, a: U64, b: U64, c: U64, e: U64, f: U64) -> bool:
    """Whether the host reads what these operands are."""
    if hart.host_subnormals != 0:
        return True
    return is_normal_or_zero(a, e, f) and is_normal_or_zero(b, e, f) and is_normal_or_zero(c, e, f)


@inline
def is_normal_or_zero(a: U64, e: U64, f: U64) -> bool:
    """Whether no setting of the host makes it read something else than `a`."""
    return (a >> f) & ((1 << e) - 1) != 0 or a & ((1 << f) - 1) == 0


@inline
def no_zero(a: U64, b: U64, result: U64, e: U64, f: U64) -> bool:
    """Of a sum nothing more is known than `sum_stands` tells."""
    return False


@inline
def zero_product(a: U64, b: U64, result: U64, e: U64, f: U64) -> bool:
    """Whether a product is the zero of a factor that is zero."""
    return is_zero(result, e, f) and (is_zero(a, e, f) or is_zero(b, e, f))


@inline
def zero_quotient(a: U64, b: U64, result: U64, e: U64, f: U64) -> bool:
    """Whether a quotient is the zero of a dividend that is zero."""
    return is_zero(result, e, f) and is_zero(a, e, f)
