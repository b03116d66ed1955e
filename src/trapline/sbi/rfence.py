"""RFENCE extension (EID 0x52464E43 "RFNC"): remote fence.i, sfence.vma, hfence.gvma and hfence.vvma."""

from __future__ import annotations

from trapline.sbi.call import Extension, Handler, SbiCall, SbiOutcome, failure, success
from trapline.sbi.harts import select_harts
from trapline.sbi.host import Fence, HfenceService, RemoteFence, SbiHost
from trapline.sbi.numbers import Eid, FirmwareEvent, SbiError
from trapline.sbi.pmu import count_event

EVERYTHING = (1 << 64) - 1

_SENT = {
    Fence.FENCE_I: FirmwareEvent.FENCE_I_SENT,
    Fence.SFENCE_VMA: FirmwareEvent.SFENCE_VMA_SENT,
    Fence.SFENCE_VMA_ASID: FirmwareEvent.SFENCE_VMA_ASID_SENT,
    Fence.HFENCE_GVMA: FirmwareEvent.HFENCE_GVMA_SENT,
    Fence.HFENCE_GVMA_VMID: FirmwareEvent.HFENCE_GVMA_VMID_SENT,
    Fence.HFENCE_VVMA: FirmwareEvent.HFENCE_VVMA_SENT,
    Fence.HFENCE_VVMA_ASID: FirmwareEvent.HFENCE_VVMA_ASID_SENT,
}
_TAGGED = (Fence.SFENCE_VMA_ASID, Fence.HFENCE_GVMA_VMID, Fence.HFENCE_VVMA_ASID)


def whole_space(start: int, size: int) -> bool:
    """Return whether a range means the entire address space."""
    return (start == 0 and size == 0) or size == EVERYTHING


def send_fence(
    host: SbiHost, kind: Fence, harts: tuple[int, ...], start: int = 0, size: int = 0, tag: int | None = None
) -> None:
    """Count and send one remote fence; a range that passes the top of the address space ends there."""
    count_event(host, _SENT[kind])
    everything = kind is Fence.FENCE_I or whole_space(start, size)
    if everything:
        host.remote_fence(RemoteFence(kind, harts, tag=tag))
        return
    host.remote_fence(RemoteFence(kind, harts, start, min(size, EVERYTHING - start), tag, size))


def _function(kind: Fence) -> Handler:
    def handler(host: SbiHost, call: SbiCall) -> SbiOutcome:
        mask, base, start, size, tag, _ = call.args
        if kind.needs_hypervisor and host.profile.hfence is not HfenceService.SERVE:
            return success() if host.profile.hfence is HfenceService.NOP else failure(SbiError.NOT_SUPPORTED)
        harts = select_harts(host, mask, base, "rfence")
        if harts is None:
            return failure(SbiError.INVALID_PARAM)
        if kind.needs_hypervisor and not all(host.has_hypervisor(n) for n in harts):
            return failure(SbiError.NOT_SUPPORTED)
        send_fence(host, kind, harts, start, size, tag if kind in _TAGGED else None)
        return success()

    handler.__name__ = f"remote_{kind.name.lower()}"
    handler.__doc__ = f"Run {kind.name.lower()} on the harts of the mask."
    return handler


RFENCE = Extension("rfence", Eid.RFENCE, (0, 2), {kind.value: _function(kind) for kind in Fence})
