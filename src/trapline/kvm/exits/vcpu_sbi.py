"""SBI towards the guest: the shared SBI served by KVM, or forwarded to the VMM (vcpu_sbi.c).

Which extensions there are, which are off by default and which are forwarded is the policy's.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, ClassVar

from trapline.kvm.exits.kept_answers import keep_answer
from trapline.kvm.exits.redirect import access_fault, inject
from trapline.kvm.exits.sbi_fwft import GuestFeature, guest_features
from trapline.kvm.exits.sbi_own import own_answer
from trapline.kvm.nested.setup import fence_guests
from trapline.kvm.pmu.vcpu_pmu import VcpuPmu, guest_pmu
from trapline.kvm.steal_time import StealTime
from trapline.kvm.uapi.context import CpuTrap, SbiForward, SystemEventExit
from trapline.kvm.uapi.numbers import IRQ_VS_SOFT, Exit, MpState, SystemEvent
from trapline.kvm.unpriv import read_word
from trapline.lang.control import flush_translations
from trapline.lang.functions import Trap
from trapline.lang.state.words import LAYOUT
from trapline.lang.values import MASK64
from trapline.policies import CauseRule
from trapline.policies.schema import SbiRule
from trapline.policies.versions import split
from trapline.privilege.causes import LOAD_GUEST_PAGE_FAULT
from trapline.privilege.translation import PSEUDO_WRITE_PTE
from trapline.sbi.call import Effect, SbiCall, SbiOutcome
from trapline.sbi.host import STANDARD, Access, Fence, HfenceService, RemoteFence, SbiProfile
from trapline.sbi.numbers import Eid, FirmwareEvent, HartState, Implementation, SbiError
from trapline.sbi.serve import serve
from trapline.session.state.plain_types import Part

if TYPE_CHECKING:
    from trapline.kvm.vcpu import Vcpu

A0, A1 = 10, 11
_ARGUMENTS = LAYOUT.fields["x"].index + A0
FWFT_SET, LOCK = 0, 1

PAGES_ONE_BY_ONE = 512  # PTRS_PER_PTE: a longer range is the whole space
_RECEIVED = {
    Fence.FENCE_I: FirmwareEvent.FENCE_I_RECEIVED,
    Fence.SFENCE_VMA: FirmwareEvent.HFENCE_VVMA_RECEIVED,
    Fence.SFENCE_VMA_ASID: FirmwareEvent.HFENCE_VVMA_ASID_RECEIVED,
    Fence.HFENCE_GVMA_VMID: FirmwareEvent.HFENCE_GVMA_VMID_RECEIVED,
    Fence.HFENCE_GVMA: FirmwareEvent.HFENCE_GVMA_RECEIVED,
    Fence.HFENCE_VVMA_ASID: FirmwareEvent.HFENCE_VVMA_ASID_RECEIVED,
    Fence.HFENCE_VVMA: FirmwareEvent.HFENCE_VVMA_RECEIVED,
}


def sbi_ecall(vcpu: Vcpu, trap: CpuTrap, rule: CauseRule) -> int:
    """Serve an ecall from VS-mode. Unknown extensions are NOT_SUPPORTED and the guest goes on."""
    call = SbiCall.of_arguments(vcpu.hart.mem[_ARGUMENTS : _ARGUMENTS + 8].tolist())
    vcpu.hop("sbi", "resumed")
    extension = vcpu.sbi.enabled_rule(call.eid)
    vcpu.sbi.leaving = None
    if extension is None:
        result = SbiOutcome(Effect.RETURN, SbiError.NOT_SUPPORTED)
    elif extension.name == "MPXY":
        result = SbiOutcome(Effect.FORWARD)
    else:
        vcpu.sbi.legacy = extension.name == "v0.1"
        result = own_answer(vcpu, call) or serve(vcpu.sbi, call)
        vcpu.sbi.after_serve(call, result)
    if result.effect is Effect.TRAP and result.trap is not None:
        return _fault(vcpu, result.trap)
    if result.effect is Effect.FORWARD or vcpu.sbi.leaving == "forward":
        return forward(vcpu, call)
    if vcpu.sbi.leaving == "event":
        vcpu.hop("sbi", "vmm")
        return 0
    if result.effect is Effect.RETURN:
        result.write_to(vcpu.hart.x)
        vcpu.hart.guest_sepc = int(vcpu.hart.guest_sepc) + 4
        keep_answer(vcpu, call, result)
    return 1


def _fault(vcpu: Vcpu, trap: Trap) -> int:
    """The guest's pointer faulted: the guest gets the fault, at its ecall, or KVM maps the page and does it again."""
    if trap.cause == LOAD_GUEST_PAGE_FAULT and vcpu.policy.has_feature("reads-as-the-guest"):
        gpa = trap.tval2 << 2 | trap.tval & 3
        slot = vcpu.vm.slots.find(gpa)
        write = trap.tinst == PSEUDO_WRITE_PTE
        if slot is not None and (slot.writable or not write):
            vcpu.vm.map_page(slot, gpa, write=write)
            return 1
        access_fault(vcpu, CpuTrap(trap.cause, int(vcpu.hart.guest_sepc), trap.tval, 0, 0))
        vcpu.hop("sbi", "guest")
        return 1
    inject(vcpu, CpuTrap(trap.cause, int(vcpu.hart.guest_sepc), trap.tval, trap.tval2, trap.tinst))
    vcpu.hop("sbi", "guest")
    return 1


def forward(vcpu: Vcpu, call: SbiCall) -> int:
    """KVM_EXIT_RISCV_SBI; the VMM's answer is taken when the vCPU runs again."""
    vcpu.stats.count("ecall_exit_stat")
    vcpu.kvm_run.riscv_sbi = SbiForward(call.eid, call.fid, call.args, [int(SbiError.NOT_SUPPORTED) & MASK64, 0])
    vcpu.kvm_run.exit_reason = Exit.RISCV_SBI
    vcpu.sbi.return_open = True
    vcpu.hop("sbi", "vmm")
    return 0


def sbi_return(vcpu: Vcpu) -> None:
    """Write the VMM's answer to a0 and a1 and step over the ecall, once."""
    if not vcpu.sbi.return_open:
        return
    vcpu.sbi.return_open = False
    vcpu.hart.x[A0] = vcpu.kvm_run.riscv_sbi.ret[0] & MASK64
    vcpu.hart.x[A1] = vcpu.kvm_run.riscv_sbi.ret[1] & MASK64
    vcpu.hart.guest_sepc = int(vcpu.hart.guest_sepc) + 4


class VcpuSbi:
    """SbiHost of one vCPU: harts are vCPUs, addresses are guest physical."""

    snapshot_skips = ("profile", "hartid", "leaving", "native_rules", "answers_of")
    checkpoint_skips = ("native_rules", "answers_of")
    snapshot_types: ClassVar = {"counters": Part(lambda sbi: VcpuPmu(sbi.vcpu)), "enabled": dict[str, bool]}

    def __init__(self, vcpu: Vcpu) -> None:
        self.vcpu = vcpu
        self.hartid = vcpu.id
        self.counters: VcpuPmu | None = guest_pmu(vcpu)
        self.enabled = {rule.name: rule.enabled for rule in vcpu.policy.sbi if self.can_offer(rule.name)}
        self.v01_left_out = False
        self.return_open = False
        self.leaving: str | None = None
        self.legacy = False  # KVM counts no firmware events of v0.1 calls
        self.steal = StealTime(vcpu)
        self.native_rules: tuple[SbiRule, ...] | None = None  # what hosted exits know of
        self.answers_of: tuple[object, ...] | None = None  # what kept answers follow from
        self.features: dict[int, GuestFeature] = guest_features(vcpu)
        self.profile = self._profile()

    def awaits_overflow(self) -> bool:
        """Whether a counter of the guest will raise an interrupt: only Python looks for that."""
        return self.counters is not None and self.counters.armed

    def counts_events(self) -> bool:
        """Whether the guest has firmware events counted."""
        return self.counters is not None and self.counters.counting

    def reset(self) -> None:
        """A vCPU reset takes FWFT features, counters and steal time back."""
        self.steal.reset()
        if self.counters is not None:
            self.counters.reset()
        for feature in self.features.values():
            if feature.supported:
                feature.reset()

    def can_offer(self, name: str) -> bool:
        """Whether host and vCPU have what an extension needs (kvm_vcpu_sbi_extension.probe)."""
        return name != "PMU" or self.counters is not None

    @property
    def pmu(self) -> VcpuPmu | None:
        """Who counts the call's firmware events."""
        return None if self.legacy else self.counters

    def enabled_rule(self, eid: int) -> SbiRule | None:
        """Return the policy's row of an extension that is there and on."""
        rule = self.vcpu.policy.sbi_rule(eid)
        return rule if rule is not None and self._is_on(rule) else None

    def enabled_rules(self) -> tuple[SbiRule, ...]:
        """Return the rows of all extensions that are there and on."""
        return tuple(rule for rule in self.vcpu.policy.sbi if self._is_on(rule))

    def _is_on(self, rule: SbiRule) -> bool:
        return bool(self.enabled.get(rule.name)) and not (self.v01_left_out and rule.name == "v0.1")

    def leave_out_v01(self) -> None:
        """A kernel without RISCV_SBI_V01: ONE_REG shows the extension all the same."""
        self.v01_left_out = True
        self.refresh_profile()

    def enable(self, name: str, on: bool) -> None:
        """Switch an extension for this guest."""
        self.enabled[name] = on
        self.refresh_profile()

    def refresh_profile(self) -> None:
        """After a change of what is enabled, or of the policy."""
        self.profile = self._profile()

    def _profile(self) -> SbiProfile:
        policy = self.vcpu.policy
        rules = [r for r in policy.sbi if self._is_on(r)]
        names = {r.name: "v01" if r.name == "v0.1" else r.name.lower() for r in rules}
        known = {n for n in names.values() if n in STANDARD or n == "v01"}
        forwarded = {names[r.name] for r in rules if r.mode == "forward" and r.name != "SUSP"} & known
        return SbiProfile(
            version=policy.sbi_version,
            implementation=Implementation.KVM,
            implementation_version=_version_code(policy.release),
            extensions=frozenset(known - forwarded),
            forwarded=frozenset(forwarded),
            forwarded_ranges=tuple((r.first, r.last) for r in rules if names[r.name] not in known | {"base"}),
            forwarded_eids=frozenset((Eid.CONSOLE_PUTCHAR, Eid.CONSOLE_GETCHAR)),
            lenient_hart_masks=frozenset(("rfence", "ipi")),
            legacy_mask_of_one_word=True,
            legacy_all_is_a_mask=policy.has_bug("v01-all-harts-by-mask"),
            hfence=self._hfence(),
            suspend_types=frozenset((0,)),
            reset_reasons=None,
            reset_type_error=SbiError.NOT_SUPPORTED,
            unknown_function=dict.fromkeys(
                ("time", "ipi") if policy.has_bug("sbi-unknown-function-invalid") else (), SbiError.INVALID_PARAM
            ),
        )

    def _hfence(self) -> HfenceService:
        """Fences of guests' guests are served where guests may have some."""
        if self.vcpu.vm.nested:
            return HfenceService.SERVE
        nothing = self.vcpu.policy.has_bug("hfence-calls-are-nops")
        return HfenceService.NOP if nothing else HfenceService.NOT_SUPPORTED

    def after_serve(self, call: SbiCall, result: SbiOutcome) -> None:
        """6.18 to 7.1 applied the LOCK flag of an FWFT set even when the set had failed."""
        if call.eid != Eid.FWFT or call.fid != FWFT_SET or not call.args[2] & LOCK:
            return
        feature = self.feature(call.args[0] & 0xFFFF_FFFF)
        failed = result.error == SbiError.INVALID_PARAM and not call.args[2] & ~LOCK
        if feature is not None and failed and self.vcpu.policy.has_bug("fwft-locks-on-failure"):
            feature.locked = True

    # --- harts ---
    def hartids(self) -> Sequence[int]:
        """Return all vCPUs."""
        return [v.id for v in self.vcpu.vm.vcpus]

    def machine_ids(self) -> tuple[int, int, int]:
        """Return what the VMM or the host says."""
        vendor, arch, imp = self.vcpu.machine_ids
        return vendor, arch, imp

    def hart_state(self, hartid: int) -> HartState:
        """Stopped, suspended while it blocks, or started."""
        other = self.vcpu.vm.vcpu(hartid)
        if other.mp_state is MpState.STOPPED:
            return HartState.STOPPED
        if self.vcpu.policy.has_bug("hsm-status-of-the-caller"):
            other = self.vcpu
        return HartState.SUSPENDED if other.blocked else HartState.STARTED

    def hart_start(self, hartid: int, start: int, opaque: int) -> SbiError:
        """Power a vCPU on."""
        self.vcpu.vm.vcpu(hartid).start(start, opaque)
        return SbiError.SUCCESS

    def hart_stop(self) -> SbiError:
        """Power the caller off."""
        self.vcpu.mp_state = MpState.STOPPED
        return SbiError.SUCCESS

    def hart_suspend(self) -> SbiError:
        """Retentive suspend is a WFI."""
        self.vcpu.halt()
        return SbiError.SUCCESS

    def hart_suspend_and_restart(self, resume: int, opaque: int) -> SbiError:
        """Non-retentive suspend is not there."""
        return SbiError.NOT_SUPPORTED

    def system_suspend(self, resume: int, opaque: int) -> SbiError:
        """Checked here, done by the VMM: when the vCPU next runs it begins at `resume`."""
        self.vcpu.request_reset(resume, opaque)
        self.leaving = "forward"
        return SbiError.SUCCESS

    def system_reset(self, kind: int, reason: int) -> None:
        """KVM_EXIT_SYSTEM_EVENT; every vCPU stops."""
        for other in self.vcpu.vm.vcpus:
            other.mp_state = MpState.STOPPED
        event = SystemEvent.SHUTDOWN if kind == 0 else SystemEvent.RESET
        self.vcpu.kvm_run.system_event = SystemEventExit(event, (reason,))
        self.vcpu.kvm_run.exit_reason = Exit.SYSTEM_EVENT
        self.leaving = "event"

    def has_hypervisor(self, hartid: int) -> bool:
        """Whether the vCPU has the H extension: only where the VM nests (kvm.nested)."""
        other = self.vcpu.vm.vcpu(hartid)
        return other.nested is not None and other.guest_has("h")

    # --- timer, interrupts, fences ---
    def set_timer(self, deadline: int) -> None:
        """Program the vCPU's timer."""
        self.vcpu.timer.next_event(deadline)

    def send_ipi(self, harts: Collection[int]) -> None:
        """Inject VS software interrupts."""
        for n in harts:
            other = self.vcpu.vm.vcpu(n)
            other.set_interrupt(IRQ_VS_SOFT)
            if not self.legacy:
                other.count_firmware_event(FirmwareEvent.IPI_RECEIVED)

    def clear_ipi(self) -> bool:
        """Take the caller's software interrupt back; KVM's v0.1 always returns 0."""
        self.vcpu.set_interrupt(IRQ_VS_SOFT, level=False)
        return False

    def remote_fence(self, fence: RemoteFence) -> None:
        """Forget translations on the named vCPUs: more than was asked for, never less. Code is always coherent."""
        lost = _is_lost(fence) and self.vcpu.policy.has_bug("fence-range-wraps")
        for n in fence.harts:
            other = self.vcpu.vm.vcpu(n)
            if fence.kind is not Fence.FENCE_I and not lost:
                flush_translations(other.hart)
            if fence.kind in (Fence.HFENCE_GVMA, Fence.HFENCE_GVMA_VMID):
                fence_guests(other, fence)
            everything = fence.kind is Fence.SFENCE_VMA and fence.size is None
            if not (everything and self.vcpu.policy.has_bug("fence-of-all-not-counted")):
                other.count_firmware_event(_RECEIVED[fence.kind])

    # --- memory ---
    def accessible(self, start: int, size: int, access: Access) -> bool:
        """Whether one slot holds the range. KVM does not look at start addresses of harts."""
        if access is Access.EXECUTE:
            return True
        slot = self.vcpu.vm.slots.find(start)
        return slot is not None and start + size <= slot.end and (slot.writable or access is Access.READ)

    def writable_slot(self, gpa: int) -> bool:
        """Whether a slot that is not read-only holds an address (kvm_vcpu_gfn_to_hva_prot)."""
        slot = self.vcpu.vm.slots.find(gpa)
        return slot is not None and slot.writable

    def read_memory(self, start: int, size: int) -> bytes:
        """Read guest physical memory."""
        return self.vcpu.vm.read_memory(start, size)

    def write_memory(self, start: int, data: bytes) -> None:
        """Write guest physical memory."""
        self.vcpu.vm.write_memory(start, data)

    def try_read(self, start: int, size: int) -> bytes | None:
        """Read guest memory, over several slots if need be; None if there is none (kvm_vcpu_read_guest)."""
        found = b""
        while size:
            slot = self.vcpu.vm.slots.find(start)
            if slot is None or slot.region is None:
                return None
            part = min(size, slot.end - start)
            found += self.read_memory(start, part)
            start, size = start + part, size - part
        return found

    def try_write(self, start: int, data: bytes) -> bool:
        """Write guest memory and mark its pages dirty; False if it is not there or read-only (kvm_vcpu_write_guest)."""
        while data:
            slot = self.vcpu.vm.slots.find(start)
            if slot is None or slot.region is None or not slot.writable:
                return False
            part = min(len(data), slot.end - start)
            self.write_memory(start, data[:part])
            slot.mark_dirty(start, part)
            start, data = start + part, data[part:]
        return True

    def load_word(self, va: int) -> int:
        """HLV.D with the guest's translation."""
        return read_word(self.vcpu, va)

    # --- the rest ---
    def console_write(self, data: bytes) -> int:
        """KVM has no console: these calls are forwarded."""
        raise AssertionError("console calls are forwarded to the VMM")

    def console_read(self, limit: int) -> bytes:
        """KVM has no console: these calls are forwarded."""
        raise AssertionError("console calls are forwarded to the VMM")

    def feature(self, number: int) -> GuestFeature | None:
        """Return a feature that exists and that the VMM has not switched off."""
        feature = self.features.get(number)
        return feature if feature is not None and feature.supported and feature.enabled else None

    def steal_time(self, shared_memory: int | None) -> SbiError:
        """Report stolen time there from now on."""
        self.steal.start(shared_memory)
        return SbiError.SUCCESS


def _is_lost(fence: RemoteFence) -> bool:
    """Whether tlb.c before 7.3 goes over no page: the end has wrapped, and the range is not so long that all goes."""
    return fence.start + fence.asked > MASK64 and fence.asked >> 12 <= PAGES_ONE_BY_ONE


def _version_code(version: str) -> int:
    """LINUX_VERSION_CODE of a release; a series alone has no point release in it."""
    if not version:
        return 0
    (major, minor), point = split(version)
    return major << 16 | minor << 8 | min(point or 0, 255)
