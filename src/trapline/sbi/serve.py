"""The one entrance: find the extension and the function of a call, and serve it."""

from __future__ import annotations

from trapline.sbi.base import BASE
from trapline.sbi.call import Effect, Extension, SbiCall, SbiOutcome, failure
from trapline.sbi.dbcn import DBCN
from trapline.sbi.fwft import FWFT
from trapline.sbi.host import LEGACY, SbiHost
from trapline.sbi.hsm import HSM
from trapline.sbi.ipi import IPI
from trapline.sbi.legacy import FUNCTIONS as LEGACY_FUNCTIONS
from trapline.sbi.legacy import serve_legacy
from trapline.sbi.numbers import SbiError
from trapline.sbi.pmu import PMU
from trapline.sbi.rfence import RFENCE
from trapline.sbi.srst import SRST
from trapline.sbi.sta import STA
from trapline.sbi.susp import SUSP
from trapline.sbi.time import TIME

EXTENSIONS: dict[int, Extension] = {e.eid: e for e in (BASE, TIME, IPI, RFENCE, HSM, SRST, PMU, DBCN, SUSP, STA, FWFT)}


def name_of(eid: int) -> str | None:
    """Return the name of the extension that an EID belongs to."""
    if eid in LEGACY_FUNCTIONS:
        return LEGACY
    extension = EXTENSIONS.get(eid)
    return extension.name if extension else None


def is_forwarded(host: SbiHost, eid: int) -> bool:
    """Return whether calls of this EID go to user space."""
    name, profile = name_of(eid), host.profile
    if name is None:
        return any(first <= eid <= last for first, last in profile.forwarded_ranges)
    return name in profile.forwarded or (eid in profile.forwarded_eids and name in profile.extensions)


def available(host: SbiHost, eid: int) -> bool:
    """Return whether probe_extension says yes."""
    name = name_of(eid)
    return host.profile.offers(name) if name else is_forwarded(host, eid)


def serve(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Serve one call. What is not offered, and functions that do not exist, are NOT_SUPPORTED."""
    if is_forwarded(host, call.eid):
        return SbiOutcome(Effect.FORWARD, SbiError.NOT_SUPPORTED, legacy=name_of(call.eid) == LEGACY)
    if not available(host, call.eid):
        return failure(SbiError.NOT_SUPPORTED)
    if call.eid in LEGACY_FUNCTIONS:
        return serve_legacy(host, call)
    extension = EXTENSIONS[call.eid]
    function = extension.functions.get(call.fid)
    if function is None:
        return failure(host.profile.unknown_function.get(extension.name, SbiError.NOT_SUPPORTED))
    return function(host, call)
