"""System Suspend extension (EID 0x53555350 "SUSP")."""

from __future__ import annotations

from trapline.sbi.call import GONE, Extension, SbiCall, SbiOutcome, failure
from trapline.sbi.host import SbiHost
from trapline.sbi.hsm import startable
from trapline.sbi.numbers import Eid, HartState, SbiError

SUSPEND_TO_RAM = 0


def system_suspend(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Suspend to RAM once every other hart is stopped; sleep_type is a uint32_t."""
    kind, resume, opaque = call.args[0] & 0xFFFF_FFFF, call.args[1], call.args[2]
    if kind != SUSPEND_TO_RAM:
        return failure(SbiError.INVALID_PARAM)
    if any(host.hart_state(n) is not HartState.STOPPED for n in host.hartids() if n != host.hartid):
        return failure(SbiError.DENIED)
    if not startable(host, resume):
        return failure(SbiError.INVALID_ADDRESS)
    error = host.system_suspend(resume, opaque)
    return GONE if error is SbiError.SUCCESS else failure(error)


SUSP = Extension("susp", Eid.SUSP, (2, 0), {0: system_suspend})
