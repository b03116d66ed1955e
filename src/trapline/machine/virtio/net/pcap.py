"""A record of the frames on the wire, for tcpdump and Wireshark (libpcap's file format, nanoseconds)."""

from __future__ import annotations

import struct
from pathlib import Path

from trapline.named_files import require_reader

_MAGIC, _ETHERNET, _SNAP = 0xA1B2_3C4D, 1, 1 << 18
_HEADER = struct.Struct("<IHHiIII")
_RECORD = struct.Struct("<IIII")


class Pcap:
    """Frames with the guest's time; OSError if the file cannot be begun. A disk that is full later ends the record."""

    def __init__(self, path: Path) -> None:
        self._path, self.lost = path, ""  # why it ends early
        require_reader(path)
        self._file = path.open("wb")
        self._file.write(_HEADER.pack(_MAGIC, 2, 4, 0, 0, _SNAP, _ETHERNET))
        self._file.flush()

    def write(self, now: int, frame: bytes) -> None:
        """Add a frame; `now` is in nanoseconds."""
        if self.lost:
            return
        seconds, rest = divmod(now, 10**9)
        kept = frame[:_SNAP]
        try:
            self._file.write(_RECORD.pack(seconds, rest, len(kept), len(frame)) + kept)
        except OSError as error:
            self._fail(error)

    def close(self) -> None:
        """End the file."""
        try:
            self._file.close()
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        self.lost = self.lost or f"pcap {str(self._path)!r} ends early: {error.strerror or error}"
