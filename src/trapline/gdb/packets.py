"""Packets of gdb's remote protocol (GDB manual, appendix Remote Protocol, Overview): framing, checksums, escapes."""

from __future__ import annotations

from collections.abc import Iterator

STOP_BYTE, ACK, NAK, BAD = b"\x03", b"+", b"-", b"!"  # what Stream.feed yields beside packets, each behind a `#`
LARGEST = 0x4000  # bytes of a packet, as qSupported says
_KEPT = 4 * LARGEST  # bytes of one that never ends
_ESCAPE, _XOR, _SPECIAL = 0x7D, 0x20, frozenset(b"#$}*")


def encode(payload: bytes) -> bytes:
    """A packet with this content, which is escaped already where it is binary."""
    return b"$%b#%02x" % (payload, sum(payload) & 0xFF)


def escape(data: bytes) -> bytes:
    """Binary content as a packet carries it."""
    out = bytearray()
    for byte in data:
        if byte in _SPECIAL:
            out += bytes((_ESCAPE, byte ^ _XOR))
        else:
            out.append(byte)
    return bytes(out)


def unescape(data: bytes) -> bytes:
    """The binary content of a packet."""
    out, special = bytearray(), False
    for byte in data:
        if special:
            out.append(byte ^ _XOR)
            special = False
        elif byte == _ESCAPE:
            special = True
        else:
            out.append(byte)
    return bytes(out)


class Stream:
    """Cuts what a client sends into packets."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[bool, bytes]]:
        """Yield (True, content) for each whole packet, (False, what) for STOP_BYTE, ACK, NAK and a BAD packet."""
        self._data += data
        while self._data:
            first = self._data[:1]
            if first != b"$":
                del self._data[0]
                if first in (STOP_BYTE, ACK, NAK):
                    yield False, bytes(first)
                continue
            end = self._data.find(b"#")
            if end < 0 and len(self._data) > _KEPT:
                self._data.clear()
                yield False, BAD
            if end < 0 or len(self._data) < end + 3:
                return
            content, check = bytes(self._data[1:end]), bytes(self._data[end + 1 : end + 3])
            del self._data[: end + 3]
            good = check.lower() == b"%02x" % (sum(content) & 0xFF)
            yield (True, content) if good else (False, BAD)
