"""Making small qcow2 images by hand (QEMU's docs/interop/qcow2)."""

from __future__ import annotations

import struct

CLUSTER = 1 << 16


def qcow2(clusters: dict[int, bytes], size: int, *, version: int = 3, backing: int = 0) -> bytes:
    """Return an image of `size` bytes with these 64 KiB clusters: header, refcounts, L1, L2, data."""
    entries = -(-size // (CLUSTER * CLUSTER // 8))
    used = 5 + len(clusters)
    header = struct.pack(
        ">4sIQIIQIIQQIIQ", b"QFI\xfb", version, backing, 0, 16, size, 0, entries, 3 * CLUSTER, CLUSTER, 1, 0, 0
    )
    if version == 3:
        header += struct.pack(">QQQII", 0, 0, 0, 4, 104)
    table = struct.pack(">Q", 2 * CLUSTER)
    counts = struct.pack(">H", 1) * used
    l1 = struct.pack(">Q", 4 * CLUSTER | 1 << 63)
    l2 = bytearray(CLUSTER)
    data = b""
    for place, (number, contents) in enumerate(clusters.items()):
        struct.pack_into(">Q", l2, 8 * number, (5 + place) * CLUSTER | 1 << 63)
        data += contents.ljust(CLUSTER, b"\0")
    return b"".join(part.ljust(CLUSTER, b"\0") for part in (header, table, counts, l1, bytes(l2))) + data
