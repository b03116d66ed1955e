"""State of a vCPU in the words of its hart, and what a snapshot keeps of its attributes, with what they can hold."""

from __future__ import annotations

from typing import Any

from trapline.lang.state import Hart
from trapline.session.state.plain_types import U32, U64

CONFIGURED = (
    *("id", "policy", "decoder", "death", "nested", "_complete"),
    *("native_policy", "native_flags", "native_seen", "native_slots"),
)
OF_AN_EXIT_THAT_IS_OVER = (
    *("_how", "_path", "_pending_hop", "_trap"),
    *("m_instructions", "_m_source", "_raised"),
)
SKIPS = (*CONFIGURED, *OF_AN_EXIT_THAT_IS_OVER)
TYPES: dict[str, Any] = {
    "_reset_to": tuple[U64, U64] | None,
    "csr_insn": U32 | None,
    "firmware_dump": str,
    "isa_disabled": set[str],
}


class VcpuWords:
    """State of a vCPU that is in words of its hart, where native exits use it."""

    hart: Hart

    @property
    def in_guest(self) -> bool:
        """Whether the guest's registers are in the hart."""
        return bool(self.hart.kvm_in_guest != 0)

    @in_guest.setter
    def in_guest(self, value: bool) -> None:
        self.hart.kvm_in_guest = int(value)

    @property
    def blocked(self) -> bool:
        """Whether a WFI waits for an interrupt."""
        return bool(self.hart.kvm_blocked != 0)

    @blocked.setter
    def blocked(self, value: bool) -> None:
        self.hart.kvm_blocked = int(value)

    @property
    def yielded(self) -> bool:
        """Whether a WRS gives the rest of the turn to the other vCPUs."""
        return bool(self.hart.kvm_yielded != 0)

    @yielded.setter
    def yielded(self, value: bool) -> None:
        self.hart.kvm_yielded = int(value)

    @property
    def irqs_pending(self) -> int:
        """VS-level interrupts that are to be pending."""
        return int(self.hart.kvm_irqs)

    @irqs_pending.setter
    def irqs_pending(self, value: int) -> None:
        self.hart.kvm_irqs = value

    @property
    def irqs_pending_mask(self) -> int:
        """Those that have changed since the last entry."""
        return int(self.hart.kvm_irqs_mask)

    @irqs_pending_mask.setter
    def irqs_pending_mask(self, value: int) -> None:
        self.hart.kvm_irqs_mask = value
