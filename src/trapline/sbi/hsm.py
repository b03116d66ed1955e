"""Hart State Management extension (EID 0x48534D "HSM")."""

from __future__ import annotations

from trapline.sbi.call import GONE, Extension, SbiCall, SbiOutcome, failure, result, success
from trapline.sbi.host import Access, SbiHost
from trapline.sbi.numbers import Eid, HartState, SbiError

NON_RETENTIVE = 1 << 31
FIRST_PLATFORM_TYPE = 0x1000_0000


def hart_start(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Start a stopped hart; the call may return before it runs."""
    hartid, start, opaque = call.args[:3]
    if hartid not in host.hartids():
        return failure(SbiError.INVALID_PARAM)
    if host.hart_state(hartid) is not HartState.STOPPED:
        return failure(SbiError.ALREADY_AVAILABLE)
    if not startable(host, start):
        return failure(SbiError.INVALID_ADDRESS)
    return result(host.hart_start(hartid, start, opaque))


def hart_stop(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Stop the caller; returns only to report a failure."""
    error = host.hart_stop()
    return GONE if error is SbiError.SUCCESS else failure(error)


def hart_get_status(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Return a hart's HSM state."""
    if call.args[0] not in host.hartids():
        return failure(SbiError.INVALID_PARAM)
    return success(host.hart_state(call.args[0]))


def hart_suspend(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Suspend the caller until an interrupt; suspend_type is a uint32_t, so upper bits are not looked at."""
    kind, resume, opaque = call.args[:3]
    kind &= 0xFFFF_FFFF
    if kind not in host.profile.known_suspend_types:
        platform = kind & ~NON_RETENTIVE >= FIRST_PLATFORM_TYPE
        return failure(host.profile.platform_suspend_error if platform else SbiError.INVALID_PARAM)
    if kind not in host.profile.suspend_types:
        return failure(SbiError.NOT_SUPPORTED)
    if not kind & NON_RETENTIVE:
        return result(host.hart_suspend())
    if not startable(host, resume):
        return failure(SbiError.INVALID_ADDRESS)
    error = host.hart_suspend_and_restart(resume, opaque)
    return GONE if error is SbiError.SUCCESS else failure(error)


def startable(host: SbiHost, address: int) -> bool:
    """Return whether a hart can begin at this physical address."""
    return host.accessible(address, 2, Access.EXECUTE)


HSM = Extension("hsm", Eid.HSM, (0, 2), {0: hart_start, 1: hart_stop, 2: hart_get_status, 3: hart_suspend})
