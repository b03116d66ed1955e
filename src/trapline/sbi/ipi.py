"""IPI extension (EID 0x735049 "sPI")."""

from __future__ import annotations

from trapline.sbi.call import Extension, SbiCall, SbiOutcome, failure, success
from trapline.sbi.harts import select_harts
from trapline.sbi.host import SbiHost
from trapline.sbi.numbers import Eid, FirmwareEvent, SbiError
from trapline.sbi.pmu import count_event


def send_ipi(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Send a supervisor software interrupt to all the harts of the mask, or to none if one is invalid."""
    harts = select_harts(host, call.args[0], call.args[1], "ipi")
    if harts is None:
        return failure(SbiError.INVALID_PARAM)
    count_event(host, FirmwareEvent.IPI_SENT)
    host.send_ipi(harts)
    return success()


IPI = Extension("ipi", Eid.IPI, (0, 2), {0: send_ipi})
