"""What a client's numbers stand for, and how much of that is remembered."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

from trapline.machine.virtio.p9.files import Node

MOST_FIDS = 1 << 16
MOST_LISTED = 64 << 20  # bytes of names
_ENTRY = 64  # bytes that a name takes beside its own


@dataclass(slots=True, eq=False)
class Fid:
    """What a client's number stands for."""

    node: Node
    uid: int
    opened: int | None = None

    def close(self) -> None:
        """Close what was opened."""
        if self.opened is not None:
            self.node.close(self.opened)
            self.opened = None


class Fids:
    """A client's numbers."""

    def __init__(self, most: int = MOST_FIDS, most_listed: int = MOST_LISTED) -> None:
        self.most = most
        self._fids: dict[int, Fid] = {}
        self.listings = Listings(most_listed)

    def __len__(self) -> int:
        return len(self._fids)

    def __contains__(self, number: int) -> bool:
        return number in self._fids

    def values(self) -> list[Fid]:
        """Return what the numbers stand for."""
        return list(self._fids.values())

    def find(self, number: int) -> Fid | None:
        """Return what a number stands for."""
        return self._fids.get(number)

    def add(self, number: int, fid: Fid) -> None:
        """Let a number stand for something else than before; EMFILE if there are too many."""
        if number in self._fids:
            self.drop(number)
        elif len(self._fids) >= self.most:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self._fids[number] = fid

    def drop(self, number: int) -> Fid | None:
        """Close a number and forget it; return what it stood for."""
        fid = self._fids.pop(number, None)
        if fid is not None:
            fid.close()
            self.listings.drop(fid)
        return fid

    def clear(self) -> None:
        """Close all."""
        for number in list(self._fids):
            self.drop(number)


class Listings:
    """The names in open folders, each as it was when the folder was last read from its start.

    The oldest are forgotten when they are too many; such a folder is read again.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._names: dict[Fid, list[bytes]] = {}
        self._size = 0

    def names(self, fid: Fid, *, again: bool) -> tuple[list[bytes], int]:
        """Return the names, sorted, so that the same folder reads the same in every run; and how many were read now."""
        found = None if again else self._names.get(fid)
        if found is not None:
            return found, 0
        self.drop(fid)
        assert fid.opened is not None
        names, size = [b".", b".."], 0
        with os.scandir(fid.opened) as entries:
            for entry in entries:
                names.append(os.fsencode(entry.name))
                size += len(names[-1]) + _ENTRY
                if size > self._most:
                    raise OSError(errno.ENOMEM, "a folder of more names than the machine remembers")
        names[2:] = sorted(names[2:])
        self._names[fid] = names
        self._size += _size_of(names)
        while self._size > self._most and len(self._names) > 1:
            self.drop(next(iter(self._names)))
        return names, len(names)

    def drop(self, fid: Fid) -> None:
        """Forget a folder's names."""
        self._size -= _size_of(self._names.pop(fid, []))


def _size_of(names: list[bytes]) -> int:
    return sum(map(len, names)) + _ENTRY * len(names)
