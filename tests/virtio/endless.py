"""A program whose disk requests make more requests: each reads a sector over the driver's own ring and headers."""

from __future__ import annotations

import struct

from trapline.isa.assemble import assemble
from trapline.machine.memory_map import VIRTIO

QUEUE = 256  # one request for each 16-bit index, so that SECTORS * QUEUE indices are all of them
SECTORS = 256
_TABLE, _SECTOR, _USED, _CHAINS, _STATUS = 0x1000, 0x3000, 0x4000, 0x6000, 0x7000
_AVAIL = _SECTOR + 512 - 4  # its flags and index are the end of what each request reads
_SET_UP = """
 li s0, {device}
 li t0, 3; sw t0, 0x70(s0)
 sw zero, 0x24(s0); li t0, 0x10000000; sw t0, 0x20(s0)
 li t0, 1; sw t0, 0x24(s0); sw t0, 0x20(s0)
 li t0, 11; sw t0, 0x70(s0)
 li t0, {queue}; sw t0, 0x38(s0)
 li t0, {table}; sw t0, 0x80(s0); li t0, {avail}; sw t0, 0x90(s0); li s1, {used}; sw s1, 0xa0(s0)
 li t0, 1; sw t0, 0x44(s0)
 li t0, 15; sw t0, 0x70(s0)
 sw zero, 0x50(s0)
"""


def _sector(number: int) -> bytes:
    """Headers that read this sector again and the next one, and an available index that is a whole ring further on."""
    block = bytearray(512)
    struct.pack_into("<IIQ", block, 0, 0, 0, number)
    struct.pack_into("<IIQ", block, 16, 0, 0, (number + 1) % SECTORS)
    struct.pack_into("<HH", block, 508, 0, QUEUE * (number + 1) & 0xFFFF)
    return bytes(block)


def disk() -> bytes:
    """The image that the program needs."""
    return b"".join(map(_sector, range(SECTORS)))


def program(base: int, then: str) -> bytes:
    """Set the disk up, notify it once, then go on with `then` (s1: the used ring); for `load` at `base`."""
    places = {"table": base + _TABLE, "avail": base + _AVAIL, "used": base + _USED}
    memory = bytearray(0x8000)
    code = assemble(_SET_UP.format(device=VIRTIO.base, queue=QUEUE, **places) + then, base)
    memory[: len(code)] = code
    memory[_SECTOR : _SECTOR + 512] = _sector(0)
    for number in range(QUEUE):
        chain = base + _CHAINS + 64 * (number == QUEUE - 1)
        struct.pack_into("<QIHH", memory, _TABLE + 16 * number, chain, 48, 4, 0)
        struct.pack_into("<H", memory, _AVAIL + 4 + 2 * number, number)
    for number in (0, 1):
        pieces = ((_SECTOR + 16 * number, 16, 1, 1), (_SECTOR, 512, 3, 2), (_STATUS, 1, 2, 0))
        for at, (address, *rest) in enumerate(pieces):
            struct.pack_into("<QIHH", memory, _CHAINS + 64 * number + 16 * at, base + address, *rest)
    return bytes(memory)
