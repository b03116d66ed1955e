"""The host's floating-point unit, on bit patterns: only native code has it (compiler.primitives).

Its operations round to nearest, ties to even, and raise no flags that a subset function could see. A result may be used
only where the rules show that it equals the integer one; NaN, infinite, zero and subnormal results say nothing more.
Single-precision patterns occupy the low 32 bits; the upper bits of the operands are ignored, those of the results are
zero. Integers are of 64 bits, two's complement where a name says `i64`; of `to_i64` the number is below 2^63.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from trapline.lang.functions import named, primitive


@cache
def of_host(suffix: str, operation: str) -> Callable[..., Any]:
    """An operation of singles (f32) or doubles (f64): add sub mul div sqrt fma, eq lt le ordered, from_ and to_."""

    @primitive
    @named(f"host_{suffix}_{operation}")
    def operate(*operands: Any) -> Any:
        raise LookupError("only native code has the host's floating-point unit")

    return operate
