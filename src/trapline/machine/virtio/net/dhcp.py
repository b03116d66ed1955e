"""The gateway's DHCP server (RFC 2131, 2132): one address for one guest, for a day."""

from __future__ import annotations

import struct

_FIXED = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s4s")
_COOKIE = b"\x63\x82\x53\x63"
BOOT_REQUEST, BOOT_REPLY = 1, 2
MASK, ROUTER, REQUESTED, LEASE, MESSAGE, SERVER, END, PAD = 1, 3, 50, 51, 53, 54, 255, 0
DISCOVER, OFFER, REQUEST, ACK, NAK = 1, 2, 3, 5, 6
SERVER_PORT, CLIENT_PORT = 67, 68
_LEASE_SECONDS = 86_400


def options(data: bytes) -> dict[int, bytes]:
    """Read the options behind the fixed fields; what is cut short ends them."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data) and data[at] != END:
        if data[at] == PAD:
            at += 1
            continue
        if at + 1 >= len(data) or at + 2 + data[at + 1] > len(data):
            break
        found[data[at]] = data[at + 2 : at + 2 + data[at + 1]]
        at += 2 + data[at + 1]
    return found


def answer(request: bytes, address: bytes, gateway: bytes, mask: bytes) -> bytes | None:
    """Return the reply to a client's message; None if there is none to give."""
    if len(request) < _FIXED.size:
        return None
    operation, hardware, length, _, xid, _, flags, ciaddr, _, _, _, client, _, _, cookie = _FIXED.unpack_from(request)
    if operation != BOOT_REQUEST or (hardware, length) != (1, 6) or cookie != _COOKIE:
        return None
    asked = options(request[_FIXED.size :])
    kind = asked.get(MESSAGE, b"")
    if kind == bytes((DISCOVER,)):
        reply = OFFER
    elif kind == bytes((REQUEST,)):
        if asked.get(SERVER, gateway) != gateway:
            return None
        wanted = asked.get(REQUESTED, ciaddr)
        reply = ACK if wanted == address else NAK
    else:
        return None
    given = address if reply != NAK else bytes(4)
    fixed = _FIXED.pack(
        BOOT_REPLY, 1, 6, 0, xid, 0, flags, ciaddr if reply == ACK else bytes(4), given, gateway, bytes(4), client,
        b"", b"", _COOKIE,
    )  # fmt: skip
    fields = [(MESSAGE, bytes((reply,))), (SERVER, gateway)]
    if reply != NAK:
        fields += [(MASK, mask), (ROUTER, gateway), (LEASE, struct.pack("!I", _LEASE_SECONDS))]
    return fixed + b"".join(bytes((number, len(value))) + value for number, value in fields) + bytes((END,))
