"""The network card: its configuration, buffers, records and options."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from virtio_driver import Driver

from trapline.machine.virtio import numbers as n
from trapline.machine.virtio.net import frames as f
from trapline.machine.virtio.net.device import F_MRG_RXBUF, RECEIVE, TRANSMIT, NetDevice
from trapline.machine.virtio.net.frames import Arp, Ethernet
from trapline.machine.virtio.net.gateway import GATEWAY, GUEST, GUEST_MAC, Forward
from trapline.machine.virtio.net.pcap import Pcap
from trapline.machine.virtio.network import NetArgument, open_net, parse_net

OUTSIDE = bytes((8, 8, 8, 8))
PORT = 40_000


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(5)
        yield made


def card() -> tuple[Driver, NetDevice]:
    device = NetDevice(lambda: 0)
    return Driver(device, features=n.TRANSPORT_FEATURES | F_MRG_RXBUF), device


def test_configuration() -> None:
    """The card's address, and the link is up."""
    driver, _ = card()
    assert bytes(driver.get(n.CONFIG + k, 1) for k in range(6)) == GUEST_MAC and driver.get(n.CONFIG + 6, 2) == 1


def test_frames_are_answered_while_the_driver_waits() -> None:
    """An ARP question on the transmit queue puts the answer into the receive queue at once."""
    driver, _ = card()
    driver.chain([], [1600], RECEIVE)
    driver.offer(0, RECEIVE)
    question = Ethernet(f.BROADCAST, GUEST_MAC, f.ETH_ARP, Arp(1, GUEST_MAC, GUEST, bytes(6), GATEWAY).pack()).pack()
    driver.request([bytes(12), question], queue=TRANSMIT)
    head, size = driver.last_used(RECEIVE)
    assert (head, size) == (0, 12 + 14 + 28) and driver.get(n.INTERRUPT_STATUS) == n.INTERRUPT_USED


@pytest.mark.parametrize(("features", "header"), [(0, 10), (n.F_EVENT_IDX, 10), (F_MRG_RXBUF, 12), (n.F_VERSION_1, 12)])
def test_the_legacy_header_has_no_number_of_buffers(features: int, header: int) -> None:
    """Without VERSION_1 and MRG_RXBUF the header in front of a frame has ten bytes, both ways (5.1.6.1)."""
    driver = Driver(NetDevice(lambda: 0), features=features)
    driver.chain([], [1600], RECEIVE)
    driver.offer(0, RECEIVE)
    question = Ethernet(f.BROADCAST, GUEST_MAC, f.ETH_ARP, Arp(1, GUEST_MAC, GUEST, bytes(6), GATEWAY).pack()).pack()
    driver.request([bytes(header), question], queue=TRANSMIT)
    assert driver.last_used(RECEIVE) == (0, header + 14 + 28)


def test_a_frame_may_fill_several_buffers() -> None:
    """With MRG_RXBUF small buffers are merged; as long as there are too few, the frame waits."""
    driver, device = card()
    frame = bytes(range(200))
    device._to_guest(frame)
    for head in range(3):
        driver.chain([], [100], RECEIVE, head)
        driver.offer(head, RECEIVE)
        driver.put(n.QUEUE_NOTIFY, RECEIVE)
        assert driver.used(RECEIVE) == (3 if head == 2 else 0)
    assert [driver.mmio.queues[RECEIVE].used_idx, driver.last_used(RECEIVE)[1]] == [3, 12]
    assert driver.memory.read(driver.next_buffer - 3 * 112 + 10, 2) == b"\3\0"


@pytest.mark.parametrize(("readable", "writable", "queue"), [([b"short"], [], TRANSMIT), ([], [11], RECEIVE)])
def test_buffers_without_a_header_need_a_reset(readable: list[bytes], writable: list[int], queue: int) -> None:
    """Neither a frame nor a buffer is shorter than its header."""
    driver, device = card()
    device._to_guest(bytes(60))
    driver.chain(readable, writable, queue)
    driver.offer(0, queue)
    driver.put(n.QUEUE_NOTIFY, queue)
    assert driver.needs_reset


def test_pcap(tmp_path: Path) -> None:
    """Frames of both directions are recorded with the guest's time."""
    path = tmp_path / "wire.pcap"
    device = NetDevice(lambda: 3_000_000_007, pcap=Pcap(path))
    driver = Driver(device)
    driver.request([bytes(12), b"A" * 60], queue=TRANSMIT)
    device._to_guest(b"B" * 70)
    device.close()
    data = path.read_bytes()
    assert struct.unpack_from("<IHH", data) == (0xA1B2_3C4D, 2, 4)
    assert struct.unpack_from("<IIII", data, 24) == (3, 7, 60, 60) and data[24 + 16 + 60 + 16 :] == b"B" * 70


def test_a_record_on_a_full_disk_ends_early() -> None:
    """Frames that find no room end the record, not the run, and closing says which file it is; one that cannot even
    be begun is refused by its name."""
    with pytest.raises(ValueError, match="/dev/full: cannot write: No space left on device"):
        open_net(NetArgument(pcap=Path("/dev/full")), lambda: 0)
    pcap = Pcap(Path("/dev/null"))
    pcap._file = Path("/dev/full").open("wb")  # noqa: SIM115  (closed by the device)
    device = NetDevice(lambda: 0, pcap=pcap)
    for _ in range(200):
        Driver(device).request([bytes(12), b"A" * 600], queue=TRANSMIT)
    assert device.close() == "pcap '/dev/null' ends early: No space left on device"


def test_option(tmp_path: Path) -> None:
    """none, or user with forwards and a record."""
    assert parse_net("none") is None and parse_net("user") == NetArgument()
    parsed = parse_net("user,hostfwd=tcp::2222-:22,hostfwd=udp:127.0.0.2:53-10.0.2.9:5353,pcap=x.pcap")
    assert parsed == NetArgument(
        (
            Forward("tcp", ("127.0.0.1", 2222), (GUEST, 22)),
            Forward("udp", ("127.0.0.2", 53), (bytes((10, 0, 2, 9)), 5353)),
        ),
        Path("x.pcap"),
    )
    for wrong, message in (
        ("tap", "'tap' is not known"),
        ("user,fast", "'fast' is not known"),
        ("user,hostfwd=2222", "should look like"),
        ("user,hostfwd=tcp:0.0.0.0:80-:80", "not a loopback address"),
        ("user,hostfwd=tcp:host:80-:80", "an address that is none"),
        ("user,hostfwd=tcp::80-:70000", "beyond 65535"),
    ):
        with pytest.raises(ValueError, match=message):
            parse_net(wrong)


def test_what_cannot_be_opened_is_named(tmp_path: Path, server: socket.socket) -> None:
    """A port in use, and a record that cannot be written, are one clear line."""
    port = server.getsockname()[1]
    busy = parse_net(f"user,hostfwd=tcp::{port}-:22")
    assert busy is not None
    with pytest.raises(ValueError, match=f"hostfwd tcp:127.0.0.1:{port}: Address already in use"):
        open_net(busy, lambda: 0)
    with pytest.raises(ValueError, match="No such file"):
        open_net(NetArgument(pcap=tmp_path / "none" / "x"), lambda: 0)
