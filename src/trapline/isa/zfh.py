"""Zfh: half-precision floating point, and its subset Zfhmin (Unprivileged spec, Zfh chapter)."""

from __future__ import annotations

from trapline.isa.float.formats import DOUBLE, HALF, SINGLE
from trapline.isa.float.instructions import declare, declare_conversion

declare(HALF, "Zfh", "Zfh|Zfhmin")
declare_conversion(HALF, SINGLE, "Zfh|Zfhmin")
declare_conversion(SINGLE, HALF, "Zfh|Zfhmin")
declare_conversion(HALF, DOUBLE, "D&Zfh|Zfhmin")
declare_conversion(DOUBLE, HALF, "D&Zfh|Zfhmin")
