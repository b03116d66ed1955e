"""The MMIO transport and split queues: initialisation, rings, interrupts, and drivers that break the rules."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from virtio_driver import AVAIL, BUFFERS, DESC, HART, RAM, SIZE, USED, Driver, FakeMemory

from trapline.machine import memory_map as mm
from trapline.machine.virtio import numbers as n
from trapline.machine.virtio.bus import VirtioBus
from trapline.machine.virtio.rng import RngDevice
from trapline.machine.virtio.span import Span


def test_registers_identify_the_device() -> None:
    """Magic, version 2 and type can be read; a window without a device has type 0."""
    bus = VirtioBus(FakeMemory(), lambda irq, level: None)
    bus.add(RngDevice())
    for slot, kind in ((0, n.ID_RNG), (1, n.ID_NONE), (7, n.ID_NONE)):
        base = slot * mm.VIRTIO_STRIDE
        assert bus.load(HART, base + n.MAGIC_VALUE, 4).to_bytes(4, "little") == b"virt"
        assert bus.load(HART, base + n.VERSION, 4) == 2
        assert bus.load(HART, base + n.DEVICE_ID, 4) == kind


def test_there_are_eight_windows_with_lines_of_their_own() -> None:
    """Device k drives line k + 1, and the ninth device is refused."""
    lines: list[tuple[int, bool]] = []
    bus = VirtioBus(FakeMemory(), lambda irq, level: lines.append((irq, level)))
    for _ in range(8):
        bus.add(RngDevice()).fail("test")
    assert [slot.status for slot in bus.slots] == [n.STATUS_NEEDS_RESET] * 8
    for slot in bus.slots:
        slot.status |= n.STATUS_DRIVER_OK
        slot.fail("test")
    assert lines == [(irq, True) for irq in range(1, 9)]
    with pytest.raises(ValueError, match="more than 8"):
        bus.add(RngDevice())


def test_the_vendor_is_the_one_that_drivers_look_for() -> None:
    """Every window, with a device or without, names QEMU's vendor, which teaching kernels check."""
    bus = VirtioBus(FakeMemory(), lambda irq, level: None)
    bus.add(RngDevice())
    assert [bus.load(HART, slot * mm.VIRTIO_STRIDE + n.VENDOR_ID, 4) for slot in (0, 1)] == [0x554D_4551] * 2


@pytest.mark.parametrize("features", [0, n.F_EVENT_IDX, n.F_INDIRECT_DESC])
def test_a_driver_without_version_1_is_served(features: int) -> None:
    """A driver that knows the low 32 feature bits alone gets its FEATURES_OK, and its requests are answered."""
    driver = Driver(RngDevice(), features=features)
    pieces = driver.request([], [8])
    assert driver.last_used() == (0, 8) and any(pieces[0])


def test_a_driver_without_features_ok_has_no_features() -> None:
    """What a driver accepts counts from FEATURES_OK on: without it the event index is off."""
    driver = Driver(RngDevice(), features=n.F_EVENT_IDX)
    driver.put(n.STATUS, 0)
    driver.put(n.DRIVER_FEATURES_SEL, 0)
    driver.put(n.DRIVER_FEATURES, n.F_EVENT_IDX)
    driver.set_up_queue(0)
    driver.put(n.STATUS, n.STATUS_ACKNOWLEDGE | n.STATUS_DRIVER | n.STATUS_DRIVER_OK)
    driver.memory.write(AVAIL + 4 + 2 * driver.num, struct.pack("<H", 1))
    driver.request([], [8])
    assert driver.get(n.INTERRUPT_STATUS) == n.INTERRUPT_USED


def test_features_that_were_not_offered_are_refused() -> None:
    """FEATURES_OK does not stick with a feature that was not offered, with VERSION_1 or without."""
    driver = Driver(RngDevice())
    for accepted in (1 << 5, n.F_VERSION_1 | 1 << 5):
        driver.put(n.STATUS, 0)
        for half in (0, 1):
            driver.put(n.DRIVER_FEATURES_SEL, half)
            driver.put(n.DRIVER_FEATURES, accepted >> 32 * half & 0xFFFF_FFFF)
        driver.put(n.STATUS, n.STATUS_ACKNOWLEDGE | n.STATUS_DRIVER | n.STATUS_FEATURES_OK)
        assert driver.get(n.STATUS) == n.STATUS_ACKNOWLEDGE | n.STATUS_DRIVER


def test_a_buffer_comes_back_filled() -> None:
    """The device fills the writable pieces, says how many bytes, and raises its line until it is acknowledged."""
    driver = Driver(RngDevice())
    pieces = driver.request([], [5, 40])
    assert driver.last_used() == (0, 45) and any(pieces[0]) and any(pieces[1])
    assert driver.levels[-1] and driver.get(n.INTERRUPT_STATUS) == n.INTERRUPT_USED
    filled = [piece for piece in driver.memory.dirty if piece[0] >= BUFFERS]
    assert filled == [(BUFFERS, 5), (BUFFERS + 16, 40)]
    assert {place for place, _ in driver.memory.dirty} == {USED, BUFFERS, BUFFERS + 16}
    driver.put(n.INTERRUPT_ACK, n.INTERRUPT_USED)
    assert not driver.levels[-1]


def test_the_same_bytes_in_every_run() -> None:
    """Two entropy devices give the same sequence, and no two buffers of one are the same."""
    one, other = Driver(RngDevice()), Driver(RngDevice())
    first = [one.request([], [64])[0] for _ in range(3)]
    assert first == [other.request([], [64])[0] for _ in range(3)] and len(set(first)) == 3


def test_a_huge_buffer_is_filled_in_part() -> None:
    """An entropy buffer of most of a megabyte gets 64 KiB: a notification's work is bounded."""
    driver = Driver(RngDevice())
    (piece,) = driver.request([], [RAM + SIZE - BUFFERS])
    assert driver.last_used() == (0, 64 << 10)
    assert any(piece[: 64 << 10]) and not any(piece[64 << 10 :])


def test_a_buffer_over_the_rings_is_filled_and_ends() -> None:
    """A driver that offers the memory of its rings loses what was in them, and only that."""
    driver = Driver(RngDevice())
    driver.descriptor(0, RAM, SIZE, n.DESC_F_WRITE)
    driver.offer(0)
    driver.put(n.QUEUE_NOTIFY, 0)
    assert any(driver.memory.read(DESC, 64)) and not any(driver.memory.read(BUFFERS, 64))


def test_indirect_descriptors() -> None:
    """A chain may stand in a table of its own, of any length up to 1024."""
    driver = Driver(RngDevice())
    table = b"".join(
        struct.pack("<QIHH", BUFFERS + 16 * i, 16, n.DESC_F_WRITE | (n.DESC_F_NEXT if i < 99 else 0), i + 1)
        for i in range(100)
    )
    driver.memory.write(BUFFERS + 0x8000, table)
    driver.descriptor(3, BUFFERS + 0x8000, len(table), n.DESC_F_INDIRECT)
    driver.offer(3)
    driver.put(n.QUEUE_NOTIFY, 0)
    assert driver.last_used() == (3, 1600)


def test_rings_wrap_around() -> None:
    """Indices run past the size of the ring and past 16 bits."""
    driver = Driver(RngDevice(), num=2)
    queue = driver.mmio.queues[0]
    queue.last_avail = queue.used_idx = queue.signalled = driver.avail[0] = 0xFFFE
    driver.memory.write(AVAIL + 2, struct.pack("<H", 0xFFFE))
    driver.memory.write(USED + 2, struct.pack("<H", 0xFFFE))
    driver.descriptor(0, BUFFERS, 8, n.DESC_F_WRITE)
    for expected in (0xFFFF, 0, 1, 2):
        driver.offer(0)
        driver.put(n.QUEUE_NOTIFY, 0)
        assert driver.used() == expected


def test_no_interrupt_flag() -> None:
    """Without EVENT_IDX the driver's flag suppresses the interrupt."""
    driver = Driver(RngDevice(), features=n.F_VERSION_1)
    driver.memory.write(AVAIL, struct.pack("<H", n.AVAIL_F_NO_INTERRUPT))
    driver.request([], [8])
    assert driver.get(n.INTERRUPT_STATUS) == 0


def test_event_index() -> None:
    """With EVENT_IDX the device interrupts when the used index passes the driver's mark, and sets its own."""
    driver = Driver(RngDevice())
    driver.memory.write(AVAIL + 4 + 2 * driver.num, struct.pack("<H", 1))
    driver.request([], [8])
    assert driver.get(n.INTERRUPT_STATUS) == 0
    driver.request([], [8])
    assert driver.get(n.INTERRUPT_STATUS) == n.INTERRUPT_USED
    assert driver.memory.read(USED + 4 + 8 * driver.num, 2) == struct.pack("<H", 2)


def test_reset_forgets_everything() -> None:
    """Writing 0 to the status disables queues and lowers the line; then the device can be set up anew."""
    driver = Driver(RngDevice())
    driver.request([], [8])
    driver.put(n.STATUS, 0)
    assert driver.get(n.QUEUE_READY) == 0 and driver.get(n.INTERRUPT_STATUS) == 0 and not driver.levels[-1]
    driver.set_up()
    driver.request([], [8])


def test_a_queue_in_use_cannot_be_moved() -> None:
    """Size and addresses of a ready queue do not change."""
    driver = Driver(RngDevice())
    driver.put(n.QUEUE_DESC, 0x1234_5670)
    driver.put(n.QUEUE_SIZE, 4)
    driver.request([], [8])
    assert driver.mmio.queues[0].desc == DESC and driver.mmio.queues[0].num == 16


@pytest.mark.parametrize(("size", "offset"), [(1, n.STATUS), (2, n.STATUS), (8, n.STATUS), (4, n.STATUS + 2)])
def test_registers_are_32_bits_wide(size: int, offset: int) -> None:
    """Another width, or a misaligned access, reads zero and changes nothing."""
    driver = Driver(RngDevice())
    status = driver.get(n.STATUS)
    assert driver.get(offset, size) == 0
    driver.put(offset, 0, size)
    assert driver.get(n.STATUS) == status


def test_registers_of_absent_things() -> None:
    """A queue that is not there has size 0; shared memory that is not there has a length of all ones."""
    driver = Driver(RngDevice())
    driver.put(n.QUEUE_SEL, 9)
    assert driver.get(n.QUEUE_SIZE_MAX) == 0 and driver.get(n.QUEUE_READY) == 0
    driver.put(n.QUEUE_READY, 1)
    driver.put(n.QUEUE_NOTIFY, 9)
    driver.put(n.DEVICE_FEATURES_SEL, 7)
    assert driver.get(n.DEVICE_FEATURES) == 0
    assert driver.get(n.SHM_LEN) == driver.get(n.SHM_BASE + 4) == 0xFFFF_FFFF
    assert driver.get(n.CONFIG + 0x500) == 0


def _loop(d: Driver) -> None:
    d.descriptor(0, BUFFERS, 8, n.DESC_F_NEXT, 0)


def _far_next(d: Driver) -> None:
    d.descriptor(0, BUFFERS, 8, n.DESC_F_NEXT, 16)


def _no_ram(d: Driver) -> None:
    d.descriptor(0, 0x1000, 8, n.DESC_F_WRITE)


def _past_ram(d: Driver) -> None:
    d.descriptor(0, RAM + SIZE - 4, 8, n.DESC_F_WRITE)


def _wraps(d: Driver) -> None:
    d.descriptor(0, (1 << 64) - 4, 0xFFFF_FFFF, n.DESC_F_WRITE)


def _read_after_write(d: Driver) -> None:
    d.descriptor(0, BUFFERS, 8, n.DESC_F_NEXT | n.DESC_F_WRITE, 1)
    d.descriptor(1, BUFFERS, 8)


def _indirect_odd(d: Driver) -> None:
    d.descriptor(0, BUFFERS, 17, n.DESC_F_INDIRECT)


def _indirect_empty(d: Driver) -> None:
    d.descriptor(0, BUFFERS, 0, n.DESC_F_INDIRECT)


def _indirect_with_next(d: Driver) -> None:
    d.descriptor(0, BUFFERS, 16, n.DESC_F_INDIRECT | n.DESC_F_NEXT, 1)


def _indirect_twice(d: Driver) -> None:
    d.memory.write(BUFFERS, struct.pack("<QIHH", BUFFERS, 16, n.DESC_F_INDIRECT, 0))
    d.descriptor(0, BUFFERS, 16, n.DESC_F_INDIRECT)


def _indirect_nowhere(d: Driver) -> None:
    d.descriptor(0, 0, 16, n.DESC_F_INDIRECT)


def _indirect_far_next(d: Driver) -> None:
    d.memory.write(BUFFERS, struct.pack("<QIHH", BUFFERS, 16, n.DESC_F_NEXT, 1))
    d.descriptor(0, BUFFERS, 16, n.DESC_F_INDIRECT)


@pytest.mark.parametrize(
    "spoil",
    [
        _loop, _far_next, _no_ram, _past_ram, _wraps, _read_after_write, _indirect_odd, _indirect_empty,
        _indirect_with_next, _indirect_twice, _indirect_nowhere, _indirect_far_next,
    ],
)  # fmt: skip
def test_a_malformed_chain_needs_a_reset(spoil: Callable[[Driver], None]) -> None:
    """The device stops, says NEEDS_RESET with a configuration interrupt, and works again after a reset."""
    driver = Driver(RngDevice())
    spoil(driver)
    driver.offer(0)
    driver.put(n.QUEUE_NOTIFY, 0)
    assert driver.needs_reset and driver.used() == 0 and driver.mmio.failure.startswith("rng: queue 0")
    assert driver.get(n.INTERRUPT_STATUS) == n.INTERRUPT_CONFIG and driver.levels[-1]
    driver.put(n.QUEUE_NOTIFY, 0)
    driver.set_up()
    driver.request([], [8])


def test_indirect_without_the_feature_needs_a_reset() -> None:
    """A driver that did not accept INDIRECT_DESC must not use it."""
    driver = Driver(RngDevice(), features=n.F_VERSION_1)
    driver.descriptor(0, BUFFERS, 16, n.DESC_F_INDIRECT)
    driver.offer(0)
    driver.put(n.QUEUE_NOTIFY, 0)
    assert driver.needs_reset


@pytest.mark.parametrize("head", [16, 0xFFFF])
def test_a_head_outside_the_table_needs_a_reset(head: int) -> None:
    """The available ring names a descriptor that is not there."""
    driver = Driver(RngDevice())
    driver.offer(head)
    driver.put(n.QUEUE_NOTIFY, 0)
    assert driver.needs_reset


def test_an_available_index_that_jumps_needs_a_reset() -> None:
    """More buffers than the ring has places cannot be available."""
    driver = Driver(RngDevice())
    driver.memory.write(AVAIL + 2, struct.pack("<H", 17))
    driver.put(n.QUEUE_NOTIFY, 0)
    assert driver.needs_reset


@pytest.mark.parametrize(
    ("register", "value"),
    [
        (n.QUEUE_SIZE, 0), (n.QUEUE_SIZE, 3), (n.QUEUE_SIZE, 128), (n.QUEUE_SIZE, 1 << 31),
        (n.QUEUE_DESC, RAM + 8), (n.QUEUE_DRIVER, RAM + 1), (n.QUEUE_DEVICE, RAM + 2),
        (n.QUEUE_DESC, 0), (n.QUEUE_DRIVER + 4, 1), (n.QUEUE_DEVICE, RAM + SIZE - 16),
    ],
)  # fmt: skip
def test_a_queue_that_cannot_be_needs_a_reset(register: int, value: int) -> None:
    """A size that is not a power of two, misaligned rings, and rings outside RAM are refused when enabled."""
    driver = Driver(RngDevice())
    driver.put(n.QUEUE_READY, 0)
    for place, base in ((n.QUEUE_DESC, DESC), (n.QUEUE_DRIVER, AVAIL), (n.QUEUE_DEVICE, USED)):
        driver.put(place, base)
    driver.put(register, value)
    driver.put(n.QUEUE_READY, 1)
    assert driver.needs_reset and driver.get(n.QUEUE_READY) == 0
    driver.put(n.QUEUE_NOTIFY, 0)


def test_notifications_before_the_driver_is_ready_do_nothing() -> None:
    """A device does not touch its queues before DRIVER_OK, and serves them when it comes."""
    driver = Driver(RngDevice())
    driver.put(n.STATUS, 0)
    driver.put(n.STATUS, n.STATUS_ACKNOWLEDGE | n.STATUS_DRIVER)
    driver.set_up_queue(0)
    driver.chain([], [8])
    driver.offer(0)
    driver.put(n.QUEUE_NOTIFY, 0)
    assert driver.used() == 0
    driver.put(n.STATUS, n.STATUS_DRIVER_OK)
    assert driver.used() == 1


def test_a_span_is_consumed_from_the_front() -> None:
    """Reads and writes cross pieces; a tail can be split off; the end gives fewer bytes."""
    pieces = [bytearray(b"abc"), bytearray(b"defg"), bytearray(b"h")]
    span = Span([memoryview(p) for p in pieces])
    tail = span.cut_tail(2)
    assert len(span) == 6 and span.read(4) == b"abcd" and span.write(b"XYZ") == 2
    assert tail.read(9) == b"gh" and pieces[1] == b"dXYg" and len(span) == len(tail) == 0
