"""D: double-precision floating point (Unprivileged spec, D chapter)."""

from __future__ import annotations

from trapline.isa.float.formats import DOUBLE, SINGLE
from trapline.isa.float.instructions import declare, declare_conversion

declare(DOUBLE, "D", "D")
declare_conversion(DOUBLE, SINGLE, "D")
declare_conversion(SINGLE, DOUBLE, "D")
