"""A 9P client for tests, over the test driver."""

from __future__ import annotations

import struct
from pathlib import Path

from virtio_driver import Driver

from trapline.machine.virtio.p9 import wire as w
from trapline.machine.virtio.share import ShareArgument, open_share

ROOM = 8192


def text(name: str | bytes) -> bytes:
    """A string of the protocol."""
    data = name if isinstance(name, bytes) else name.encode()
    return struct.pack("<H", len(data)) + data


class P9Error(Exception):
    """Rlerror, with its number."""

    @property
    def errno(self) -> int:
        return int(self.args[0])


class Client:
    """Attached to the root with fid 0."""

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self.attach(Driver(open_share(ShareArgument(folder, "tag", read_only))))

    @classmethod
    def of(cls, driver: Driver) -> Client:
        """Return a client of a device that is set up."""
        client = object.__new__(cls)
        client.attach(driver)
        return client

    def attach(self, driver: Driver) -> None:
        """Say hello."""
        self.driver = driver
        self.ask(w.TVERSION, struct.pack("<I", ROOM) + text("9P2000.L"))
        self.ask(w.TATTACH, struct.pack("<II", 0, w.NO_FID) + text("root") + text("") + struct.pack("<I", w.NO_FID))

    def ask(self, kind: int, body: bytes = b"", room: int = ROOM) -> bytes:
        """Send a request; return what follows the reply's header."""
        head = w.HEADER.pack(w.HEADER.size + len(body), kind, 7)
        (reply,) = self.driver.request([head, body] if body else [head], [room])
        size, answer, tag = w.HEADER.unpack_from(reply)
        assert tag == 7 and self.driver.last_used() == (0, size) and size <= room
        if answer == w.RLERROR:
            raise P9Error(struct.unpack_from("<I", reply, w.HEADER.size)[0])
        assert answer == kind + 1
        return reply[w.HEADER.size : size]

    def walk(self, new: int, *names: str | bytes, fid: int = 0) -> int:
        """Walk; return how many names were found."""
        body = struct.pack("<IIH", fid, new, len(names)) + b"".join(map(text, names))
        return int(struct.unpack_from("<H", self.ask(w.TWALK, body))[0])

    def open(self, fid: int, flags: int = 0) -> bytes:
        """Tlopen."""
        return self.ask(w.TLOPEN, struct.pack("<II", fid, flags))

    def read(self, fid: int, offset: int, count: int, room: int = ROOM) -> bytes:
        """Tread."""
        data = self.ask(w.TREAD, struct.pack("<IQI", fid, offset, count), room)
        assert struct.unpack_from("<I", data)[0] == len(data) - 4
        return data[4:]

    def write(self, fid: int, offset: int, data: bytes) -> int:
        """Twrite."""
        return int(struct.unpack("<I", self.ask(w.TWRITE, struct.pack("<IQI", fid, offset, len(data)) + data))[0])

    def names(self, fid: int, count: int = ROOM) -> list[bytes]:
        """All entries of a folder that is open."""
        found: list[bytes] = []
        offset = 0
        while True:
            data = self.ask(w.TREADDIR, struct.pack("<IQI", fid, offset, count))[4:]
            if not data:
                return found
            while data:
                _, offset, _, size = struct.unpack_from("<13sQBH", data)
                found.append(data[24 : 24 + size])
                data = data[24 + size :]
