"""IEEE 754 in integers: the fields of a number, its flags, and the one place that rounds.

Every function takes the format as (e, f), the bits of the exponent and of the fraction; callers pass
literals, so that each format gets code of its own. Inside, a finite number other than zero is a sign (0 or 1), a
biased exponent that may leave the format's range, and a significand with its leading one at bit 63.
Flags, rounding modes and NaNs are those of the F chapter of the Unprivileged specification.
"""

from __future__ import annotations

from trapline.lang.functions import inline
from trapline.lang.state import Hart
from trapline.lang.values import S64, U64, clz, signed, u64, unsigned
from trapline.privilege.fields import NV, NX, OF
from trapline.privilege.guards import mark_fp_dirty

RNE, RTZ, RDN, RUP, RMM = 0, 1, 2, 3, 4


@inline
def accrue(hart: Hart, flags: U64) -> None:
    """Add to fflags on behalf of an instruction that writes an f register (and so marks FS dirty itself)."""
    hart.fflags = hart.fflags | flags


@inline
def signal(hart: Hart, flags: U64) -> None:
    """Add to fflags on behalf of an instruction that writes an x register: the flags alone dirty FS."""
    mark_fp_dirty(hart)
    hart.fflags = hart.fflags | flags


@inline
def infinity(e: U64, f: U64) -> U64:
    """Positive infinity, which is also the mask of the exponent field."""
    return ((1 << e) - 1) << f


@inline
def default_nan(e: U64, f: U64) -> U64:
    """The canonical NaN: positive, quiet, no payload."""
    return ((1 << (e + 1)) - 1) << (f - 1)


@inline
def magnitude(a: U64, e: U64, f: U64) -> U64:
    """Everything but the sign."""
    return a & ((1 << (e + f)) - 1)


@inline
def sign_of(a: U64, e: U64, f: U64) -> U64:
    """1 if the sign bit is set."""
    return (a >> (e + f)) & 1


@inline
def exponent_field(a: U64, e: U64, f: U64) -> U64:
    """The biased exponent as stored."""
    return (a >> f) & ((1 << e) - 1)


@inline
def fraction_field(a: U64, f: U64) -> U64:
    """The fraction as stored, without the hidden one."""
    return a & ((1 << f) - 1)


@inline
def is_nan(a: U64, e: U64, f: U64) -> bool:
    """A NaN, quiet or signaling."""
    return magnitude(a, e, f) > infinity(e, f)


@inline
def is_signaling(a: U64, e: U64, f: U64) -> bool:
    """A NaN whose first fraction bit is clear."""
    return magnitude(a, e, f) > infinity(e, f) and (a >> (f - 1)) & 1 == 0


@inline
def is_infinite(a: U64, e: U64, f: U64) -> bool:
    """An infinity of either sign."""
    return magnitude(a, e, f) == infinity(e, f)


@inline
def is_zero(a: U64, e: U64, f: U64) -> bool:
    """A zero of either sign."""
    return magnitude(a, e, f) == 0


@inline
def is_special(a: U64, e: U64, f: U64) -> bool:
    """An infinity or a NaN."""
    return magnitude(a, e, f) >= infinity(e, f)


@inline
def significand(a: U64, e: U64, f: U64) -> U64:
    """The significand of a finite number other than zero, its leading one moved to bit 63."""
    fraction = fraction_field(a, f)
    if exponent_field(a, e, f) == 0:
        return fraction << (clz(fraction) & 63)
    return (fraction | (1 << f)) << (63 - f)


@inline
def scale(a: U64, e: U64, f: U64) -> S64:
    """The biased exponent that goes with significand(): zero or negative for a subnormal number."""
    field = exponent_field(a, e, f)
    if field == 0:
        return signed(64 - f - clz(fraction_field(a, f)))
    return signed(field)


@inline
def bias(e: U64) -> S64:
    """The biased exponent of 1.0."""
    return signed((1 << (e - 1)) - 1)


@inline
def shift_right_jam(value: U64, count: U64) -> U64:
    """Shift right; bits that fall out leave a one at bit 0, so that rounding still sees them."""
    if count == 0:
        return value
    if count > 63:
        return u64(value != 0)
    return (value >> (count & 63)) | u64(value << ((64 - count) & 63) != 0)


@inline
def rounds_up(sign: U64, mode: U64, odd: U64, rest: U64, half: U64) -> bool:
    """Whether the magnitude grows when `rest`, of which `half` is a tie, is cut off behind the bit `odd`."""
    if mode == RNE:
        return rest > half or (rest == half and odd != 0)
    if mode == RMM:
        return rest >= half
    if mode == RUP:
        return rest != 0 and sign == 0
    if mode == RDN:
        return rest != 0 and sign != 0
    return False


@inline
def round_to_precision(sign: U64, mode: U64, value: U64, f: U64) -> U64:
    """Round a significand with its leading one at or below bit 63 to one at or below bit f (f + 1 on carry)."""
    rest = value & ((1 << (63 - f)) - 1)
    kept = value >> (63 - f)
    return kept + u64(rounds_up(sign, mode, kept & 1, rest, 1 << (62 - f)))


@inline
def overflow(hart: Hart, sign: U64, mode: U64, e: U64, f: U64) -> U64:
    """Raise OF and NX; the result is infinity or the largest finite number, by mode and sign."""
    accrue(hart, U64(OF | NX))
    outward = mode == RNE or mode == RMM or (mode == RUP and sign == 0) or (mode == RDN and sign != 0)
    return (sign << (e + f)) + infinity(e, f) - u64(not outward)


@inline
def round_subnormal(hart: Hart, sign: U64, exponent: S64, value: U64, mode: U64, e: U64, f: U64) -> U64:
    """Round a number below the smallest normal one.

    RISC-V detects tininess after rounding: a number that rounding to full precision, with the
    exponent unbounded, would lift to the smallest normal one does not underflow.
    """
    tiny = exponent < 0 or round_to_precision(sign, mode, value, f) >> (f + 1) == 0
    low = shift_right_jam(value, unsigned(1 - exponent))
    if low & ((1 << (63 - f)) - 1) != 0:
        accrue(hart, NX | (u64(tiny) << 1))
    return (sign << (e + f)) + round_to_precision(sign, mode, low, f)


@inline
def round_pack(hart: Hart, sign: U64, exponent: S64, value: U64, mode: U64, e: U64, f: U64) -> U64:
    """Round to the format and raise OF, UF, NX; `value` has its leading one at bit 63 and may be jammed."""
    if exponent <= 0:
        return round_subnormal(hart, sign, exponent, value, mode, e, f)
    kept = round_to_precision(sign, mode, value, f)
    # The hidden one, and a carry out of the fraction, add to the exponent field.
    result = ((unsigned(exponent) - 1) << f) + kept
    if exponent >= signed((1 << e) - 1) or result >= infinity(e, f):
        return overflow(hart, sign, mode, e, f)
    if value & ((1 << (63 - f)) - 1) != 0:
        accrue(hart, U64(NX))
    return (sign << (e + f)) + result


@inline
def nan_of(hart: Hart, a: U64, b: U64, e: U64, f: U64) -> U64:
    """The result of an operation with a NaN operand: canonical, NV only for a signaling one."""
    if is_signaling(a, e, f) or is_signaling(b, e, f):
        accrue(hart, U64(NV))
    return default_nan(e, f)


@inline
def invalid(hart: Hart, e: U64, f: U64) -> U64:
    """The result of an operation that has none."""
    accrue(hart, U64(NV))
    return default_nan(e, f)
