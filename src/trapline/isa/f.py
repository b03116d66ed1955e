"""F: single-precision floating point (Unprivileged spec, F chapter)."""

from __future__ import annotations

from trapline.isa.float.formats import SINGLE
from trapline.isa.float.instructions import declare

declare(SINGLE, "F", "F")
