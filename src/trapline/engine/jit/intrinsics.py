"""How a region declares the intrinsics of LLVM that its templates call."""

from __future__ import annotations

from trapline.engine.jit.inexact import MXCSR, declared

INTRINSICS = {
    "llvm.ctlz.i64": "i64 @llvm.ctlz.i64(i64, i1)",
    "llvm.cttz.i64": "i64 @llvm.cttz.i64(i64, i1)",
    "llvm.ctpop.i64": "i64 @llvm.ctpop.i64(i64)",
    "llvm.bswap.i64": "i64 @llvm.bswap.i64(i64)",
    "llvm.sqrt.f64": "double @llvm.sqrt.f64(double)",
    "llvm.sqrt.f32": "float @llvm.sqrt.f32(float)",
    "llvm.fma.f64": "double @llvm.fma.f64(double, double, double)",
    "llvm.fma.f32": "float @llvm.fma.f32(float, float, float)",
}


def declaration(name: str) -> str:
    """Declare an intrinsic: of the list, or one of i64 alone (minimum, funnel shift, ...)."""
    if name in MXCSR or ".constrained." in name:
        return f"declare {declared(name)}"
    known = INTRINSICS.get(name)
    if known is None:
        count = 3 if ".fsh" in name else 1 if ".bitreverse" in name else 2
        type_ = name.rsplit(".", 1)[1]
        known = f"{type_} @{name}({', '.join([type_] * count)})"
        if ".abs." in name:
            known = f"{type_} @{name}({type_}, i1)"
    return f"declare {known}"
