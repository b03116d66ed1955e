"""Calls that KVM answers in its own way: order of checks, what it forwards, what it does with bad harts.

vcpu_sbi_base.c, vcpu_sbi_replace.c, vcpu_sbi_system.c, vcpu_sbi_pmu.c. All others are served as the
specification says, with the profile of the policy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from trapline.sbi.call import GONE, Effect, SbiCall, SbiOutcome, failure
from trapline.sbi.harts import ALL_HARTS
from trapline.sbi.numbers import EXPERIMENTAL, VENDOR, Eid, FirmwareEvent, HartState, SbiError

if TYPE_CHECKING:
    from trapline.kvm.vcpu import Vcpu

_PROBE_EXTENSION = 3
_CONSOLE_FUNCTIONS = range(3)
_SUSPEND_TO_RAM = 0


def own_answer(vcpu: Vcpu, call: SbiCall) -> SbiOutcome | None:
    """Return KVM's own answer, None if it has none."""
    handler = _OWN.get(call.eid)
    return handler(vcpu, call) if handler is not None else None


def _forwarded() -> SbiOutcome:
    return SbiOutcome(Effect.FORWARD, SbiError.NOT_SUPPORTED)


def _base(vcpu: Vcpu, call: SbiCall) -> SbiOutcome | None:
    """Whether there is an experimental or vendor extension only the VMM knows."""
    if call.fid == _PROBE_EXTENSION and any(first <= call.args[0] <= last for first, last in (EXPERIMENTAL, VENDOR)):
        rule = vcpu.policy.sbi_rule(call.args[0])
        return _forwarded() if rule is not None and rule.mode == "forward" else None
    return None


def _dbcn(vcpu: Vcpu, call: SbiCall) -> SbiOutcome | None:
    """Only the functions that exist are forwarded."""
    return None if call.fid in _CONSOLE_FUNCTIONS else failure(SbiError.NOT_SUPPORTED)


def _ipi(vcpu: Vcpu, call: SbiCall) -> SbiOutcome | None:
    """Every hart of the mask that exists gets its interrupt, even if another does not exist."""
    if call.fid != 0:
        return None
    mask, base = call.args[:2]
    host = vcpu.sbi
    harts = host.hartids()
    if base != ALL_HARTS:
        harts = [n for n in harts if base <= n < base + 64 and mask >> n - base & 1]
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


_OWN: dict[int, Callable[[Vcpu, SbiCall], SbiOutcome | None]] = {
    Eid.BASE: _base,
    Eid.DBCN: _dbcn,
    Eid.IPI: _ipi,
    Eid.PMU: _pmu,
    Eid.SUSP: _susp,
}
