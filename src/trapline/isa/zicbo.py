"""Cache-block operations (CMO spec: Zicbom, Zicboz, Zicbop).

There are no caches: the management instructions check and do nothing, the prefetch hints do nothing.
"""

from __future__ import annotations

from trapline.lang.facts import Access, Kind
from trapline.lang.functions import instruction
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege.guards import require_cbo_clean, require_cbo_inval, require_cbo_zero
from trapline.privilege.memory import manage_block
from trapline.privilege.memory import zero_block as store_zeros

MANAGES, ZEROS = Access(Kind.MANAGE), Access(Kind.ZERO)


@instruction("cbo.inval (rs1)", "000000000000 rs1 010 00000 0001111", extension="Zicbom", access=MANAGES)
def cbo_inval(hart: Hart, rs1: U64) -> None:
    require_cbo_inval(hart)
    manage_block(hart, hart.x[rs1])


@instruction("cbo.clean (rs1)", "000000000001 rs1 010 00000 0001111", extension="Zicbom", access=MANAGES)
def cbo_clean(hart: Hart, rs1: U64) -> None:
    require_cbo_clean(hart)
    manage_block(hart, hart.x[rs1])


@instruction("cbo.flush (rs1)", "000000000010 rs1 010 00000 0001111", extension="Zicbom", access=MANAGES)
def cbo_flush(hart: Hart, rs1: U64) -> None:
    require_cbo_clean(hart)
    manage_block(hart, hart.x[rs1])


@instruction("cbo.zero (rs1)", "000000000100 rs1 010 00000 0001111", extension="Zicboz", access=ZEROS)
def cbo_zero(hart: Hart, rs1: U64) -> None:
    require_cbo_zero(hart)
    store_zeros(hart, hart.x[rs1])


# The prefetches live in ori with rd=x0: without Zicbop they are that hint.


@instruction("prefetch.i imm(rs1)", "imm[11:5] 00000 rs1 110 00000 0010011", extension="Zicbop")
def prefetch_i(hart: Hart) -> None:
    pass


@instruction("prefetch.r imm(rs1)", "imm[11:5] 00001 rs1 110 00000 0010011", extension="Zicbop")
def prefetch_r(hart: Hart) -> None:
    pass


@instruction("prefetch.w imm(rs1)", "imm[11:5] 00011 rs1 110 00000 0010011", extension="Zicbop")
def prefetch_w(hart: Hart) -> None:
    pass
