"""The gateway behind the network card: ARP, DHCP, ICMP, UDP and TCP against sockets of the host."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trapline.machine.virtio.net import dhcp
from trapline.machine.virtio.net import frames as f
from trapline.machine.virtio.net.frames import ACK, FIN, RST, SYN, Arp, Ethernet, Ipv4, Tcp, Udp
from trapline.machine.virtio.net.gateway import GATEWAY, GATEWAY_MAC, GUEST, GUEST_MAC, MASK, Forward, Gateway

OUTSIDE = bytes((8, 8, 8, 8))
PORT = 40_000


class Wire:
    """A guest of a gateway, by hand: what the gateway sends is parsed into `got`."""

    def __init__(self, *forwards: Forward) -> None:
        self.time = 0
        self.got: list[Ethernet] = []
        self.gateway = Gateway(self._take, lambda: self.time, forwards)
        self.gateway.receive(self.arp(GATEWAY))
        self.got.clear()

    def _take(self, data: bytes) -> None:
        frame = f.parse_ethernet(data)
        assert frame is not None and frame.source == GATEWAY_MAC
        self.got.append(frame)

    def arp(self, wanted: bytes) -> bytes:
        """A question for an address."""
        question = Arp(f.ARP_REQUEST, GUEST_MAC, GUEST, bytes(6), wanted)
        return Ethernet(f.BROADCAST, GUEST_MAC, f.ETH_ARP, question.pack()).pack()

    def send(self, protocol: int, payload: bytes, target: bytes = GATEWAY) -> None:
        """Send a datagram."""
        packet = Ipv4(protocol, GUEST, target, payload).pack()
        self.gateway.receive(Ethernet(GATEWAY_MAC, GUEST_MAC, f.ETH_IPV4, packet).pack())

    def tcp(
        self, port: int, seq: int, ack: int, flags: int, payload: bytes = b"", window: int = 0xFFFF, **options: int
    ) -> None:
        """Send a segment from port 40000."""
        segment = Tcp(PORT, port, seq & 0xFFFF_FFFF, ack & 0xFFFF_FFFF, flags, window, payload, **options)
        self.send(f.PROTO_TCP, segment.pack(GUEST, GATEWAY))

    def packets(self) -> list[Ipv4]:
        """Take what has come, with every checksum checked."""
        found = []
        for frame in self.got:
            packet = f.parse_ipv4(frame.payload)
            assert packet is not None
            if packet.protocol in (f.PROTO_TCP, f.PROTO_UDP):
                pseudo = packet.source + packet.target + struct.pack("!HH", packet.protocol, len(packet.payload))
                assert f.checksum(pseudo + packet.payload) == 0
            elif packet.protocol == f.PROTO_ICMP:
                assert f.checksum(packet.payload) == 0
            found.append(packet)
        self.got.clear()
        return found

    def segments(self) -> list[Tcp]:
        """Take the TCP segments that have come."""
        found = [f.parse_tcp(packet.payload) for packet in self.packets()]
        return [segment for segment in found if segment is not None]

    def until(self, condition: Callable[[], object]) -> None:
        """Poll the gateway until the host has done its part."""
        end = time.monotonic() + 5
        while not condition():
            assert time.monotonic() < end
            self.gateway.poll()
            time.sleep(0.001)


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.gateway.close()


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(5)
        yield made


def opened(wire: Wire, server: socket.socket, **options: int) -> tuple[socket.socket, int, int]:
    """Connect the guest to a server; return the server's socket, its port, and the gateway's next number."""
    port = server.getsockname()[1]
    wire.tcp(port, 1000, 0, SYN, mss=1460, **options)
    wire.until(lambda: wire.got)
    (answer,) = wire.segments()
    assert answer.flags == SYN | ACK and answer.ack == 1001 and answer.mss == 1460
    wire.tcp(port, 1001, answer.seq + 1, ACK)
    peer, _ = server.accept()
    peer.settimeout(5)
    return peer, port, answer.seq + 1


def test_checksum_is_the_sum_of_words() -> None:
    """The remainder equals adding words with end-around carry, for every kind of sum."""
    for data in (b"", b"\0\0", b"\xff\xff", b"\1", b"\xff\xff\0\0", bytes(range(256)) * 3, b"\0\1\xff\xfe"):
        padded = data + b"\0" * (len(data) % 2)
        total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        assert f.checksum(data) == total ^ 0xFFFF


def test_arp(wire: Wire) -> None:
    """The gateway answers for its own address only."""
    wire.gateway.receive(wire.arp(GUEST))
    assert not wire.got
    wire.gateway.receive(wire.arp(GATEWAY))
    answer = f.parse_arp(wire.got[0].payload)
    assert answer == Arp(f.ARP_REPLY, GATEWAY_MAC, GATEWAY, GUEST_MAC, GUEST) and wire.got[0].target == GUEST_MAC


def request(kind: int, *options: tuple[int, bytes]) -> bytes:
    """A DHCP message of the guest."""
    head = struct.pack("!BBBBIHH", 1, 1, 6, 0, 0xABCD, 0, 0) + bytes(16) + GUEST_MAC.ljust(16, b"\0") + bytes(192)
    fields = [(dhcp.MESSAGE, bytes((kind,))), *options]
    return head + b"\x63\x82\x53\x63" + b"".join(bytes((k, len(v))) + v for k, v in fields) + b"\xff"


def test_dhcp(wire: Wire) -> None:
    """Discover is offered 10.0.2.15, a request for it is acknowledged, one for another refused."""
    for message, reply, address in (
        (request(dhcp.DISCOVER), dhcp.OFFER, GUEST),
        (request(dhcp.REQUEST, (dhcp.REQUESTED, GUEST), (dhcp.SERVER, GATEWAY)), dhcp.ACK, GUEST),
        (request(dhcp.REQUEST, (dhcp.REQUESTED, OUTSIDE)), dhcp.NAK, bytes(4)),
    ):
        wire.send(f.PROTO_UDP, Udp(68, 67, message).pack(bytes(4), b"\xff" * 4), b"\xff" * 4)
        (packet,) = wire.packets()
        answer = f.parse_udp(packet.payload)
        assert answer is not None and answer.target == 68 and answer.payload[16:20] == address
        found = dhcp.options(answer.payload[240:])
        assert found[dhcp.MESSAGE] == bytes((reply,)) and found[dhcp.SERVER] == GATEWAY
        assert reply == dhcp.NAK or (found[dhcp.ROUTER], found[dhcp.MASK]) == (GATEWAY, MASK)


@pytest.mark.parametrize("message", [b"", request(7), request(1)[:200], request(1).replace(b"\x63\x82", b"\0\0")])
def test_odd_dhcp_gets_no_answer(message: bytes) -> None:
    """A message cut short, without the cookie, or of another kind is ignored."""
    assert dhcp.answer(message, GUEST, GATEWAY, MASK) is None


def test_ping(wire: Wire) -> None:
    """The gateway answers an echo; any other address is prohibited."""
    echo = b"\x08\0\0\0\x12\x34\0\1data"
    wire.send(f.PROTO_ICMP, echo)
    (packet,) = wire.packets()
    assert packet.payload[0] == f.ECHO_REPLY and packet.payload[4:] == echo[4:] and packet.source == GATEWAY
    for protocol, payload in ((f.PROTO_ICMP, echo), (f.PROTO_UDP, Udp(1, 53, b"?").pack(GUEST, OUTSIDE))):
        wire.send(protocol, payload, OUTSIDE)
        (packet,) = wire.packets()
        assert packet.payload[:2] == bytes((f.UNREACHABLE, f.NET_PROHIBITED))


def test_tcp_both_ways(wire: Wire, server: socket.socket) -> None:
    """Data goes either way, each side ends its half, and the connection is forgotten."""
    peer, port, seq = opened(wire, server)
    wire.tcp(port, 1001, seq, ACK, b"question")
    assert peer.recv(100) == b"question"
    assert wire.segments()[-1].ack == 1009
    peer.sendall(b"answer")
    peer.shutdown(socket.SHUT_WR)
    wire.until(lambda: len(wire.got) >= 2)
    data, end = wire.segments()
    assert data.payload == b"answer" and data.seq == seq and end.flags & FIN and end.seq == seq + 6
    wire.tcp(port, 1009, seq + 7, ACK | FIN)
    assert peer.recv(100) == b"" and wire.segments()[-1].ack == 1010
    assert not wire.gateway.connections
    peer.close()


def test_tcp_refused(wire: Wire, server: socket.socket) -> None:
    """A port where nobody listens, and every address but the gateway's, is answered with RST."""
    port = server.getsockname()[1]
    server.close()
    wire.tcp(port, 1000, 0, SYN)
    wire.until(lambda: wire.got)
    assert wire.segments()[0].flags & RST
    for flags in (SYN, ACK):
        segment = Tcp(PORT, 80, 5, 7, flags, 100)
        wire.send(f.PROTO_TCP, segment.pack(GUEST, OUTSIDE), OUTSIDE)
        (packet,) = wire.packets()
        answer = f.parse_tcp(packet.payload)
        assert packet.source == OUTSIDE and answer is not None and answer.flags & RST
        assert answer.ack == 6 if flags == SYN else answer.seq == 7
    assert not wire.gateway.connections and not wire.gateway.live


def test_tcp_respects_the_guests_window(wire: Wire, server: socket.socket) -> None:
    """No more is sent than the guest has room for; an update lets it go on; windows may be scaled."""
    peer, port, seq = opened(wire, server, scale=2)
    wire.tcp(port, 1001, seq, ACK, window=25)
    peer.sendall(bytes(250))
    wire.until(lambda: wire.got)
    assert [len(s.payload) for s in wire.segments()] == [100]
    wire.tcp(port, 1001, seq + 100, ACK, window=0)
    wire.gateway.poll()
    assert not wire.got
    wire.tcp(port, 1001, seq + 100, ACK, window=1000)
    wire.until(lambda: wire.got)
    assert sum(len(s.payload) for s in wire.segments()) == 150
    peer.close()


def test_tcp_repeats_what_the_guest_does_not_acknowledge(wire: Wire, server: socket.socket) -> None:
    """After a second of the guest's time, and after three duplicate acknowledgements, data is sent again."""
    peer, port, seq = opened(wire, server)
    peer.sendall(b"data")
    wire.until(lambda: wire.got)
    (first,) = wire.segments()
    wire.gateway.poll()
    assert not wire.got
    wire.time += 1_500_000_000
    wire.gateway.poll()
    assert wire.segments() == [first]
    for _ in range(3):
        wire.tcp(port, 1001, seq, ACK)
    assert wire.segments() == [first]
    for _ in range(9):
        wire.time += 1_500_000_000
        wire.gateway.poll()
    assert wire.segments()[-1].flags & RST and not wire.gateway.connections
    peer.close()


def test_tcp_takes_data_in_order(wire: Wire, server: socket.socket) -> None:
    """What comes twice is taken once; what comes too early is asked for again."""
    peer, port, seq = opened(wire, server)
    wire.tcp(port, 1001, seq, ACK, b"abc")
    wire.tcp(port, 1010, seq, ACK, b"early")
    assert wire.segments()[-1].ack == 1004
    wire.tcp(port, 1001, seq, ACK, b"abcdef")
    wire.tcp(port, 1001, seq, ACK, b"ab")
    assert wire.segments()[-1].ack == 1007 and peer.recv(100) == b"abcdef"
    peer.close()


def test_tcp_reset_goes_through(wire: Wire, server: socket.socket) -> None:
    """A guest's RST closes the host's socket, and a host's reset reaches the guest."""
    peer, port, seq = opened(wire, server)
    wire.tcp(port, 1001, seq, RST)
    with pytest.raises(ConnectionResetError):
        peer.recv(10)
    assert not wire.gateway.connections
    peer.close()
    peer, port, seq = opened(wire, server)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    wire.until(lambda: wire.got)
    assert wire.segments()[-1].flags & RST and not wire.gateway.connections


def test_tcp_moves_much(wire: Wire, server: socket.socket) -> None:
    """A megabyte each way arrives whole, whatever the pieces."""
    peer, port, seq = opened(wire, server)
    peer.setblocking(False)
    data = bytes(range(251)) * 4178
    sent, fed, number = 0, 0, 1001
    taken, back = bytearray(), bytearray()

    def turn() -> bool:
        nonlocal sent, fed, number
        if sent - (number - 1001) < 60_000 and sent < len(data):
            wire.tcp(port, 1001 + sent, seq + len(back), ACK, data[sent : sent + 9000])
            sent += len(data[sent : sent + 9000])
        with contextlib.suppress(BlockingIOError):
            taken.extend(peer.recv(1 << 16))
        with contextlib.suppress(BlockingIOError):
            fed += peer.send(data[fed : fed + 30_000])
        for segment in wire.segments():
            number = max(number, segment.ack)
            if segment.seq == (seq + len(back)) & 0xFFFF_FFFF:
                back.extend(segment.payload)
        wire.tcp(port, 1001 + sent, seq + len(back), ACK)
        return len(taken) == len(back) == len(data)

    wire.until(turn)
    assert taken == back == data
    peer.close()


def test_a_port_of_the_host_is_a_port_of_the_guest() -> None:
    """The gateway asks for the guest's card, then connects; data follows; a guest that refuses ends it."""
    wire = Wire(Forward("tcp", ("127.0.0.1", 0), (GUEST, 22)))
    wire.gateway._macs.clear()
    assert wire.gateway.live
    address = wire.gateway.listeners[0][0].getsockname()
    with socket.create_connection(address, 5) as peer:
        wire.until(lambda: wire.got)
        question = f.parse_arp(wire.got.pop().payload)
        assert question is not None and question.target_ip == GUEST
        wire.gateway.receive(wire.arp(GATEWAY))
        wire.got.clear()
        wire.until(lambda: wire.got)
        (syn,) = wire.segments()
        assert (syn.flags, syn.target, syn.source) == (SYN, 22, peer.getsockname()[1])
        answer = Tcp(22, syn.source, 500, syn.seq + 1, SYN | ACK, 0xFFFF, mss=1000)
        wire.send(f.PROTO_TCP, answer.pack(GUEST, GATEWAY))
        assert wire.segments()[-1].ack == 501
        greeting = Tcp(22, syn.source, 501, syn.seq + 1, ACK, 0xFFFF, b"hello")
        wire.send(f.PROTO_TCP, greeting.pack(GUEST, GATEWAY))
        assert peer.recv(100) == b"hello"
        wire.got.clear()
        peer.sendall(bytes(1500))
        wire.until(lambda: len(wire.got) >= 2)
        assert [len(s.payload) for s in wire.segments()] == [1000, 500]
    with socket.create_connection(address, 5) as peer:
        wire.until(lambda: any(s.flags == SYN and refuse(wire, s) for s in wire.segments()))
        with pytest.raises(ConnectionResetError):
            peer.recv(10)
    wire.gateway.close()


def refuse(wire: Wire, syn: Tcp) -> bool:
    """The guest's answer where nobody listens."""
    wire.send(f.PROTO_TCP, Tcp(22, syn.source, 0, syn.seq + 1, RST | ACK, 0).pack(GUEST, GATEWAY))
    return True


def test_udp(wire: Wire) -> None:
    """Datagrams reach a port of the host, answers come back; where nobody listens the guest is told."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(5)
        port = peer.getsockname()[1]
        wire.send(f.PROTO_UDP, Udp(77, port, b"question").pack(GUEST, GATEWAY))
        data, sender = peer.recvfrom(100)
        assert data == b"question" and wire.gateway.live
        peer.sendto(b"answer", sender)
        wire.until(lambda: wire.got)
        (packet,) = wire.packets()
        assert f.parse_udp(packet.payload) == Udp(port, 77, b"answer")
    wire.send(f.PROTO_UDP, Udp(77, port, b"1").pack(GUEST, GATEWAY))
    wire.until(lambda: wire.send(f.PROTO_UDP, Udp(77, port, b"2").pack(GUEST, GATEWAY)) or wire.got)
    assert wire.packets()[0].payload[:2] == bytes((f.UNREACHABLE, f.PORT_UNREACHABLE))
    wire.time += 6_000_000_000
    assert not wire.gateway.live


def test_udp_forward() -> None:
    """A datagram to a forwarded port reaches the guest, and its answer the sender."""
    wire = Wire(Forward("udp", ("127.0.0.1", 0), (GUEST, 53)))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.settimeout(5)
        peer.sendto(b"question", wire.gateway.bound[0].socket.getsockname())
        wire.until(lambda: wire.got)
        (packet,) = wire.packets()
        asked = f.parse_udp(packet.payload)
        assert asked is not None and (asked.target, asked.payload) == (53, b"question")
        wire.send(f.PROTO_UDP, Udp(53, asked.source, b"answer").pack(GUEST, GATEWAY))
        assert peer.recv(100) == b"answer"
    wire.gateway.close()


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=120), st.sampled_from(["", "arp", "ip", "tcp", "udp", "icmp", "dhcp"]))
def test_no_frame_breaks_the_gateway(data: bytes, wrapped: str) -> None:
    """Whatever a guest sends, nothing is raised, and nothing connects to the host by chance."""
    wire = Wire()
    target = {"dhcp": b"\xff" * 4}.get(wrapped, OUTSIDE)
    protocol = {"tcp": f.PROTO_TCP, "icmp": f.PROTO_ICMP}.get(wrapped, f.PROTO_UDP)
    if wrapped == "dhcp":
        data = Udp(68, 67, data).pack(GUEST, target)
    if wrapped in ("tcp", "udp", "icmp", "dhcp"):
        wire.send(protocol, data, target)
    else:
        kind = {"arp": f.ETH_ARP, "ip": f.ETH_IPV4}.get(wrapped)
        wire.gateway.receive(Ethernet(GATEWAY_MAC, GUEST_MAC, kind, data).pack() if kind else data)
    wire.gateway.poll()
    assert not wire.gateway.live and not wire.gateway.descriptors()
    wire.gateway.close()


# --- the card ---
