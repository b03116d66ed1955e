"""Firmware Features extension (EID 0x46574654 "FWFT")."""

from __future__ import annotations

from trapline.sbi.call import Extension, SbiCall, SbiOutcome, failure, success
from trapline.sbi.host import FirmwareFeature, SbiHost
from trapline.sbi.numbers import Eid, Feature, SbiError

LOCK = 1
_DEFINED = frozenset(int(f) for f in Feature)


def find(host: SbiHost, number: int) -> FirmwareFeature | SbiError:
    """Return a feature; reserved or unimplemented platform numbers are DENIED, missing ones NOT_SUPPORTED.

    Feature numbers are uint32_t: upper bits are not looked at.
    """
    number &= 0xFFFF_FFFF
    feature = host.feature(number)
    if feature is not None:
        return feature
    return SbiError.NOT_SUPPORTED if number in _DEFINED else SbiError.DENIED


def fwft_set(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Set a feature; with LOCK, and only if the set succeeds, for the last time."""
    number, value, flags = call.args[:3]
    feature = find(host, number)
    if isinstance(feature, SbiError):
        return failure(feature)
    if flags & ~LOCK:
        return failure(SbiError.INVALID_PARAM)
    if feature.locked:
        return failure(SbiError.DENIED_LOCKED)
    error = feature.write(value)
    if error is not SbiError.SUCCESS:
        return failure(error)
    feature.locked = bool(flags & LOCK)
    return success()


def fwft_get(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Return the value of a feature."""
    feature = find(host, call.args[0])
    return failure(feature) if isinstance(feature, SbiError) else success(feature.read())


FWFT = Extension("fwft", Eid.FWFT, (3, 0), {0: fwft_set, 1: fwft_get}, settled={1: 1})
