"""Whether the host's result is exact: then it stands while NX is clear, too.

What is left over of a product, quotient or root is computed by the host's fused multiply-add. A sum is exact where each
operand is what taking the other one from the sum gives: of the larger one that difference has no error itself (Dekker;
Handbook of Floating-Point Arithmetic, 4.3.1). Both hold where results are as large as the rules want them, and the
host keeps subnormal numbers. A host without fused multiply-add answers 0 to all.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

from trapline.engine.floats.rules import result_stands
from trapline.engine.floats.unit import of_host
from trapline.isa.float.parts import is_zero
from trapline.lang.functions import inline, named
from trapline.lang.state import Hart
from trapline.lang.values import U64

Check = Callable[..., bool]


def exactness(suffix: str, e: int, f: int) -> SimpleNamespace:
    """For each operation a function of the hart, its operands and the host's result."""
    host_sub: Callable[..., U64] = of_host(suffix, "sub")
    same: Callable[..., bool] = of_host(suffix, "eq")
    host_fma: Callable[..., U64] = of_host(suffix, "fma")
    sign, one = 1 << e + f, ((1 << e - 1) - 1) << f

    @inline
    @named(f"{suffix}_sum_is_exact")
    def add(hart: Hart, a: U64, b: U64, result: U64) -> bool:
        return hart.host_subnormals != 0 and same(host_sub(result, a), b) and same(host_sub(result, b), a)

    @inline
    @named(f"{suffix}_is_product")
    def is_product(hart: Hart, a: U64, b: U64, product: U64) -> bool:
        rest = host_fma(a, b, product ^ sign)
        able = host_fma(U64(one), U64(one), U64(one))
        return hart.host_subnormals != 0 and able != 0 and is_zero(rest, U64(e), U64(f))

    @inline
    @named(f"{suffix}_product_is_exact")
    def mul(hart: Hart, a: U64, b: U64, result: U64) -> bool:
        return is_product(hart, a, b, result)

    @inline
    @named(f"{suffix}_quotient_is_exact")
    def div(hart: Hart, a: U64, b: U64, result: U64) -> bool:
        return result_stands(hart, a, U64(e), U64(f)) and is_product(hart, result, b, a)

    @inline
    @named(f"{suffix}_root_is_exact")
    def sqrt(hart: Hart, a: U64, result: U64) -> bool:
        return result_stands(hart, a, U64(e), U64(f)) and is_product(hart, result, result, a)

    @inline
    @named(f"{suffix}_fused_is_exact")
    def fma(hart: Hart, a: U64, b: U64, c: U64, result: U64) -> bool:
        product = host_sub(result, c)
        large = result_stands(hart, product, U64(e), U64(f))
        known = large or is_zero(a, U64(e), U64(f)) or is_zero(b, U64(e), U64(f))
        return known and is_product(hart, a, b, product) and same(host_sub(result, product), c)

    return SimpleNamespace(add=add, mul=mul, div=div, sqrt=sqrt, fma=fma)
