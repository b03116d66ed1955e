"""Debug Console extension (EID 0x4442434E "DBCN")."""

from __future__ import annotations

from trapline.sbi.call import Extension, SbiCall, SbiOutcome, failure, success
from trapline.sbi.host import Access, SbiHost
from trapline.sbi.numbers import Eid, SbiError


def console_write(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Write bytes of memory to the console; returns how many it took, which may be fewer."""
    size, low, high = call.args[:3]
    error = check_range(host, size, low, high, Access.READ)
    if error is not SbiError.SUCCESS:
        return failure(error)
    return success(host.console_write(host.read_memory(low, size)) if size else 0)


def console_read(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Read what console input there is into memory; returns how many bytes."""
    size, low, high = call.args[:3]
    error = check_range(host, size, low, high, Access.WRITE)
    if error is not SbiError.SUCCESS:
        return failure(error)
    data = host.console_read(size) if size else b""
    if data:
        host.write_memory(low, data)
    return success(len(data))


def console_write_byte(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Write one byte, the low eight bits of a0; sbiret.value is 0."""
    taken = host.console_write(bytes([call.args[0] & 0xFF]))
    return success() if taken else failure(SbiError.FAILED)


def check_range(host: SbiHost, size: int, low: int, high: int, access: Access) -> SbiError:
    """Check a shared memory range whose address comes in two halves of XLEN bits."""
    if high != 0:
        return host.profile.high_address_error
    if low + size > 1 << 64 or not host.accessible(low, size, access):
        return SbiError.INVALID_PARAM
    return SbiError.SUCCESS


DBCN = Extension("dbcn", Eid.DBCN, (2, 0), {0: console_write, 1: console_read, 2: console_write_byte})
