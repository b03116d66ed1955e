"""Primitives that touch the host's memory or leave native code for a device.

These, with lang.values, are the closed list of things that exist twice: here for
CPython and in engine/ for LLVM.
"""

from __future__ import annotations

import ctypes

from trapline.lang.functions import primitive
from trapline.lang.state import Hart
from trapline.lang.values import U64

_WIDTH = {1: ctypes.c_uint8, 2: ctypes.c_uint16, 4: ctypes.c_uint32, 8: ctypes.c_uint64}


@primitive
def host_load(address: U64, size: int) -> U64:
    """Read `size` bytes (a literal 1, 2, 4, 8; little endian) at a host address, zero-extended."""
    return U64(_WIDTH[size].from_address(address).value)


@primitive
def host_store(address: U64, size: int, value: U64) -> None:
    """Write the low `size` bytes (a literal 1, 2, 4, 8) of `value` at a host address."""
    _WIDTH[size].from_address(address).value = int(value)


@primitive
def copy_bytes(hart: Hart, to: U64, source: U64, size: U64) -> None:
    """Copy `size` bytes from one host address to another; the two do not overlap."""
    ctypes.memmove(int(to), int(source), int(size))


@primitive
def device_load(hart: Hart, region: U64, offset: U64, size: U64) -> U64:
    """Read `size` bytes at `offset` of the device behind memory region number `region`."""
    return U64(hart.devices[int(region)].load(hart, int(offset), int(size)))


@primitive
def device_store(hart: Hart, region: U64, offset: U64, size: U64, value: U64) -> None:
    """Write the low `size` bytes of `value` at `offset` of the device behind region number `region`."""
    hart.devices[int(region)].store(hart, int(offset), int(size), int(value) & (1 << int(size) * 8) - 1)
