"""What a guest reaches through its card, and how much of the host it can take."""

from __future__ import annotations

import errno
import os
import resource
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_virtio_net import OUTSIDE, PORT, Wire
from virtio_driver import Driver

from trapline.machine.virtio.net import frames as f
from trapline.machine.virtio.net.device import TRANSMIT, NetDevice
from trapline.machine.virtio.net.frames import RST, SYN, Arp, Ethernet, Ipv4, Tcp, Udp
from trapline.machine.virtio.net.gateway import (
    GATEWAY,
    GATEWAY_MAC,
    GUEST,
    MOST_ADDRESSES,
    MOST_FLOWS,
    Forward,
    Gateway,
)
from trapline.machine.virtio.net.reach import EVERYTHING, Ports, Reach
from trapline.machine.virtio.network import parse_net


class Restricted(Wire):
    """A guest whose gateway lets it reach some ports, or hold few sockets."""

    def __init__(self, *forwards: Forward, reach: Reach = EVERYTHING, flows: int = MOST_FLOWS) -> None:
        super().__init__()
        self.gateway = Gateway(self._take, lambda: self.time, forwards, reach=reach, flows=flows)
        self.gateway.receive(self.arp(GATEWAY))
        self.got.clear()

    def udp(self, port: int) -> None:
        """Send a datagram."""
        self.send(f.PROTO_UDP, Udp(PORT, port, b"hello").pack(GUEST, GATEWAY))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A TCP server of the host."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.settimeout(5)
        yield sock


def reset(wire: Wire) -> bool:
    """Whether the last answer is a reset."""
    (segment,) = wire.segments()
    return segment.flags & RST != 0


def test_a_restricted_guest_reaches_nothing(listener: socket.socket) -> None:
    """restrict=on: TCP is reset, UDP is unreachable; ARP and pings of the gateway are answered as ever."""
    wire = Restricted(reach=Reach(()))
    wire.tcp(listener.getsockname()[1], 1, 0, SYN)
    assert reset(wire) and not wire.gateway.connections
    wire.udp(listener.getsockname()[1])
    (packet,) = wire.packets()
    assert packet.payload[:2] == bytes((f.UNREACHABLE, f.NET_PROHIBITED)) and not wire.gateway._flows
    wire.gateway.receive(wire.arp(GATEWAY))
    assert len(wire.got) == 1
    wire.gateway.close()


def test_a_restricted_guest_answers_what_is_forwarded() -> None:
    """A forwarded port works with restrict=on: the guest answers, though it may begin nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    wire = Restricted(Forward("udp", ("127.0.0.1", port), (GUEST, PORT)), reach=Reach(()))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.settimeout(5)
        peer.sendto(b"question", ("127.0.0.1", port))
        wire.gateway.poll()
        (packet,) = wire.packets()
        question = f.parse_udp(packet.payload)
        assert question is not None and question.payload == b"question"
        wire.udp(question.source)
        assert peer.recv(100) == b"hello"
    wire.gateway.close()


def test_only_allowed_ports_are_reached(listener: socket.socket) -> None:
    """allow= names a protocol and ports, both ends included."""
    port = listener.getsockname()[1]
    for reach, reached in (
        (Reach((Ports("tcp", port, port),)), True),
        (Reach((Ports("tcp", port - 5, port),)), True),
        (Reach((Ports("tcp", port + 1, port + 5), Ports("udp", port, port))), False),
    ):
        wire = Restricted(reach=reach)
        wire.tcp(port, 1, 0, SYN)
        assert bool(wire.gateway.connections) is reached
        wire.gateway.close()


def test_reach_by_default(listener: socket.socket) -> None:
    """Without a word, every port of 127.0.0.1 is the gateway's, and no other address is anything."""
    wire = Restricted()
    wire.tcp(listener.getsockname()[1], 1, 0, SYN)
    assert wire.gateway.connections
    wire.got.clear()
    segment = Tcp(PORT, 80, 1, 0, SYN, 0xFFFF)
    wire.send(f.PROTO_TCP, segment.pack(GUEST, OUTSIDE), OUTSIDE)
    assert reset(wire)
    wire.gateway.close()


def test_restriction_options() -> None:
    """restrict=on|off and allow=PROTOCOL:PORT[-PORT], repeated; allow alone restricts, too."""
    for text, only in (
        ("user", None),
        ("user,restrict=off", None),
        ("user,restrict=on", ()),
        ("user,allow=tcp:80", (Ports("tcp", 80, 80),)),
        ("user,restrict=on,allow=tcp:127.0.0.1:80-90,allow=udp:53", (Ports("tcp", 80, 90), Ports("udp", 53, 53))),
    ):
        argument = parse_net(text)
        assert argument is not None and argument.reach.only == only, text
    for wrong in (
        "restrict=maybe",
        "allow=80",
        "allow=tcp:0",
        "allow=tcp:9-8",
        "allow=tcp:65536",
        "allow=tcp:8.8.8.8:80",
    ):
        with pytest.raises(ValueError, match="net"):
            parse_net(f"user,{wrong}")


def test_cards_that_are_remembered_are_few() -> None:
    """However many addresses a guest claims to have, the gateway knows the last of them."""
    wire = Restricted()
    for number in range(2 * MOST_ADDRESSES):
        claim = Arp(2, number.to_bytes(6, "big"), struct.pack(">I", number + 1 << 8), bytes(6), bytes(4))
        wire.gateway.receive(Ethernet(GATEWAY_MAC, bytes(6), f.ETH_ARP, claim.pack()).pack())
    assert len(wire.gateway._macs) == MOST_ADDRESSES
    assert wire.gateway._macs[struct.pack(">I", 2 * MOST_ADDRESSES << 8)] == (2 * MOST_ADDRESSES - 1).to_bytes(6, "big")


def test_a_guest_holds_few_sockets(listener: socket.socket) -> None:
    """Connections beyond the card's number are reset, and of datagram flows the oldest ends."""
    wire = Restricted(flows=3)
    for number in range(5):
        segment = Tcp(PORT + number, listener.getsockname()[1], 1, 0, SYN, 0xFFFF)
        wire.send(f.PROTO_TCP, segment.pack(GUEST, GATEWAY))
        wire.udp(1000 + number)
    assert len(wire.gateway.connections) == 3 and len(wire.gateway._flows) == 3
    wire.gateway.close()


def test_a_host_without_descriptors_resets(listener: socket.socket) -> None:
    """A host that gives no socket is a port where nobody listens: the machine goes on."""
    wire = Restricted()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(link.name) for link in Path("/proc/self/fd").iterdir())
    held = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
        with pytest.raises(OSError) as error:
            while True:
                held.append(os.dup(0))
        assert error.value.errno == errno.EMFILE
        wire.tcp(listener.getsockname()[1], 1, 0, SYN)
        wire.udp(1000)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in held:
            os.close(descriptor)
    refused, unreachable = wire.packets()
    assert refused.protocol == f.PROTO_TCP and unreachable.payload[:2] == bytes((f.UNREACHABLE, f.PORT_UNREACHABLE))
    assert not wire.gateway.connections


def test_frames_for_a_guest_that_takes_none_are_bounded() -> None:
    """What waits for receive buffers is some megabytes at most, however large the answers are."""
    device = NetDevice(lambda: 0)
    driver = Driver(device)
    ping = struct.pack("!BBHI", f.ECHO_REQUEST, 0, 0, 1) + bytes(60_000)
    packet = Ipv4(f.PROTO_ICMP, GUEST, GATEWAY, ping).pack()
    frame = Ethernet(GATEWAY_MAC, bytes(6), f.ETH_IPV4, packet).pack()
    for _ in range(100):
        driver.request([bytes(12), frame], queue=TRANSMIT)
    assert 3 << 20 < sum(map(len, device._frames)) == device._waiting <= 4 << 20
    device.reset()
    assert device._waiting == 0
