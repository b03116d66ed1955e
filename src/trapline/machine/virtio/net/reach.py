"""Which ports of the host's loopback interface a guest reaches."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ports:
    """Some ports of a protocol (tcp or udp), both ends included."""

    protocol: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Reach:
    """All ports, or only these. What is forwarded to the guest, and the guest's answers, are another matter."""

    only: tuple[Ports, ...] | None = None

    def allows(self, protocol: str, port: int) -> bool:
        """Whether the guest may send to a port."""
        if self.only is None:
            return True
        return any(p.protocol == protocol and p.first <= port <= p.last for p in self.only)


EVERYTHING = Reach()
