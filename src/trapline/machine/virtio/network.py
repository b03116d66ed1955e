"""`--net user[,restrict=on][,allow=tcp:PORT][,hostfwd=...][,pcap=FILE]`: reading it, and making the card."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trapline.machine.virtio.net.device import NetDevice
from trapline.machine.virtio.net.gateway import GUEST, MOST_FLOWS, Forward
from trapline.machine.virtio.net.pcap import Pcap
from trapline.machine.virtio.net.reach import EVERYTHING, Ports, Reach
from trapline.machine.virtio.words import split_words

_FORWARD = re.compile(r"(tcp|udp):([^:]*):([0-9]{1,9})-([^:]*):([0-9]{1,9})")
_ALLOWED = re.compile(r"(tcp|udp):(?:127\.0\.0\.1:)?([0-9]{1,9})(?:-([0-9]{1,9}))?")
_USAGE = "write none, or user[,restrict=on|off][,allow=tcp:PORT[-PORT]][,hostfwd=tcp:127.0.0.1:PORT-:PORT][,pcap=FILE]"


@dataclass(frozen=True, slots=True)
class NetArgument:
    """A network card that the user asked for."""

    forwards: tuple[Forward, ...] = ()
    pcap: Path | None = None
    reach: Reach = EVERYTHING


def parse_net(text: str) -> NetArgument | None:
    """Read the option; None for no card."""
    kind, *words = split_words(text)
    if kind == "none" and not words:
        return None
    if kind != "user":
        raise ValueError(f"net {text!r}: {kind!r} is not known ({_USAGE})")
    forwards, allowed, restricted, pcap = [], [], False, None
    for word in words:
        key, _, value = word.partition("=")
        if key == "hostfwd":
            forwards.append(_forward(text, value))
        elif key == "allow":
            allowed.append(_allowed(text, value))
        elif key == "restrict" and value in ("on", "off", "yes", "no"):
            restricted = value in ("on", "yes")
        elif key == "pcap" and value:
            pcap = Path(value)
        else:
            raise ValueError(f"net {text!r}: {word!r} is not known ({_USAGE})")
    reach = Reach(tuple(allowed)) if restricted or allowed else EVERYTHING
    return NetArgument(tuple(forwards), pcap, reach)


def _allowed(text: str, value: str) -> Ports:
    match = _ALLOWED.fullmatch(value)
    if match is None:
        raise ValueError(f"net {text!r}: allow {value!r} should look like tcp:8000 or udp:5000-5010")
    protocol, first, last = match[1], int(match[2]), int(match[3] or match[2])
    if not 0 < first <= last <= 0xFFFF:
        raise ValueError(f"net {text!r}: allow {value!r} names no ports from 1 to 65535")
    return Ports(protocol, first, last)


def _forward(text: str, value: str) -> Forward:
    match = _FORWARD.fullmatch(value)
    if match is None:
        raise ValueError(f"net {text!r}: hostfwd {value!r} should look like tcp:127.0.0.1:2222-:22")
    protocol, host, port, guest, guest_port = match.groups()
    host = {"": "127.0.0.1", "localhost": "127.0.0.1"}.get(host, host)
    try:
        if not ipaddress.IPv4Address(host).is_loopback:
            raise ValueError(f"net {text!r}: {host} is not a loopback address: forwarding is from 127.0.0.1 only")
        address = socket.inet_aton(str(ipaddress.IPv4Address(guest))) if guest else GUEST
    except ipaddress.AddressValueError:
        raise ValueError(f"net {text!r}: hostfwd {value!r} has an address that is none") from None
    if int(port) > 0xFFFF or not 0 < int(guest_port) <= 0xFFFF:
        raise ValueError(f"net {text!r}: hostfwd {value!r} has a port beyond 65535, or 0")
    return Forward(protocol, (host, int(port)), (address, int(guest_port)))


def open_net(argument: NetArgument, now: Callable[[], int], descriptors: int = 2 * MOST_FLOWS) -> NetDevice:
    """Make the card, whose guest may hold so many descriptors; ValueError says in one line what is wrong."""
    try:
        pcap = Pcap(argument.pcap) if argument.pcap is not None else None
    except OSError as error:
        raise ValueError(f"pcap={argument.pcap}: cannot write: {error.strerror or error}") from None
    return NetDevice(now, argument.forwards, pcap, reach=argument.reach, flows=descriptors // 2)
