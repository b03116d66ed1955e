"""Packets as bytes: Ethernet II, ARP (RFC 826), IPv4 (RFC 791), ICMP (RFC 792), UDP (RFC 768), TCP (RFC 9293)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

ETH_IPV4, ETH_ARP = 0x0800, 0x0806
PROTO_ICMP, PROTO_TCP, PROTO_UDP = 1, 6, 17
ARP_REQUEST, ARP_REPLY = 1, 2
ECHO_REPLY, UNREACHABLE, ECHO_REQUEST = 0, 3, 8
NET_PROHIBITED, PORT_UNREACHABLE = 9, 3
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
MTU = 1500
BROADCAST = b"\xff" * 6

_ARP = struct.Struct("!HHBBH6s4s6s4s")
_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_TCP = struct.Struct("!HHIIBBHHH")
_UDP = struct.Struct("!HHHH")
_TTL = 64
_DONT_FRAGMENT, _FRAGMENT = 0x4000, 0x3FFF
_OPTION_MSS, _OPTION_SCALE = 2, 3


def checksum(data: bytes) -> int:
    """The internet checksum: the ones' complement of the sum of 16-bit words, which is a remainder."""
    if len(data) % 2:
        data += b"\0"
    number = int.from_bytes(data, "big")
    total = number % 0xFFFF
    return 0xFFFF - (total if total or not number else 0xFFFF)


@dataclass(frozen=True, slots=True)
class Ethernet:
    """A frame."""

    target: bytes
    source: bytes
    kind: int
    payload: bytes

    def pack(self) -> bytes:
        """Return the frame's bytes, without a checksum."""
        return self.target + self.source + self.kind.to_bytes(2, "big") + self.payload


def parse_ethernet(data: bytes) -> Ethernet | None:
    """Read a frame; None if it is too short."""
    if len(data) < 14:
        return None
    return Ethernet(data[:6], data[6:12], int.from_bytes(data[12:14], "big"), data[14:])


@dataclass(frozen=True, slots=True)
class Arp:
    """A question or an answer about who has an IPv4 address."""

    operation: int
    sender: bytes
    sender_ip: bytes
    target: bytes
    target_ip: bytes

    def pack(self) -> bytes:
        """Return the bytes."""
        return _ARP.pack(1, ETH_IPV4, 6, 4, self.operation, self.sender, self.sender_ip, self.target, self.target_ip)


def parse_arp(data: bytes) -> Arp | None:
    """Read an ARP packet; None if it is not one of Ethernet and IPv4."""
    if len(data) < _ARP.size:
        return None
    hardware, protocol, hlen, plen, *rest = _ARP.unpack_from(data)
    return Arp(*rest) if (hardware, protocol, hlen, plen) == (1, ETH_IPV4, 6, 4) else None


@dataclass(frozen=True, slots=True)
class Ipv4:
    """A datagram."""

    protocol: int
    source: bytes
    target: bytes
    payload: bytes

    def pack(self, identification: int = 0) -> bytes:
        """Return the datagram's bytes."""
        size = _IPV4.size + len(self.payload)
        fields = [0x45, 0, size, identification, _DONT_FRAGMENT, _TTL, self.protocol, 0, self.source, self.target]
        fields[7] = checksum(_IPV4.pack(*fields))
        return _IPV4.pack(*fields) + self.payload


def parse_ipv4(data: bytes) -> Ipv4 | None:
    """Read a datagram; None for what is malformed, and for fragments."""
    if len(data) < _IPV4.size:
        return None
    first, _, size, _, fragment, _, protocol, _, source, target = _IPV4.unpack_from(data)
    header = (first & 15) * 4
    if first >> 4 != 4 or header < _IPV4.size or not header <= size <= len(data) or fragment & _FRAGMENT:
        return None
    if checksum(data[:header]) != 0:
        return None
    return Ipv4(protocol, source, target, data[header:size])


def _pseudo(protocol: int, source: bytes, target: bytes, size: int) -> bytes:
    return source + target + struct.pack("!HH", protocol, size)


@dataclass(frozen=True, slots=True)
class Udp:
    """A UDP datagram."""

    source: int
    target: int
    payload: bytes

    def pack(self, source_ip: bytes, target_ip: bytes) -> bytes:
        """Return the bytes, for these addresses."""
        size = _UDP.size + len(self.payload)
        data = _UDP.pack(self.source, self.target, size, 0) + self.payload
        value = checksum(_pseudo(PROTO_UDP, source_ip, target_ip, size) + data) or 0xFFFF
        return data[:6] + value.to_bytes(2, "big") + data[8:]


def parse_udp(data: bytes) -> Udp | None:
    """Read a datagram; None if it is cut short. The checksum may be left to the card."""
    if len(data) < _UDP.size:
        return None
    source, target, size, _ = _UDP.unpack_from(data)
    return Udp(source, target, data[_UDP.size : size]) if _UDP.size <= size <= len(data) else None


@dataclass(frozen=True, slots=True)
class Tcp:
    """A TCP segment; `mss` and `scale` are the options of a SYN."""

    source: int
    target: int
    seq: int
    ack: int
    flags: int
    window: int
    payload: bytes = b""
    mss: int | None = None
    scale: int | None = None

    def pack(self, source_ip: bytes, target_ip: bytes) -> bytes:
        """Return the bytes, for these addresses."""
        options = b"" if self.mss is None else struct.pack("!BBH", _OPTION_MSS, 4, self.mss)
        options += b"" if self.scale is None else bytes((_OPTION_SCALE, 3, self.scale, 0))
        offset = (_TCP.size + len(options)) // 4 << 4
        head = _TCP.pack(self.source, self.target, self.seq, self.ack, offset, self.flags, self.window, 0, 0)
        data = head + options + self.payload
        value = checksum(_pseudo(PROTO_TCP, source_ip, target_ip, len(data)) + data)
        return data[:16] + value.to_bytes(2, "big") + data[18:]


def parse_tcp(data: bytes) -> Tcp | None:
    """Read a segment; None if it is cut short. The checksum may be left to the card."""
    if len(data) < _TCP.size:
        return None
    source, target, seq, ack, offset, flags, window, _, _ = _TCP.unpack_from(data)
    header = (offset >> 4) * 4
    if not _TCP.size <= header <= len(data):
        return None
    mss, scale = _options(data[_TCP.size : header]) if flags & SYN else (None, None)
    return Tcp(source, target, seq, ack, flags, window, data[header:], mss, scale)


def _options(data: bytes) -> tuple[int | None, int | None]:
    mss = scale = None
    at = 0
    while at < len(data) and data[at] != 0:
        if data[at] == 1:
            at += 1
            continue
        size = data[at + 1] if at + 1 < len(data) else 0
        if size < 2 or at + size > len(data):
            break
        if data[at] == _OPTION_MSS and size == 4:
            mss = int.from_bytes(data[at + 2 : at + 4], "big")
        elif data[at] == _OPTION_SCALE and size == 3:
            scale = min(data[at + 2], 14)
        at += size
    return mss, scale
