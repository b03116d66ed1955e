"""What an L0 does otherwise than the architecture for nested guests: each a bug of the policy, here a bit of a word.

The compiled code asks `has_bug(hart, U64(BIT))`; who does it and where it is read stands in policies/nested.toml.
"""

from __future__ import annotations

from typing import get_args

from trapline.lang.functions import inline
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.policies.names import NestedBugName

BITS: dict[NestedBugName, int] = {name: 1 << n for n, name in enumerate(get_args(NestedBugName))}

COUNTER_ILLEGAL = BITS["nested-counter-illegal"]
COUNTER_NOT_ROUTED = BITS["nested-counter-not-routed"]
GVA_BY_CAUSE = BITS["nested-gva-by-cause"]
KEPT_INTERRUPTS_LOST = BITS["nested-kept-interrupts-lost"]
NO_HLV = BITS["nested-no-hlv"]
NO_IRQ_EXIT = BITS["nested-no-irq-exit"]
SIP_MASK_SHIFTED = BITS["nested-sip-mask-shifted"]
SRET_KEEPS_SPV = BITS["nested-sret-keeps-spv"]
SV39X4_ONLY = BITS["nested-sv39x4-only"]
UNDELEGATED_KILL = BITS["nested-undelegated-kill"]
VSCAUSE_LOSES_INTERRUPT_BIT = BITS["nested-vscause-loses-interrupt-bit"]
WFI_ALWAYS_22 = BITS["nested-wfi-always-22"]


@inline
def has_bug(hart: Hart, bit: U64) -> bool:
    """Whether this L0 has the bug."""
    return hart.kvm_nested_bugs & bit != 0
