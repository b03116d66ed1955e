"""A sweep over the guest's counters: SBI PMU with events of every kind, their counters and snapshots."""

from __future__ import annotations

from collections.abc import Iterator

from trapline.conform.sweep import CONTROL, LATE, LATE_SLOT, SCRATCH, SET_SIP, TAKE_AWAY, Item, Sweep
from trapline.conform.sweep_calls import ALL, CALL, PLACES, call
from trapline.sbi import numbers
from trapline.sbi.numbers import Eid

CONFIG, START, STOP, READ, SNAPSHOT = 2, 3, 4, 5, 7
SKIP, CLEAR, AUTO, SINH = numbers.SKIP_MATCH, numbers.CLEAR_VALUE, numbers.AUTO_START, numbers.SET_SINH
INIT, FROM_SNAPSHOT = numbers.SET_INIT_VALUE, numbers.INIT_SNAPSHOT
RESET, TAKE = numbers.STOP_RESET, numbers.TAKE_SNAPSHOT
CYCLES, INSTRUCTIONS, FIRMWARE_EVENT = 1, 2, 15 << 16
FIRST = 32  # the first counter of the firmware: the host has cycle, instret and 29 others
LAST = FIRST + 21
EVERY = (1 << LAST + 1) - 1
EVENTS = [
    *range(13), 0xFFFF, *(1 << 16 | n for n in (0, 1, 8, 0x19, 0x1B, 0x21, 0x3F, 0xFFFF)),
    2 << 16, 3 << 16, 4 << 16, 14 << 16,
    *(FIRMWARE_EVENT | n for n in (*range(24), 255, 256, 0xFFFE, 0xFFFF)), 1 << 20, ALL,
]  # fmt: skip
_ANY = frozenset(("a1",))

_CODE: dict[str, str | bytes] = {
    "call": CALL,
    # Calls a0's timer function a1 times, then reads counter a2.
    "timers": f"""
  mv s4, a1
  mv s5, a2
1:li a0, -1
  li a6, 0
  li a7, {Eid.TIME:#x}
  ecall
  addi s4, s4, -1
  bnez s4, 1b
  mv a0, s5
  li a6, {READ}
  li a7, {Eid.PMU:#x}
  ecall
  jr ra
""",
    # A loop, then two readings: a0 is whether the second is larger by half or more.
    "twice": """
  li t0, 20000
1:addi t0, t0, -1
  bnez t0, 1b
  csrr t1, cycle
  csrr t2, cycle
  srli t3, t1, 1
  add t3, t3, t1
  sltu a0, t3, t2
  li a1, 0
  jr ra
""",
    # Whether the counter of `instret` moves while a loop runs.
    "moves": """
  csrr t1, instret
  li t0, 1000
1:addi t0, t0, -1
  bnez t0, 1b
  csrr t2, instret
  sub t2, t2, t1
  sltiu a0, t2, 1000
  li a1, 0
  jr ra
""",
    "peek": "  ld a1, 0(a0)\n  jr ra\n",
    "poke": "  sd a1, 0(a0)\n  jr ra\n",
    "csr": "  csrr a0, sip\n  jr ra\n",
}


def _pmu(name: str, fid: int, *args: int, varies: frozenset[str] = frozenset()) -> Item:
    return call(f"PMU {name}", Eid.PMU, fid, *args, varies=varies)


def _reset(base: int = 0, mask: int = EVERY & ~2) -> Item:
    return _pmu(f"stop and reset of {base:#x}, {mask:#x}", STOP, base, mask, RESET)


def _counters() -> Iterator[Item]:
    yield _pmu("num_counters", 0)
    for n in (*range(LAST + 2), 63, 64, 65, 1 << 32, ALL):
        yield _pmu(f"counter_get_info {n:#x}", 1, n)
    for n in (0, 1, 2, 3, FIRST, LAST, LAST + 1, 63, 64, ALL):
        yield _pmu(f"fw_read of {n:#x}, not configured", READ, n)
        yield _pmu(f"fw_read_hi of {n:#x}, not configured", 6, n)


_SETS = [(0, 1), (0, 2), (0, 4), (FIRST, 1), (FIRST, 7), (0, EVERY), (0, 1 << LAST + 1), (0, 0), (3, 1), (LAST, 1),
         (LAST + 1, 1), (1, 1), (ALL, 1), (ALL, 2), (ALL - 1, 4), (1 << 63, 1), (0, ALL)]  # fmt: skip


def _configure() -> Iterator[Item]:
    for event in EVENTS:
        for base, mask in ((0, EVERY), (3, 1), (FIRST, 1), (0, 1)):
            for flags in (0, SKIP, CLEAR | AUTO, 0xFF & ~SKIP):
                name = f"config_matching {event:#x} in {base:#x}, {mask:#x}, flags {flags:#x}"
                yield _pmu(name, CONFIG, base, mask, flags, event, 0)
            yield _reset()
    for base, mask in _SETS:
        for event in (CYCLES, FIRMWARE_EVENT | 5):
            yield _pmu(f"config_matching {event:#x} in {base:#x}, {mask:#x}", CONFIG, base, mask, 0, event, 0)
        for fid, what in ((START, "start"), (STOP, "stop")):
            for flags in (0, INIT, 2, 4, ALL):
                yield _pmu(f"{what} of {base:#x}, {mask:#x}, flags {flags:#x}", fid, base, mask, flags, 7)
        yield _reset()


def _firmware() -> Iterator[Item]:
    """A firmware counter from its start to its reset, its value at each step."""
    event = FIRMWARE_EVENT | 5  # set_timer
    yield _pmu("config_matching set_timer", CONFIG, FIRST, 1, 0, event)
    yield _pmu("fw_read before its start", READ, FIRST)
    yield _pmu("start at 100", START, FIRST, 1, INIT, 100)
    yield _pmu("start again", START, FIRST, 1, INIT, 100)
    yield Item("three timers, and the counter", "timers", (0, 3, FIRST))
    yield _pmu("stop", STOP, FIRST, 1)
    yield _pmu("stop again", STOP, FIRST, 1)
    yield Item("a timer while it is stopped", "timers", (0, 1, FIRST))
    yield _pmu("start without a value", START, FIRST, 1)
    yield _pmu("fw_read after that", READ, FIRST)
    yield Item("two timers, unread", "timers", (0, 2, FIRST))
    yield call("TIME set_timer, unread", Eid.TIME, 0, ALL)
    yield _pmu("stop after an unread event", STOP, FIRST, 1)
    yield _pmu("start after an unread event", START, FIRST, 1)
    yield _pmu("fw_read: the unread event counts", READ, FIRST)
    yield _pmu("fw_read_hi", 6, FIRST)
    yield _pmu("a second counter of the same event", CONFIG, FIRST + 1, 1, AUTO, event)
    yield Item("a timer, and the second counter", "timers", (0, 1, FIRST + 1))
    yield _reset()
    for code in range(22):
        yield _pmu(f"config_matching firmware event {code}, started", CONFIG, FIRST, 1, AUTO, FIRMWARE_EVENT | code)
        yield _pmu(f"counter_get_info 0x40 while firmware event {code} is counted", 1, 64)
        yield call("one IPI", Eid.IPI, 0, 1, 0)
        for fid in range(7):
            yield call(f"RFENCE {fid}", Eid.RFENCE, fid, 1, 0)
        yield call("TIME set_timer never", Eid.TIME, 0, ALL)
        yield _pmu(f"fw_read of firmware event {code}", READ, FIRST)
        yield _reset()


def _hardware() -> Iterator[Item]:
    for event, number in ((CYCLES, 0), (INSTRUCTIONS, 2)):
        yield _pmu(f"config_matching {event}", CONFIG, 0, 7, CLEAR, event)
        yield _pmu(f"start of counter {number}", START, number, 1, INIT, 0)
        yield _pmu(f"fw_read of hardware counter {number}", READ, number, varies=_ANY)
    yield Item("cycle read twice", "twice")
    yield Item("instret moves", "moves")
    yield _pmu("stop of both", STOP, 0, 5)
    yield _pmu("stop of both again", STOP, 0, 5)
    yield _pmu("start of both", START, 0, 5)
    yield Item("cycle read twice after a new start", "twice")
    yield _pmu("config_matching without VS-mode", CONFIG, 0, 4, CLEAR | SINH | AUTO, INSTRUCTIONS)
    yield Item("instret without VS-mode", "moves")
    yield _reset()
    yield Item("cycle after a reset", "twice")


def _snapshots() -> Iterator[Item]:
    yield _pmu("stop with a snapshot, no memory", STOP, 0, 1, TAKE)
    yield _pmu("start from a snapshot, no memory", START, 0, 1, FROM_SNAPSHOT)
    for where, address in PLACES.items():
        yield _pmu(f"snapshot memory in {where}", SNAPSHOT, address & ~0xFFF, 0, 0)
    at = SCRATCH + 0x4000
    yield _pmu("snapshot memory", SNAPSHOT, at, 0, 0)
    yield _pmu("config_matching set_timer", CONFIG, FIRST, 1, 0, FIRMWARE_EVENT | 5)
    yield Item("a value in the snapshot", "poke", (at + 8, 40))
    yield _pmu("start from the snapshot", START, FIRST, 1, FROM_SNAPSHOT)
    yield Item("two timers after the snapshot", "timers", (0, 2, FIRST))
    yield call("TIME set_timer, unread", Eid.TIME, 0, ALL)
    yield _pmu("stop with a snapshot", STOP, FIRST, 1, TAKE)
    yield Item("the value in the snapshot", "peek", (at + 8,))
    yield Item("the mask in the snapshot", "peek", (at,))
    yield _pmu("start again after the snapshot", START, FIRST, 1)
    yield _pmu("stop and reset with a snapshot", STOP, FIRST, 1, TAKE | RESET)
    yield Item("the value in the last snapshot", "peek", (at + 8,))
    yield _pmu("snapshot memory that will go", SNAPSHOT, LATE, 0, 0)
    yield _pmu("config_matching set_timer", CONFIG, FIRST, 1, 0, FIRMWARE_EVENT | 5)
    yield _pmu("start", START, FIRST, 1, INIT, 5)
    yield Item("the VMM takes the memory away", "poke", (CONTROL, LATE_SLOT << 8 | TAKE_AWAY))
    yield _pmu("stop with a snapshot that cannot be written", STOP, FIRST, 1, TAKE)
    yield _pmu("start from a snapshot that cannot be read", START, FIRST, 1, FROM_SNAPSHOT)
    yield _pmu("snapshot memory off", SNAPSHOT, ALL, ALL, 0)
    yield _reset()


def _pending() -> Iterator[Item]:
    """What of sip the VMM can set, and what the guest sees of it."""
    yield Item("the VMM sets all of sip", "poke", (CONTROL, SET_SIP))
    yield Item("sip as the guest sees it", "csr")
    yield Item("the VMM clears sip", "poke", (CONTROL, 1 << 8 | SET_SIP))
    yield Item("sip afterwards", "csr")


def counters() -> Sweep:
    """Everything about the guest's counters."""
    items = (*_counters(), *_configure(), *_firmware(), *_hardware(), *_snapshots(), *_pending())
    return Sweep("pmu", "SBI PMU, counters and their snapshots", items, _CODE)
