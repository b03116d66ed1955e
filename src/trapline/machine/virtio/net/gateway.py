"""The network behind the card: 10.0.2.0/24 with the guest and a gateway, which stands for the host's loopback.

What the guest sends to the gateway's address goes to the same port of 127.0.0.1, if `reach` allows it; nothing goes
anywhere else.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from trapline.machine.virtio.net import dhcp
from trapline.machine.virtio.net import frames as f
from trapline.machine.virtio.net.frames import Arp, Ethernet, Ipv4, Tcp, Udp
from trapline.machine.virtio.net.reach import EVERYTHING, Reach
from trapline.machine.virtio.net.tcp import Key, TcpConnection
from trapline.machine.virtio.net.udp import LINGER, UdpFlow, UdpForward
from trapline.session.state.plain_state import StateError
from trapline.session.state.plain_types import U16

GUEST_MAC = bytes.fromhex("525400123456")
GATEWAY_MAC = bytes.fromhex("52550a000202")
GUEST, GATEWAY, MASK = (socket.inet_aton(text) for text in ("10.0.2.15", "10.0.2.2", "255.255.255.0"))
_EVERYONE = (b"\xff" * 4, socket.inet_aton("10.0.2.255"))
MOST_FLOWS = 256  # of a kind; a guest cannot exhaust the host's sockets
MOST_ADDRESSES = 256  # whose cards are remembered: a network of its own has no more
_MOST_DATAGRAMS = 64  # of a socket that are taken at a time
_ASK_AGAIN = 1_000_000_000  # nanoseconds of the guest's time between two questions for its address
_BACKLOG = 64


@dataclass(frozen=True, slots=True)
class Forward:
    """A port of the host that is a port of the guest."""

    protocol: str  # tcp or udp
    host: tuple[str, int]
    guest: tuple[bytes, int]


class Gateway:
    """`send` puts a frame on the guest's card; `now` is the guest's time in nanoseconds.

    The guest may hold `flows` sockets of a kind (TCP, UDP).
    """

    def __init__(
        self,
        send: Callable[[bytes], None],
        now: Callable[[], int],
        forwards: Sequence[Forward] = (),
        *,
        reach: Reach = EVERYTHING,
        flows: int = MOST_FLOWS,
    ) -> None:
        self._send_frame, self._now, self._reach = send, now, reach
        self._most_flows = min(flows, MOST_FLOWS)
        self._macs: dict[bytes, bytes] = {}
        self._identification = 0
        self._asked: dict[bytes, int] = {}
        self.connections: dict[Key, TcpConnection] = {}
        self._waiting: list[tuple[Key, socket.socket]] = []
        self._flows: dict[tuple[bytes, int, int], UdpFlow] = {}
        self.listeners: list[tuple[socket.socket, Forward]] = []
        self.bound: list[UdpForward] = []
        try:
            for forward in forwards:
                self._forward(forward)
        except BaseException:
            self.close()
            raise

    def _forward(self, forward: Forward) -> None:
        try:
            if forward.protocol == "udp":
                self.bound.append(UdpForward(forward.host, forward.guest))
                return
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            self.listeners.append((listener, forward))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setblocking(False)
            listener.bind(forward.host)
            listener.listen(_BACKLOG)
        except OSError as error:
            host, port = forward.host
            raise ValueError(f"hostfwd {forward.protocol}:{host}:{port}: {error.strerror or error}") from None

    # --- from the guest ---
    def receive(self, data: bytes) -> None:
        """Take a frame of the guest; what is malformed or not for anyone here is ignored."""
        frame = f.parse_ethernet(data)
        if frame is None or frame.target not in (GATEWAY_MAC, f.BROADCAST):
            return
        if frame.kind == f.ETH_ARP and (arp := f.parse_arp(frame.payload)) is not None:
            self._arp(arp)
        elif frame.kind == f.ETH_IPV4 and (packet := f.parse_ipv4(frame.payload)) is not None:
            if packet.source != bytes(4):
                self._learn(packet.source, frame.source)
            self._ipv4(packet, frame.source)

    def _learn(self, address: bytes, mac: bytes) -> None:
        """Remember whose card an address is; the one that was heard of least recently is forgotten."""
        self._macs.pop(address, None)
        self._macs[address] = mac
        if len(self._macs) > MOST_ADDRESSES:
            del self._macs[next(iter(self._macs))]

    def _arp(self, arp: Arp) -> None:
        if arp.sender_ip not in (bytes(4), GATEWAY):
            self._learn(arp.sender_ip, arp.sender)
        if arp.operation == f.ARP_REQUEST and arp.target_ip == GATEWAY:
            answer = Arp(f.ARP_REPLY, GATEWAY_MAC, GATEWAY, arp.sender, arp.sender_ip)
            self._send_frame(Ethernet(arp.sender, GATEWAY_MAC, f.ETH_ARP, answer.pack()).pack())

    def _ipv4(self, packet: Ipv4, mac: bytes) -> None:
        if packet.protocol == f.PROTO_UDP and (udp := f.parse_udp(packet.payload)) is not None:
            if udp.target == dhcp.SERVER_PORT:
                self._dhcp(udp, mac)
            elif packet.target == GATEWAY:
                self._udp(packet, udp)
            elif packet.target not in _EVERYONE:
                self._unreachable(packet, f.NET_PROHIBITED)
        elif packet.protocol == f.PROTO_TCP and (tcp := f.parse_tcp(packet.payload)) is not None:
            self._tcp(packet, tcp)
        elif packet.protocol == f.PROTO_ICMP:
            self._icmp(packet)

    def _dhcp(self, udp: Udp, mac: bytes) -> None:
        reply = dhcp.answer(udp.payload, GUEST, GATEWAY, MASK)
        if reply is not None:
            data = Udp(dhcp.SERVER_PORT, dhcp.CLIENT_PORT, reply).pack(GATEWAY, _EVERYONE[0])
            self._send_to(f.BROADCAST, Ipv4(f.PROTO_UDP, GATEWAY, _EVERYONE[0], data))

    def _icmp(self, packet: Ipv4) -> None:
        message = packet.payload
        if len(message) < 8 or message[0] != f.ECHO_REQUEST:
            return
        if packet.target == GATEWAY:
            answer = bytes((f.ECHO_REPLY, 0, 0, 0)) + message[4:]
            self._icmp_reply(packet.source, answer)
        elif packet.target not in _EVERYONE:
            self._unreachable(packet, f.NET_PROHIBITED)

    def _icmp_reply(self, target: bytes, message: bytes) -> None:
        value = f.checksum(message)
        message = message[:2] + value.to_bytes(2, "big") + message[4:]
        self._send(Ipv4(f.PROTO_ICMP, GATEWAY, target, message))

    def _unreachable(self, packet: Ipv4, code: int) -> None:
        quoted = packet.pack()[:28]
        self._icmp_reply(packet.source, struct.pack("!BBHI", f.UNREACHABLE, code, 0, 0) + quoted)

    # --- UDP ---
    def _udp(self, packet: Ipv4, udp: Udp) -> None:
        here = packet.source, udp.source
        for bound in self.bound:
            if bound.guest == here and bound.answer(udp.target, udp.payload):
                return
        if not self._reach.allows("udp", udp.target):
            self._unreachable(packet, f.NET_PROHIBITED)
            return
        key = (*here, udp.target)
        flow = self._flows.get(key)
        if flow is None:
            if len(self._flows) >= self._most_flows:
                oldest = min(self._flows, key=lambda k: self._flows[k].used)
                self._flows.pop(oldest).socket.close()
            try:
                flow = self._flows[key] = UdpFlow(here, udp.target, self._now())
            except OSError:
                self._unreachable(packet, f.PORT_UNREACHABLE)
                return
        if not flow.send(udp.payload, self._now()):
            self._unreachable(packet, f.PORT_UNREACHABLE)

    def _send_udp(self, source: int, guest: tuple[bytes, int], data: bytes) -> None:
        self._send(Ipv4(f.PROTO_UDP, GATEWAY, guest[0], Udp(source, guest[1], data).pack(GATEWAY, guest[0])))

    # --- TCP ---
    def _tcp(self, packet: Ipv4, segment: Tcp) -> None:
        key = packet.source, segment.source, segment.target
        connection = self.connections.get(key) if packet.target == GATEWAY else None
        if connection is not None:
            connection.receive(segment)
            self._sweep(key)
        elif segment.flags & (f.SYN | f.ACK | f.RST) == f.SYN and packet.target == GATEWAY:
            self._connect(key, packet, segment)
        elif not segment.flags & f.RST:
            self._refuse(packet, segment)

    def _refuse(self, packet: Ipv4, segment: Tcp) -> None:
        size = len(segment.payload) + bool(segment.flags & f.SYN) + bool(segment.flags & f.FIN)
        if segment.flags & f.ACK:
            answer = Tcp(segment.target, segment.source, segment.ack, 0, f.RST, 0)
        else:
            ack = segment.seq + size & 0xFFFF_FFFF
            answer = Tcp(segment.target, segment.source, 0, ack, f.RST | f.ACK, 0)
        data = answer.pack(packet.target, packet.source)
        self._send(Ipv4(f.PROTO_TCP, packet.target, packet.source, data))

    def _connect(self, key: Key, packet: Ipv4, segment: Tcp) -> None:
        sock = self._socket() if self._reach.allows("tcp", segment.target) else None
        if sock is None:
            self._refuse(packet, segment)
            return
        result = sock.connect_ex(("127.0.0.1", segment.target))
        if result not in (0, errno.EINPROGRESS):
            sock.close()
            self._refuse(packet, segment)
            return
        connection = self._add(key, sock)
        connection.accept(segment)
        if result == 0:
            connection.connected()

    def _socket(self) -> socket.socket | None:
        """Return a new socket, or None if there are enough, for the guest or for the host."""
        if len(self.connections) + len(self._waiting) >= self._most_flows:
            return None
        try:
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        except OSError:
            return None
        sock.setblocking(False)
        return sock

    def _add(self, key: Key, sock: socket.socket) -> TcpConnection:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = TcpConnection(key, sock, lambda segment: self._send_tcp(key[0], segment), self._now)
        self.connections[key] = connection
        return connection

    def _send_tcp(self, guest: bytes, segment: Tcp) -> None:
        self._send(Ipv4(f.PROTO_TCP, GATEWAY, guest, segment.pack(GATEWAY, guest)))

    def _sweep(self, key: Key) -> None:
        if self.connections[key].closed:
            del self.connections[key]

    # --- to the guest ---
    def _send(self, packet: Ipv4) -> None:
        mac = self._macs.get(packet.target)
        if mac is not None:
            self._send_to(mac, packet)

    def _send_to(self, mac: bytes, packet: Ipv4) -> None:
        self._identification = self._identification + 1 & 0xFFFF
        self._send_frame(Ethernet(mac, GATEWAY_MAC, f.ETH_IPV4, packet.pack(self._identification)).pack())

    def _knows(self, guest: bytes) -> bool:
        """Whether the guest's card is known; if not, ask for it now and then."""
        if guest in self._macs:
            return True
        now = self._now()
        if now - self._asked.get(guest, -_ASK_AGAIN) >= _ASK_AGAIN:
            self._asked[guest] = now
            question = Arp(f.ARP_REQUEST, GATEWAY_MAC, GATEWAY, bytes(6), guest)
            self._send_frame(Ethernet(f.BROADCAST, GATEWAY_MAC, f.ETH_ARP, question.pack()).pack())
        return False

    # --- from the host ---
    @property
    def live(self) -> bool:
        """Whether the host may say something at any time."""
        recent = any(self._now() - flow.used < LINGER for flow in self._flows.values())
        return bool(self.connections or self.listeners or self.bound or self._waiting or recent)

    def descriptors(self) -> list[Any]:
        """Return the sockets whose data the guest has room for."""
        found: list[Any] = [c.socket for c in self.connections.values() if c.wants_data]
        found += [listener for listener, _ in self.listeners]
        return found + [bound.socket for bound in self.bound] + [flow.socket for flow in self._flows.values()]

    def poll(self) -> None:
        """Take what has arrived from the host."""
        for listener, forward in self.listeners:
            self._accept(listener, forward)
        self._start_waiting()
        self._poll_connections()
        for bound in self.bound:
            for _ in range(_MOST_DATAGRAMS if self._knows(bound.guest[0]) else 0):
                if (received := bound.receive()) is None:
                    break
                self._send_udp(received[0], bound.guest, received[1])
        for flow in list(self._flows.values()):
            for _ in range(_MOST_DATAGRAMS):
                if (data := flow.receive()) is None:
                    break
                flow.used = self._now()
                self._send_udp(flow.port, flow.guest, data)

    def _accept(self, listener: socket.socket, forward: Forward) -> None:
        while len(self.connections) + len(self._waiting) < self._most_flows:
            try:
                sock, peer = listener.accept()
            except OSError:
                return
            sock.setblocking(False)
            self._waiting.append(((forward.guest[0], forward.guest[1], peer[1]), sock))

    def _start_waiting(self) -> None:
        """Connect those to the guest whose card is known by now."""
        waiting, self._waiting = self._waiting, []
        for key, sock in waiting:
            if not self._knows(key[0]):
                self._waiting.append((key, sock))
            elif key in self.connections:
                sock.close()
            else:
                self._add(key, sock).connect()

    def _poll_connections(self) -> None:
        if not self.connections:
            return
        poll = select.poll()
        for connection in self.connections.values():
            wanted = select.POLLIN if connection.wants_data else 0
            poll.register(connection.socket, wanted | (select.POLLOUT if connection.wants_room else 0))
        events = dict(poll.poll(0))
        for key, connection in list(self.connections.items()):
            ready = events.get(connection.socket.fileno(), 0)
            ended = ready & (select.POLLHUP | select.POLLERR)
            readable, writable = ready & select.POLLIN or ended, ready & select.POLLOUT or ended
            connection.poll(readable=readable != 0, writable=writable != 0)
            self._sweep(key)

    def close(self) -> None:
        """Close every socket."""
        sockets = [c.socket for c in self.connections.values()] + [sock for _, sock in self._waiting]
        sockets += [listener for listener, _ in self.listeners] + [bound.socket for bound in self.bound]
        for sock in [*sockets, *(flow.socket for flow in self._flows.values())]:
            sock.close()
        self.connections.clear()
        self._flows.clear()
        self._waiting.clear()
        self.listeners.clear()
        self.bound.clear()

    # --- snapshots ---
    def state(self) -> dict[str, Any]:
        """Return what a snapshot keeps; open connections cannot be kept."""
        if self.connections or self._waiting:
            raise StateError("the guest's network has open TCP connections, which no snapshot can hold")
        return {"macs": self._macs, "identification": self._identification}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        macs = msgspec.convert(state["macs"], dict[bytes, bytes])
        if any(len(ip) != 4 or len(mac) != 6 for ip, mac in macs.items()):
            raise ValueError("an address of the guest that is none")
        self._macs, self._identification = macs, msgspec.convert(state["identification"], U16)
