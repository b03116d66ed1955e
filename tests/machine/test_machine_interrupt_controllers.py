"""CLINT and PLIC."""

from __future__ import annotations

import pytest
from machine_fakes import FakeHart

from trapline.lang.control import ATTENTION_LEAVE, EXIT_TIMER
from trapline.lang.devices import DeviceState
from trapline.machine.devices.clint import MTIME, MTIMECMP, Clint, advance, time_of
from trapline.machine.devices.plic import CONTEXT, ENABLE, PENDING, Plic
from trapline.privilege.fields import MEIP, MSIP, MTIP, SEIP


def test_msip_drives_the_right_hart() -> None:
    """A software interrupt sets MSIP of its hart only, and clears again."""
    harts = [FakeHart(), FakeHart()]
    clint = Clint(harts, DeviceState())
    clint.store(harts[0], 4, 4, 0xFFFF_FFFF)
    assert (int(harts[0].mip), int(harts[1].mip)) == (0, MSIP)
    assert clint.load(harts[0], 4, 4) == 1
    clint.store(harts[0], 4, 4, 0)
    assert int(harts[1].mip) == 0


def test_mtime_is_the_time_of_the_reading_hart() -> None:
    """mtime follows instret and the offset; 32-bit halves read the same number."""
    hart = FakeHart()
    clint = Clint([hart], DeviceState())
    hart.instret = 12345
    hart.time_offset = 1 << 32
    assert clint.load(hart, MTIME, 8) == (1 << 32) + 123
    assert clint.load(hart, MTIME, 4) == 123
    assert clint.load(hart, MTIME + 4, 4) == 1


def test_writing_mtime_moves_time() -> None:
    """A write to mtime sets the time of every hart by the same change."""
    harts = [FakeHart(), FakeHart()]
    harts[1].instret = 500
    clint = Clint(harts, DeviceState())
    clint.store(harts[0], MTIME, 8, 1000)
    assert [time_of(h) for h in harts] == [1000, 1005]


def test_mtimecmp_in_two_halves() -> None:
    """Two 32-bit stores make one comparator; a store by its hart makes the engine look at the deadline."""
    hart = FakeHart()
    clint = Clint([hart], DeviceState())
    clint.store(hart, MTIMECMP + 4, 4, 0)
    clint.store(hart, MTIMECMP, 4, 10)
    assert clint.mtimecmp == [10]
    assert int(hart.exit_reason) == EXIT_TIMER
    assert int(hart.attention) & ATTENTION_LEAVE
    clint.tick(0)
    assert int(hart.mip) == 0
    advance(hart, 10)
    clint.tick(0)
    assert int(hart.mip) == MTIP


def _plic(hart: FakeHart) -> Plic:
    plic = Plic([hart], DeviceState(), 32)
    for source, priority in ((5, 1), (10, 3)):
        plic.store(hart, 4 * source, 4, priority)
    plic.store(hart, ENABLE + 0x80, 4, 1 << 5 | 1 << 10 | 1)
    return plic


CLAIM = CONTEXT + 0x1000 + 4


def test_plic_claims_by_priority_and_completes() -> None:
    """The S context claims the higher priority first, each source once."""
    hart = FakeHart()
    plic = _plic(hart)
    plic.set_level(5, True)
    plic.set_level(10, True)
    assert int(hart.mip) == SEIP
    assert plic.load(hart, PENDING, 4) == 1 << 5 | 1 << 10
    assert [plic.load(hart, CLAIM, 4) for _ in range(3)] == [10, 5, 0]
    assert int(hart.mip) == 0


@pytest.mark.parametrize(
    ("while_claimed", "again"),
    [((), False), ((True,), True), ((False, True), True), ((True, False), False), ((False,), False)],
)
def test_plic_gateway_forwards_what_was_asked_while_claimed(while_claimed: tuple[bool, ...], again: bool) -> None:
    """At completion a source is pending again if its device drove the line meanwhile, and has not let it fall since."""
    hart = FakeHart()
    plic = _plic(hart)
    plic.set_level(10, True)
    assert plic.load(hart, CLAIM, 4) == 10
    for level in while_claimed:
        plic.set_level(10, level)
    assert (plic.load(hart, PENDING, 4), int(hart.mip)) == (0, 0)
    plic.store(hart, CLAIM, 4, 10)
    assert (plic.load(hart, PENDING, 4) >> 10, int(hart.mip)) == (again, SEIP * again)


def test_plic_takes_no_request_back() -> None:
    """A source whose line falls before it is claimed stays pending (PLIC 1.0, interrupt gateways)."""
    hart = FakeHart()
    plic = _plic(hart)
    plic.set_level(10, True)
    plic.set_level(10, False)
    assert plic.load(hart, CLAIM, 4) == 10


def test_plic_completion_of_a_source_that_is_not_enabled_is_ignored() -> None:
    """Another context, or a source that does not exist, completes nothing."""
    hart = FakeHart()
    plic = _plic(hart)
    plic.set_level(10, True)
    assert plic.load(hart, CLAIM, 4) == 10
    plic.set_level(10, True)
    for claim, source in ((CONTEXT + 4, 10), (CLAIM, 31), (CLAIM, 4096), (CLAIM, 0)):
        plic.store(hart, claim, 4, source)
        assert plic.load(hart, PENDING, 4) == 0


def test_plic_threshold_masks() -> None:
    """A priority not above the threshold does not interrupt."""
    hart = FakeHart()
    plic = _plic(hart)
    plic.store(hart, CONTEXT + 0x1000, 4, 3)
    plic.set_level(10, True)
    assert int(hart.mip) == 0
    plic.store(hart, CONTEXT + 0x1000, 4, 2)
    assert int(hart.mip) == SEIP


def test_plic_machine_context_is_meip() -> None:
    """Context 0 drives MEIP; source 0 cannot be enabled."""
    hart = FakeHart()
    plic = _plic(hart)
    plic.store(hart, ENABLE, 4, 0xFFFF_FFFF)
    assert plic.load(hart, ENABLE, 4) == 0xFFFF_FFFE
    plic.set_level(10, True)
    assert int(hart.mip) == SEIP | MEIP


def test_plic_ignores_what_does_not_exist() -> None:
    """Contexts and sources beyond the last read as zero."""
    hart = FakeHart()
    plic = _plic(hart)
    plic.store(hart, CONTEXT + 0x9000, 4, 1)
    assert plic.load(hart, CONTEXT + 0x9004, 4) == 0
    assert plic.load(hart, 4 * 200, 4) == 0
    plic.store(hart, ENABLE + 4, 4, 0xFFFF_FFFF)
    assert plic.load(hart, ENABLE + 4, 4) == 0
    assert plic.load(hart, ENABLE, 8) == plic.load(hart, PENDING + 0x800, 4) == 0
