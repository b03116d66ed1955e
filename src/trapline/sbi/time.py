"""Timer extension (EID 0x54494D45 "TIME")."""

from __future__ import annotations

from trapline.sbi.call import Extension, SbiCall, SbiOutcome, success
from trapline.sbi.host import SbiHost
from trapline.sbi.numbers import Eid, FirmwareEvent
from trapline.sbi.pmu import count_event


def set_timer(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Program the next timer event, an absolute time; the pending bit is cleared."""
    count_event(host, FirmwareEvent.SET_TIMER)
    host.set_timer(call.args[0])
    return success()


TIME = Extension("time", Eid.TIME, (0, 2), {0: set_timer})
