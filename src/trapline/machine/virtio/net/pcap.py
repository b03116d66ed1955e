"""A record of the frames on the wire, for tcpdump and Wireshark (libpcap's file format, nanoseconds)."""

from __future__ import annotations

import struct
from pathlib import Path

_MAGIC, _ETHERNET, _SNAP = 0xA1B2_3C4D, 1, 1 << 18
_HEADER = struct.Struct("<IHHiIII")
_RECORD = struct.Struct("<IIII")


class Pcap:
    """Frames with the guest's time."""

    snapshot_skips = ("_file",)

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._file.write(_HEADER.pack(_MAGIC, 2, 4, 0, 0, _SNAP, _ETHERNET))

    def write(self, now: int, frame: bytes) -> None:
        """Add a frame; `now` is in nanoseconds."""
        seconds, rest = divmod(now, 10**9)
        kept = frame[:_SNAP]
        self._file.write(_RECORD.pack(seconds, rest, len(kept), len(frame)) + kept)

    def close(self) -> None:
        """End the file."""
        self._file.close()
