"""System Reset extension (EID 0x53525354 "SRST")."""

from __future__ import annotations

from trapline.sbi.call import GONE, Extension, SbiCall, SbiOutcome, failure
from trapline.sbi.host import SbiHost
from trapline.sbi.numbers import Eid, SbiError


def system_reset(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Shut down or reboot; type and reason are uint32_t, so upper bits are not looked at.

    Types and reasons that are reserved, or are a platform's own and not implemented, are INVALID_PARAM.
    """
    profile = host.profile
    mask = (1 << profile.reset_argument_bits) - 1
    kind, reason = call.args[0] & mask, call.args[1] & mask
    if kind not in profile.reset_types:
        return failure(profile.reset_type_error)
    if profile.reset_reasons is not None and reason not in profile.reset_reasons:
        return failure(SbiError.INVALID_PARAM)
    host.system_reset(kind, reason)
    return GONE


SRST = Extension("srst", Eid.SRST, (0, 3), {0: system_reset})
