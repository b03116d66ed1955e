"""Calls that KVM answers in its own way: order of checks, what it forwards, what it does with bad harts.

vcpu_sbi_base.c, vcpu_sbi_replace.c, vcpu_sbi_system.c, vcpu_sbi_pmu.c. All others are served as the
specification says, with the profile of the policy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from trapline.lang.values import MASK64
from trapline.sbi.call import GONE, Effect, SbiCall, SbiOutcome, failure, result, success
from trapline.sbi.harts import ALL_HARTS
from trapline.sbi.hsm import HSM
from trapline.sbi.numbers import EXPERIMENTAL, VENDOR, Eid, FirmwareEvent, HartState, SbiError
from trapline.sbi.sta import SHARED_MEMORY

if TYPE_CHECKING:
    from trapline.kvm.vcpu import Vcpu

_PROBE_EXTENSION = 3
_CONSOLE_FUNCTIONS = range(3)
_SUSPEND_TO_RAM = 0
_GET_STATUS = 2
_NAMES_A_HART = (0, _GET_STATUS)  # hart_start, hart_get_status


def own_answer(vcpu: Vcpu, call: SbiCall) -> SbiOutcome | None:
    """Return KVM's own answer, None if it has none."""
    handler = _OWN.get(call.eid)
    return handler(vcpu, call) if handler is not None else None


def _forwarded() -> SbiOutcome:
    return SbiOutcome(Effect.FORWARD, SbiError.NOT_SUPPORTED)


def _base(vcpu: Vcpu, call: SbiCall) -> SbiOutcome | None:
    """Whether there is an experimental or vendor extension only the VMM knows."""
    if call.fid == _PROBE_EXTENSION and call.args[0] == MASK64 and vcpu.sbi.v01_left_out:
        return success(1)  # what stands in the place of v0.1 has this identifier, and no functions
    if call.fid == _PROBE_EXTENSION and any(first <= call.args[0] <= last for first, last in (EXPERIMENTAL, VENDOR)):
        rule = vcpu.policy.sbi_rule(call.args[0])
        return _forwarded() if rule is not None and rule.mode == "forward" else None
    return None


def _dbcn(vcpu: Vcpu, call: SbiCall) -> SbiOutcome | None:
    """The functions that exist are forwarded, later all of them are."""
    if vcpu.policy.has_feature("dbcn-forwards-all"):
        return _forwarded()
    return None if call.fid in _CONSOLE_FUNCTIONS else failure(SbiError.NOT_SUPPORTED)


def _named(vcpu: Vcpu, mask: int, base: int) -> Iterator[int]:
    """Yield the vCPUs of a mask, in the order in which they were made; with the bug one behind the mask is the end."""
    for hart in vcpu.sbi.hartids():
        if hart >= base + 64 and vcpu.policy.has_bug("ipi-ends-at-far-harts"):
            return
        if base <= hart < base + 64 and mask >> hart - base & 1:
            yield hart


def _ipi(vcpu: Vcpu, call: SbiCall) -> SbiOutcome | None:
    """Every hart of the mask that exists gets its interrupt, even if another does not exist."""
    if call.fid != 0:
        return None
    mask, base = call.args[:2]
    host = vcpu.sbi
    harts = host.hartids()
    if base != ALL_HARTS:
        harts = list(_named(vcpu, mask, base))
    vcpu.count_firmware_event(FirmwareEvent.IPI_SENT)
    host.send_ipi(harts)
    missed = base != ALL_HARTS and len(harts) != mask.bit_count()
    if missed and not vcpu.policy.has_bug("ipi-ignores-missing-harts"):
        return failure(SbiError.INVALID_PARAM)
    return failure(SbiError.SUCCESS)


def _pmu(vcpu: Vcpu, call: SbiCall) -> SbiOutcome | None:
    return vcpu.sbi.counters.serve(call) if vcpu.sbi.counters is not None else None


def _susp(vcpu: Vcpu, call: SbiCall) -> SbiOutcome | None:
    """The address is looked at before the other vCPUs are."""
    if call.fid != 0:
        return None
    host = vcpu.sbi
    if call.args[0] & 0xFFFF_FFFF != _SUSPEND_TO_RAM:
        return failure(SbiError.INVALID_PARAM)
    slot = vcpu.vm.slots.find(call.args[1])
    if slot is None:
        return failure(SbiError.INVALID_ADDRESS)
    if any(host.hart_state(n) is not HartState.STOPPED for n in host.hartids() if n != vcpu.id):
        return failure(SbiError.DENIED)
    host.system_suspend(call.args[1], call.args[2])
    return GONE


def _hsm(vcpu: Vcpu, call: SbiCall) -> SbiOutcome | None:
    """Hart ids are looked up as an int: the upper half is not looked at (kvm_get_vcpu_by_id)."""
    if call.fid not in _NAMES_A_HART:
        return None
    hartid, policy = call.args[0], vcpu.policy
    if policy.has_bug("hsm-hartid-truncated") and hartid >> 32:
        hartid = hartid & 0xFFFF_FFFF if not hartid & 1 << 31 else hartid
        call = SbiCall(call.eid, call.fid, (hartid, *call.args[1:]))
    outcome = HSM.functions[call.fid](vcpu.sbi, call)
    lost = call.fid == _GET_STATUS and outcome.error != SbiError.SUCCESS
    return success(HartState.STARTED) if lost and policy.has_bug("hsm-status-error-lost") else outcome


def _sta(vcpu: Vcpu, call: SbiCall) -> SbiOutcome | None:
    """Memory that cannot be written is an error of its own, first looked at as a slot, later by writing to it."""
    if call.fid != 0:
        return None
    low, high, flags = call.args[:3]
    host = vcpu.sbi
    if flags & 0xFFFF_FFFF:
        return failure(SbiError.INVALID_PARAM)
    if low == high == MASK64:
        return result(host.steal_time(None))
    if low % SHARED_MEMORY:
        return failure(SbiError.INVALID_PARAM)
    if high or not host.writable_slot(low):
        return failure(SbiError.INVALID_ADDRESS)
    if not host.try_write(low, bytes(SHARED_MEMORY)):
        return failure(unwritable(vcpu))
    return result(host.steal_time(low))


def unwritable(vcpu: Vcpu) -> SbiError:
    """Return the error for shared memory in a slot whose memory cannot be written."""
    named = vcpu.policy.has_feature("shmem-invalid-address")
    return SbiError.INVALID_ADDRESS if named else SbiError.FAILED


_OWN: dict[int, Callable[[Vcpu, SbiCall], SbiOutcome | None]] = {
    Eid.BASE: _base,
    Eid.DBCN: _dbcn,
    Eid.HSM: _hsm,
    Eid.IPI: _ipi,
    Eid.PMU: _pmu,
    Eid.STA: _sta,
    Eid.SUSP: _susp,
}
