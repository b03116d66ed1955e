"""Base extension (EID 0x10). Every function succeeds."""

from __future__ import annotations

from trapline.sbi.call import Extension, SbiCall, SbiOutcome, success
from trapline.sbi.host import SbiHost
from trapline.sbi.numbers import Eid


def get_spec_version(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Return the version of the specification that is implemented."""
    return success(host.profile.version)


def get_impl_id(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Return who implements it."""
    return success(host.profile.implementation)


def get_impl_version(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Return the implementation's own version number."""
    return success(host.profile.implementation_version)


def probe_extension(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Return 1 if an extension is available, else 0."""
    from trapline.sbi.serve import available  # the table of all extensions holds this function

    return success(1 if available(host, call.args[0]) else 0)


def get_mvendorid(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Return a legal value for mvendorid."""
    return success(host.machine_ids()[0])


def get_marchid(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Return a legal value for marchid."""
    return success(host.machine_ids()[1])


def get_mimpid(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Return a legal value for mimpid."""
    return success(host.machine_ids()[2])


BASE = Extension(
    "base",
    Eid.BASE,
    (0, 2),
    {
        0: get_spec_version,
        1: get_impl_id,
        2: get_impl_version,
        3: probe_extension,
        4: get_mvendorid,
        5: get_marchid,
        6: get_mimpid,
    },
    settled={0: 0, 1: 0, 2: 0, 3: 1, 4: 0, 5: 0, 6: 0},
)
