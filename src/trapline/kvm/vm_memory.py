"""The memory of a VM: its slots, what backs them, and the G-stage that maps them (kvm_main.c, mmu.c)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trapline.kvm.exits.map_native import level_in_slot
from trapline.kvm.gstage import PAGE, GStage
from trapline.kvm.uapi.dirty_log import DirtyLogs
from trapline.kvm.uapi.slots import MemorySlot, SlotKind, SlotTable
from trapline.lang.control import flush_translations
from trapline.named_files import open_input
from trapline.privilege.pte import PTE_V
from trapline.session.regions import Regions

if TYPE_CHECKING:
    from trapline.engine.api import Engine
    from trapline.kvm.vcpu import Vcpu
    from trapline.policies import Policy

BACKING_BASE = 0x1_0000_0000
_LAST_BACKING = 1 << 55
GIGABYTE = 1 << 30
# The host's pages behind guest memory, by the level of the G-stage leaf that can map them: 2M are transparent
# huge pages where KVM looks at them (7.0) and hugetlbfs everywhere, 1G hugetlbfs.
BACKINGS = {"4K": 0, "2M": 1, "1G": 2}


class VmSlots:
    """The slots of a VM (`Vm`)."""

    policy: Policy
    engine: Engine
    regions: Regions
    slots: SlotTable
    dirty_logs: DirtyLogs
    gstage: GStage
    vcpus: Sequence[Vcpu]
    backing: str
    generic_stats: dict[str, int]
    _backing_end: int

    def choose_backing(self, backing: str) -> None:
        """Say how large the host's pages behind guest memory are; auto is what the policy's KVM makes of them."""
        huge = "2M" if self.policy.has_feature("transparent-huge-pages") else "4K"
        self.backing = huge if backing == "auto" else backing

    def add_memory(
        self,
        gpa: int,
        size: int,
        kind: SlotKind | str = SlotKind.RAM,
        *,
        file: Path | None = None,
        slot: int | None = None,
    ) -> MemorySlot:
        """KVM_SET_USER_MEMORY_REGION: back guest physical addresses; ValueError says what is wrong."""
        # The same offset from a gigabyte as in the guest, so that large pages can map it.
        hpa = self._backing_end + (gpa - self._backing_end) % GIGABYTE
        number = self.slots.free_number() if slot is None else slot
        return self._add(MemorySlot(number, gpa, size, SlotKind(kind), hpa, file))

    def restore_memory(self, slot: MemorySlot) -> None:
        """Add a slot of a snapshot, which holds what was in it: a file behind it is not opened."""
        if slot.hpa < BACKING_BASE or slot.hpa + slot.size > _LAST_BACKING or slot.hpa % PAGE:
            raise ValueError(f"{slot.describe()}: no memory can lie at host physical address {slot.hpa:#x}")
        self._add(slot, blank=True)

    def _add(self, new: MemorySlot, *, blank: bool = False) -> MemorySlot:
        self.slots.add(new)
        self._backing_end = max(self._backing_end, new.hpa + new.size + PAGE)
        try:
            self._back(new, blank=blank)
        except (OSError, ValueError):
            self.slots.remove(new)
            raise
        self._regions_changed()
        return new

    def _back(self, slot: MemorySlot, *, blank: bool) -> None:
        if slot.kind in (SlotKind.HOLE, SlotKind.NONE):
            return
        title = f"slot {slot.slot}"
        if slot.kind is SlotKind.FILE and not blank:
            if slot.file is None:
                raise ValueError(f"{slot.describe()} names no file")
            with open_input(slot.file) as file:
                if os.fstat(file.fileno()).st_size < slot.size:
                    raise ValueError(f"{slot.describe()}: {str(slot.file)!r} is smaller than the slot")
                slot.region = self.regions.ram(title, slot.hpa, slot.size, file=file)
        else:
            slot.region = self.regions.ram(title, slot.hpa, slot.size)

    def take_away(self, slot: MemorySlot) -> None:
        """mprotect(PROT_NONE): the slot stays, and KVM cannot reach its memory any more."""
        self._remove(slot)
        slot.kind, slot.region = SlotKind.NONE, None
        self._regions_changed()

    def remove_memory(self, slot: MemorySlot) -> None:
        """Take a slot away: its pages are unmapped first."""
        self._remove(slot)
        self.slots.remove(slot)
        self._regions_changed()

    def _remove(self, slot: MemorySlot) -> None:
        self._forget(slot)
        if slot.region is not None:
            self.engine.code_written(slot.region.host, slot.size)
            self.regions.remove(slot.region)

    def _regions_changed(self) -> None:
        for vcpu in self.vcpus:
            self.regions.install(vcpu.hart)
            self.engine.attach(vcpu.hart)
            if vcpu.nested is not None:
                vcpu.nested.follow_memory()

    def map_page(self, slot: MemorySlot, gpa: int, *, write: bool) -> None:
        """Map the page of `gpa`, or the largest block that slot and alignment allow."""
        writable = slot.writable and (slot.dirty is None or write)
        if slot.dirty is not None and write:
            slot.dirty.add((gpa - slot.gpa) // PAGE)
        level = self._level(slot, gpa)
        block = gpa & -(PAGE << 9 * level)
        replaced = self.gstage.find(gpa)[2] & PTE_V
        if self.gstage.map(block, slot.hpa + block - slot.gpa, level, writable=writable) and replaced:
            self.flush_all()

    @property
    def largest_level(self) -> int:
        """The largest block that the backing of guest memory allows: 0 for 4 KiB, 1 for 2 MiB, 2 for 1 GiB."""
        return BACKINGS[self.backing]

    def _level(self, slot: MemorySlot, gpa: int) -> int:
        """The largest block that backing, slot, alignment and what is mapped there already allow."""
        if slot.dirty is not None or slot.kind is SlotKind.HOLE:
            return 0
        level = level_in_slot(slot.gpa, slot.end, slot.hpa, self.largest_level, gpa)
        while level and self._has_smaller(gpa & -(PAGE << 9 * level), level):
            level -= 1
        return level

    def _has_smaller(self, block: int, level: int) -> bool:
        _, found, entry = self.gstage.find(block)
        return found < level and bool(entry & PTE_V)

    def flush_all(self) -> None:
        """Forget every translation of every vCPU (kvm_flush_remote_tlbs)."""
        self.generic_stats["remote_tlb_flush_requests"] += 1
        self.generic_stats["remote_tlb_flush"] += 1
        for vcpu in self.vcpus:
            flush_translations(vcpu.hart)
            if vcpu.nested is not None:
                vcpu.nested.forget()

    def move_memory(self, slot: MemorySlot, gpa: int) -> None:
        """KVM_SET_USER_MEMORY_REGION with another address: the same memory is elsewhere from now on."""
        self.slots.move(slot, gpa, lambda: self._forget(slot))
        self._regions_changed()

    def _forget(self, slot: MemorySlot) -> None:
        """Unmap a slot for every vCPU (kvm_arch_flush_shadow_memslot)."""
        if self.gstage.unmap(slot.gpa, slot.size):
            self.flush_all()

    def log_dirty(self, slot: MemorySlot, *, on: bool) -> None:
        """KVM_MEM_LOG_DIRTY_PAGES: write-protect the slot and note what the guest writes."""
        self.dirty_logs.switch(slot, on=on)

    def dirty_log(self, slot: MemorySlot) -> list[int]:
        """KVM_GET_DIRTY_LOG: pages of the slot written since the last call, which are protected again."""
        return self.dirty_logs.get(slot)

    def read_memory(self, gpa: int, size: int) -> bytes:
        """Read guest memory as the VMM does, through its own mapping; ValueError outside the slots."""
        return bytes(self.memory_view(gpa, size))

    def write_memory(self, gpa: int, data: bytes | bytearray | memoryview) -> None:
        """Write guest memory as the VMM does; ValueError outside the slots."""
        self.memory_view(gpa, len(data), write=True)[:] = data
        self.memory_written(gpa, len(data))

    def memory_written(self, gpa: int, size: int) -> None:
        """The VMM wrote guest memory: forget code decoded from there."""
        slot = self.slots.find(gpa)
        if slot is not None and slot.region is not None and size:
            self.engine.code_written(slot.region.host + gpa - slot.gpa, size)

    def memory_view(self, gpa: int, size: int, *, write: bool = False) -> memoryview:
        """Return guest memory as the VMM has it mapped, `write` to change it; ValueError outside the slots."""
        slot = self.slots.find(gpa)
        if slot is None or slot.region is None or gpa + size > slot.end:
            raise ValueError(f"no guest memory at [{gpa:#x}..{gpa + size - 1:#x}]")
        return self.regions.view(slot.hpa + gpa - slot.gpa, size, write=write)


class VmMemory:
    """Guest memory as the VMM has it mapped, for session.memory_view."""

    def __init__(self, vm: Any) -> None:
        self._vm = vm

    def read(self, address: int, size: int) -> bytes:
        """Copy bytes out."""
        data: bytes = self._vm.read_memory(address, size)
        return data

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Copy bytes in."""
        self._vm.write_memory(address, data)
