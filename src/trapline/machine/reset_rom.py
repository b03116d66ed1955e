"""The code at the reset vector, as the two simulators that firmware is written against have it.

Both end with a0 = hart number, a1 = device tree; QEMU's also passes a2 = the fw_dynamic information
block of OpenSBI (docs/firmware/fw_dynamic.md there).
"""

from __future__ import annotations

import struct

_FW_DYNAMIC_MAGIC, _FW_DYNAMIC_VERSION, _NEXT_MODE_S = 0x4942534F, 2, 1


def spike_rom(entry: int, device_tree: bytes) -> bytes:
    """Jump to `entry`; the device tree follows the code."""
    code = (
        0x00000297,  # auipc t0, 0
        0x02028593,  # addi a1, t0, 32
        0xF1402573,  # csrr a0, mhartid
        0x0182B283,  # ld t0, 24(t0)
        0x00028067,  # jr t0
        0,
    )
    return struct.pack("<6IQ", *code, entry) + device_tree


def virt_rom(entry: int, device_tree_address: int, next_stage: int) -> bytes:
    """Jump to the firmware at `entry`, which is told where the tree and the next stage are."""
    code = (
        0x00000297,  # auipc t0, 0
        0x02828613,  # addi a2, t0, 40
        0xF1402573,  # csrr a0, mhartid
        0x0202B583,  # ld a1, 32(t0)
        0x0182B283,  # ld t0, 24(t0)
        0x00028067,  # jr t0
    )
    information = struct.pack("<6Q", _FW_DYNAMIC_MAGIC, _FW_DYNAMIC_VERSION, next_stage, _NEXT_MODE_S, 0, 0)
    return struct.pack("<6IQQ", *code, entry, device_tree_address) + information
