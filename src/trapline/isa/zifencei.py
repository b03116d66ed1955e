"""Zifencei: instruction-fetch fence. The reserved fields imm, rs1 and rd are ignored.

Every fetch sees every store that came before it, of any hart (Ziccid), so the fence has nothing to do.
"""

from __future__ import annotations

from trapline.lang.functions import instruction
from trapline.lang.state import Hart


@instruction("fence.i", "imm[11:0] rs1 001 rd 0001111", extension="Zifencei")
def fence_i(hart: Hart) -> None:
    pass
