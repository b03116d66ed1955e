"""What branches and jumps share: the check of the target's alignment, before any effect."""

from __future__ import annotations

from trapline.lang.control import jump
from trapline.lang.functions import Trap, inline
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege.causes import INST_MISALIGNED


@inline
def check_target(hart: Hart, target: U64) -> None:
    """Raise instruction-address-misaligned on the jump itself if IALIGN=32 and the target is not aligned."""
    if hart.has_c == 0 and target & 2 != 0:
        raise Trap(INST_MISALIGNED, target, 0, 0, hart.virt)


@inline
def branch(hart: Hart, offset: U64) -> None:
    """Continue at pc + offset."""
    target = hart.pc + offset
    check_target(hart, target)
    jump(hart, target)
