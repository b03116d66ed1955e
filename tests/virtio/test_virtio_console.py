"""The console device: hvc0."""

from __future__ import annotations

from virtio_driver import Driver

from trapline.machine.virtio import numbers as n
from trapline.machine.virtio.console import RECEIVE, TRANSMIT, ConsoleDevice


def test_what_the_guest_writes_goes_out() -> None:
    """Bytes of the transmit queue reach the output in order."""
    out = bytearray()
    driver = Driver(ConsoleDevice(out.extend))
    driver.request([b"hel", b"lo"], queue=TRANSMIT)
    driver.request([b"!"], queue=TRANSMIT)
    assert out == b"hello!"


def test_typed_bytes_wait_for_a_buffer() -> None:
    """Input before the driver has a buffer is kept; a buffer takes what fits; the rest waits for the next."""
    device = ConsoleDevice(lambda data: None)
    device.receive(b"typed early")
    driver = Driver(device, features=n.F_VERSION_1)
    assert device.unread == 11
    assert driver.request([], [5], queue=RECEIVE) == [b"typed"] and device.unread == 6
    assert driver.request([], [64], queue=RECEIVE)[0][:6] == b" early"
    assert driver.last_used(RECEIVE) == (0, 6)
    driver.offer(0, RECEIVE)
    driver.put(n.QUEUE_NOTIFY, RECEIVE)
    driver.put(n.INTERRUPT_ACK, 1)
    device.receive(b"x")
    assert driver.get(n.INTERRUPT_STATUS) == n.INTERRUPT_USED and driver.last_used(RECEIVE) == (0, 1)
