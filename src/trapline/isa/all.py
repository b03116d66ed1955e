"""Every instruction: importing this module fills trapline.lang.functions.INSTRUCTIONS.

The order is that of the specification, and stays the same from run to run.
"""

from __future__ import annotations

# ruff: noqa: F401, I001
from trapline.isa import i, zicsr, zifencei, privileged
from trapline.isa import m, a, f, d, zfh, c, zcb
from trapline.isa import zicond, zba, zbb, zbc, zbs, zbkb, zbkx
from trapline.isa import zicbo, zawrs, h
