"""Dirty logs: which pages of a slot the guest has written (kvm_main.c, arch/riscv/kvm/mmu.c).

A slot that logs is write-protected and mapped in 4 KiB pages; the fault of a first store marks its
page. Reading the log arms it again, unless clearing is manual (KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from trapline.kvm.uapi.numbers import KVM_DIRTY_LOG_INITIALLY_SET, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE
from trapline.kvm.uapi.slots import PAGE, MemorySlot
from trapline.session.state.plain_types import Bits

if TYPE_CHECKING:
    from trapline.kvm.vm import Vm

_MANUAL_FLAGS = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET


class DirtyLogs:
    """Dirty logging of one VM. `manual` holds the flags of KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2."""

    snapshot_types: ClassVar = {"manual": Bits(2)}

    def __init__(self, vm: Vm) -> None:
        self.vm = vm
        self.manual = 0

    def set_manual(self, flags: int) -> None:
        """KVM_ENABLE_CAP(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2); ValueError for flags that this KVM does not have."""
        allowed = _MANUAL_FLAGS if self.vm.policy.has_feature("dirty-log-initially-set") else _MANUAL_FLAGS & 1
        if flags & ~allowed or flags == KVM_DIRTY_LOG_INITIALLY_SET:
            raise ValueError(f"manual dirty log flags {flags:#x}: expected {' or '.join(map(str, {0, 1, allowed}))}")
        self.manual = flags

    def switch(self, slot: MemorySlot, *, on: bool) -> None:
        """KVM_MEM_LOG_DIRTY_PAGES of a slot, on or off; nothing happens if it is so already."""
        if on == (slot.dirty is not None):
            return
        self._give_stored()
        slot.dirty = set() if on else None
        for vcpu in self.vm.vcpus:
            if vcpu.nested is not None:
                vcpu.nested.follow_logs()
        if not on:
            return
        if self.manual & KVM_DIRTY_LOG_INITIALLY_SET:
            slot.dirty = set(range(slot.size // PAGE))
            return
        if self.vm.gstage.write_protect(slot.gpa, slot.size):
            self.vm.flush_all()

    def get(self, slot: MemorySlot) -> list[int]:
        """KVM_GET_DIRTY_LOG: page numbers within the slot; they are clean again unless clearing is manual."""
        dirty = self._pages(slot)
        pages = sorted(dirty)
        if not self.manual:
            self._clean(slot, dirty)
        return pages

    def bitmap(self, slot: MemorySlot) -> bytes:
        """KVM_GET_DIRTY_LOG as user space gets it: a bit a page, little endian, whole 64-bit words."""
        bits = bytearray((slot.size // PAGE + 63) // 64 * 8)
        for page in self.get(slot):
            bits[page >> 3] |= 1 << (page & 7)
        return bytes(bits)

    def clear(self, slot: MemorySlot, first_page: int, bitmap: bytes) -> None:
        """KVM_CLEAR_DIRTY_LOG: arm the pages whose bits are set, counted from `first_page`; it is a multiple of 64."""
        dirty = self._pages(slot)
        pages = {first_page + n for n in range(8 * len(bitmap)) if bitmap[n >> 3] >> (n & 7) & 1}
        if first_page % 64 or len(bitmap) % 8 or not 0 <= first_page * PAGE <= slot.size:
            raise ValueError(
                f"clearing {8 * len(bitmap)} pages from {first_page}: both are multiples of 64 in the slot"
            )
        if any(page * PAGE >= slot.size for page in pages):
            raise ValueError(f"page {max(pages)} lies beyond {slot.describe()}")
        self._clean(slot, pages & dirty)

    def _pages(self, slot: MemorySlot) -> set[int]:
        if slot.dirty is None:
            raise ValueError(f"{slot.describe()} logs no dirty pages")
        self._give_stored()
        return slot.dirty

    def _give_stored(self) -> None:
        for vcpu in self.vm.vcpus:
            if vcpu.nested is not None:
                vcpu.nested.give_stored()

    def _clean(self, slot: MemorySlot, pages: set[int]) -> None:
        """Forget pages and protect them again, so that the next store is seen."""
        assert slot.dirty is not None
        armed = sorted(pages)
        slot.dirty.difference_update(armed)
        for page in armed:
            self.vm.gstage.write_protect(slot.gpa + page * PAGE, PAGE)
        if armed:
            self.vm.flush_all()
