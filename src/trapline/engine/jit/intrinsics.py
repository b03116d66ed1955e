"""How a region declares the intrinsics of LLVM that its templates call."""

from __future__ import annotations

from trapline.engine.jit.inexact import signature_of
from trapline.engine.llvm import INTRINSICS, declared, signature


def declaration(name: str) -> str:
    """Declare an intrinsic: of the list, or one of i64 alone (minimum, funnel shift, ...)."""
    known = signature_of(name) if ".constrained." in name else INTRINSICS.get(name)
    if known is None:
        count = 3 if ".fsh" in name else 1 if ".bitreverse" in name else 2
        type_ = name.rsplit(".", 1)[1]
        known = (type_, type_, "i1") if ".abs." in name else (type_,) * (1 + count)
    return declared(signature(known[0], name, known[1:]))
