"""UDP between the guest and sockets of the host."""

from __future__ import annotations

import contextlib
import socket

_LARGEST = 65_507
_MOST_PEERS = 1024
LINGER = 5_000_000_000  # nanoseconds of the guest's time that an answer may take while the machine idles


class UdpFlow:
    """The guest's port talks to a port of the host's loopback interface."""

    def __init__(self, guest: tuple[bytes, int], port: int, now: int) -> None:
        self.guest, self.port, self.used = guest, port, now
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self.socket.setblocking(False)
        self.socket.connect(("127.0.0.1", port))

    def send(self, data: bytes, now: int) -> bool:
        """Pass a datagram on; return whether someone is there to take it."""
        self.used = now
        try:
            self.socket.send(data)
        except BlockingIOError:
            return True  # datagrams may get lost
        except OSError:
            return False
        return True

    def receive(self) -> bytes | None:
        """Return an answer, if there is one."""
        with contextlib.suppress(OSError):
            return self.socket.recv(_LARGEST)
        return None


class UdpForward:
    """A port of the host is a port of the guest."""

    def __init__(self, host: tuple[str, int], guest: tuple[bytes, int]) -> None:
        self.guest = guest
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self.socket.setblocking(False)
        self.socket.bind(host)
        self._peers: dict[int, tuple[str, int]] = {}

    def receive(self) -> tuple[int, bytes] | None:
        """Return a datagram of the host and the port that it comes from."""
        with contextlib.suppress(OSError):
            data, peer = self.socket.recvfrom(_LARGEST)
            self._peers.pop(peer[1], None)
            self._peers[peer[1]] = peer
            if len(self._peers) > _MOST_PEERS:
                del self._peers[next(iter(self._peers))]
            return peer[1], data
        return None

    def answer(self, port: int, data: bytes) -> bool:
        """Send the guest's answer to the peer of that port; return whether there is one."""
        peer = self._peers.get(port)
        if peer is None:
            return False
        with contextlib.suppress(OSError):
            self.socket.sendto(data, peer)
        return True
