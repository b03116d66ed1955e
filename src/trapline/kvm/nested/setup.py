"""The hart that a guest hypervisor sees, made for a vCPU: its extensions, its memory, what firmware left it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trapline.kvm.nested.shadow import ANY_VMID, BY_PAGE, PAGE, ROOT_PAGES, empty_shadows, fence_range, forget_shadows
from trapline.kvm.nested.world import leave_l2, pull_l1
from trapline.kvm.timer import NEVER
from trapline.kvm.uapi.isa_ext import WITHHELD
from trapline.lang.control import EXIT_STOP, leave
from trapline.lang.state import Hart
from trapline.lang.state.words import SHADOWS, STORED_PAGES
from trapline.lang.values import MASK64, U64
from trapline.machine.devices.clint import time_of
from trapline.privilege.derived import update_derived
from trapline.privilege.fields import ENVCFG_STCE
from trapline.privilege.isa_string import IMPLIES, configure, set_masks
from trapline.privilege.protection import KIND_DEVICE, KIND_RAM, KIND_ROM
from trapline.privilege.reset import reset
from trapline.privilege.stored import log_store
from trapline.sbi.host import RemoteFence
from trapline.session.regions import Region, Regions

if TYPE_CHECKING:
    from trapline.kvm.uapi.slots import MemorySlot
    from trapline.kvm.vcpu import Vcpu

POOL_PAGES = 2048  # of a vCPU's shadows: 8 MiB
# What L1 sees only if the guest was given it; the rest of the ISA is the host's.
_GIVEN = ("sstc", "svpbmt", "svnapot", "svinval", "svadu", "zicbom", "zicboz", "zawrs", "smstateen")
_SBI_CALLS = 1 << 9 | 1 << 11  # ecalls of HS- and M-mode, which are the SBI's


class _Window:
    """A device of the VMM as HLV and HSV reach it."""

    def __init__(self, vcpu: Vcpu, base: int) -> None:
        self.vcpu, self.base = vcpu, base

    def load(self, hart: Hart, offset: int, size: int) -> int:
        return self.vcpu.hart.on_mmio(self.base + offset, size, 0)

    def store(self, hart: Hart, offset: int, size: int, value: int) -> None:
        self.vcpu.hart.on_mmio(self.base + offset, size | 256, value)
        poll = self.vcpu.vm.poll
        if poll is not None and poll():  # the device has ended the run
            leave(self.vcpu.hart, EXIT_STOP)


class NestedHart:
    """Makes and keeps the hart that the guest of one vCPU sees; `pool` is where its shadows are."""

    snapshot_skips = ("vcpu", "hart", "_known")

    def __init__(self, vcpu: Vcpu, pool: int) -> None:
        self.vcpu, self.hart = vcpu, Hart()
        self._known: object = None
        own = vcpu.hart
        configure(self.hart, vcpu.vm.isa)
        self.hart.time_ratio = own.time_ratio
        own.kvm_virtual = self.hart.address
        self.hart.on_log_store = lambda pa: log_store(self.hart, U64(pa))  # type: ignore[method-assign]
        own.shadow_base, own.shadow_pages = pool, POOL_PAGES
        own.shadow_host = vcpu.vm.tables.region.host + pool - vcpu.vm.tables.region.base

    def reset(self) -> None:
        """As at power-on: in HS-mode, with what firmware gives it."""
        hart = self.hart
        self.follow_memory()
        reset(hart, self.vcpu.id, 0)
        hart.medeleg = hart.medeleg_mask & ~_SBI_CALLS
        hart.mideleg = hart.mideleg_mask | hart.mideleg_ones
        hart.mcounteren = hart.counteren_mask
        for i in range(4 if hart.has_smstateen != 0 else 0):
            hart.mstateen[i] = (1 << 64) - 1 if i else hart.mstateen_mask
        hart.hosted_m = 1
        hart.priv = 1
        hart.tinst_transformed = self.vcpu.hart.tinst_transformed
        hart.stimecmp = hart.vstimecmp = (1 << 64) - 1
        hart.call(update_derived)
        self.vcpu.hart.kvm_world = 0
        self.vcpu.hart.kvm_nacl_memory = 0
        self.vcpu.hart.kvm_hstatus = self.vcpu.hart.guest_hstatus
        self.vcpu.hart.call(empty_shadows)

    def loaded(self) -> None:
        """The vCPU's CSRs are in the hart: note what L0 gives L1, for when L1 runs again after L2."""
        own, config = self.vcpu.hart, self.vcpu.config
        own.kvm_hedeleg, own.kvm_hideleg = own.hedeleg, own.hideleg
        own.kvm_hcounteren, own.kvm_henvcfg, own.kvm_hstateen0 = own.hcounteren, own.henvcfg, own.hstateen[0]
        self.hart.menvcfg = config.henvcfg & self.hart.menvcfg_mask
        self.follow_memory()
        self.follow_logs()
        if self.hart.virt != 0:  # the registers may be others than those that were put
            own.call(pull_l1, own.kvm_virtual)

    def put(self) -> None:
        """The vCPU is put: L1's registers are in the hart."""
        self.vcpu.hart.call(leave_l2)
        self.give_stored()

    def follow_logs(self) -> None:
        """Note what is written on the hart that L1 sees while any slot logs."""
        self.hart.stored_log = int(any(slot.dirty is not None for slot in self.vcpu.vm.slots))

    def give_stored(self) -> None:
        """What was written there is dirty: NACL's memory, what L1 stored by HSV, A and D of its tables."""
        count = int(self.hart.stored_count)
        self.hart.stored_count = 0
        if count > STORED_PAGES:
            for slot in self.vcpu.vm.slots:
                slot.mark_dirty(slot.gpa, slot.size if slot.writable else 0)
            return
        for i in range(count):
            page = int(self.hart.stored_pages[i]) * PAGE
            if (written := self.vcpu.vm.slots.find(page)) is not None:
                written.mark_dirty(page, PAGE)

    def deadline(self) -> int | None:
        """The host tick, later than now, of the next event of L1's timer or of L2's, while L2 waits."""
        own, tick = self.vcpu.hart, time_of(self.vcpu.hart)
        now = tick + int(own.kvm_time_delta)
        events = [(int(self.hart.stimecmp), now)]
        if own.henvcfg & ENVCFG_STCE != 0:
            events.append((int(own.vstimecmp), now + int(self.hart.htimedelta)))
        ahead = [event - (time & MASK64) for event, time in events if event != NEVER]
        return min((tick + n for n in ahead if n > 0), default=None)

    def forget(self) -> None:
        """The VM's own tables or memory have changed."""
        self.vcpu.hart.call(forget_shadows)

    def follow_memory(self) -> None:
        """The VM's slots and devices are the memory of the hart; what has no memory behind it is no memory."""
        vm = self.vcpu.vm
        slots = [s for s in vm.slots if s.region is not None]
        known = [(s.gpa, s.size, s.kind, id(s.region)) for s in slots], vm.devices
        if known == self._known:
            return
        self._known = known
        regions = Regions()
        for slot in slots:
            regions.add(_region(slot))
        for base, end in vm.devices or ():
            regions.add(Region("device", base, end - base, KIND_DEVICE, True, _Window(self.vcpu, base)))
        self._extensions(limited=False)  # an engine decodes for one set of extensions
        regions.install(self.hart)
        vm.engine.attach(self.hart)
        self._extensions(limited=True)
        self.forget()  # L1's tables may have gone

    def _extensions(self, *, limited: bool) -> None:
        own = self.vcpu.hart
        for name in IMPLIES:
            has = getattr(own, f"has_{name}")
            if limited and (name in WITHHELD or (name in _GIVEN and not self._given(name))):
                has = 0
            setattr(self.hart, f"has_{name}", has)
        self.hart.misaligned_hardware = own.misaligned_hardware
        set_masks(self.hart)

    def _given(self, name: str) -> bool:
        return self.vcpu.timer.sstc if name == "sstc" else self.vcpu.guest_has(name)


def fence_guests(vcpu: Vcpu, fence: RemoteFence) -> None:
    """Do an hfence.gvma that another vCPU of the guest hypervisor has asked for (SBI, RFENCE 3 and 4)."""
    vmid = ANY_VMID if fence.tag is None else fence.tag
    if fence.tag is not None and vcpu.policy.has_bug("nested-rfence-wrong-vmid"):
        vmid = 1
    first, pages = fence.start // PAGE, BY_PAGE + 1
    if fence.size is not None:
        pages = min(pages, -(-(fence.start + fence.size) // PAGE) - first)
    vcpu.hart.call(fence_range, vmid, first, pages)


def _region(slot: MemorySlot) -> Region:
    assert slot.region is not None
    kind = KIND_RAM if slot.writable else KIND_ROM
    return Region(f"slot {slot.slot}", slot.gpa, slot.size, kind, False, None, slot.region.backing)


def pool_size(vcpus: int) -> int:
    """Bytes of hypervisor memory for the shadows of so many vCPUs."""
    return vcpus * POOL_PAGES * PAGE


assert POOL_PAGES > SHADOWS * ROOT_PAGES + 64
