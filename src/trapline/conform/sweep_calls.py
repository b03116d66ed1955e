"""Sweeps over SBI calls: every extension and function, with good, bad and absent arguments, from one vCPU."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from trapline.conform.sweep import NO_SLOT, NONE, RAM, RAM_SIZE, SCRATCH, Item, Sweep
from trapline.lab.probe import image as probe
from trapline.sbi.numbers import EXPERIMENTAL, FIRMWARE_SPECIFIC, VENDOR, Eid

ALL = (1 << 64) - 1
CALL = "  ecall\n  jr ra\n"
# Indexes of KVM's SBI extensions (enum KVM_RISCV_SBI_EXT_ID) that are off until the VMM enables them.
DBCN, SUSP, MPXY = 9, 11, 13
OFF = (DBCN, SUSP, MPXY)
_FENCE_FUNCTIONS, _PMU_FUNCTIONS = 8, 12
# Addresses of every kind of memory, for calls that take one.
PLACES = {
    "RAM": SCRATCH,
    "misaligned RAM": SCRATCH + 1,
    "the end of RAM": RAM + RAM_SIZE - 64,
    "across the end of RAM": RAM + RAM_SIZE - 8,
    "a read-only slot": probe.READ_ONLY,
    "a slot's hole": probe.HOLE,
    "memory that the VMM may not touch": NONE,
    "no slot": NO_SLOT,
    "the top of the address space": ALL & ~63,
}
_KNOWN = [Eid.BASE, Eid.TIME, Eid.IPI, Eid.RFENCE, Eid.HSM, Eid.SRST, Eid.PMU, Eid.DBCN, Eid.SUSP, Eid.CPPC, Eid.NACL,
          Eid.STA, Eid.SSE, Eid.FWFT, Eid.DBTR, Eid.MPXY]  # fmt: skip
_NAMES = {int(e): e.name for e in Eid}
_RANGES = [
    *EXPERIMENTAL, EXPERIMENTAL[0] - 1, EXPERIMENTAL[1] + 1, *VENDOR, VENDOR[1] + 1, *FIRMWARE_SPECIFIC,
    9, 0xF, 0x11, 0x3141_5926, ALL, 1 << 63, 1 << 32 | Eid.BASE, 1 << 32 | Eid.TIME,
]  # fmt: skip


def call(name: str, eid: int, fid: int = 0, *args: int, varies: frozenset[str] = frozenset()) -> Item:
    """Return an item that makes one SBI call."""
    return Item(name, "call", (*args, *[0] * (6 - len(args)), fid & ALL, eid & ALL), varies=varies)


def _title(eid: int) -> str:
    return _NAMES.get(eid, f"{eid:#x}")


def _everything() -> Iterator[Item]:
    """Every extension and function, without arguments and with absurd ones."""
    ends: dict[int, tuple[int, ...]] = {Eid.HSM: (1, 3), Eid.SRST: (0,)}  # functions that end or halt the guest
    for eid in [*range(9), *_KNOWN, *_RANGES]:
        for fid in [*range(13), 0x7FFF_FFFF, 0xFFFF_FFFF, ALL, 1 << 32]:
            for args, how in (((), "zeros"), ((ALL,) * 6, "all ones")):
                if how == "zeros" and fid & 0xFFFF_FFFF in ends.get(eid, ()):
                    continue
                yield call(f"{_title(eid)} function {fid:#x}, {how}", eid, fid, *args)


def _base() -> Iterator[Item]:
    for eid in [*range(9), *_KNOWN, *_RANGES]:
        yield call(f"BASE probe_extension {_title(eid)}", Eid.BASE, 3, eid)


_MASKS = [
    (0, 0), (1, 0), (2, 0), (3, 0), (0xFF, 0), (1, 7), (0, 7), (0, ALL), (ALL, ALL), (1, ALL - 1), (4, ALL - 1),
    (1 << 63, 0), (1, 63), (2, 63), (1, 64), (1, 1 << 63), (ALL, 0),
]  # fmt: skip


def _masks() -> Iterator[Item]:
    """Masks and bases of harts: absent ones, all, sums that wrap."""
    for mask, base in _MASKS:
        yield call(f"IPI mask {mask:#x} base {base:#x}", Eid.IPI, 0, mask, base)
        for fid in range(_FENCE_FUNCTIONS):
            yield call(f"RFENCE {fid} mask {mask:#x} base {base:#x}", Eid.RFENCE, fid, mask, base)
    for fid in range(_FENCE_FUNCTIONS):
        for start, size in ((0x1000, 0x1000), (0x1001, 3), (ALL & ~0xFFF, 0x3000), (0x1000, ALL), (0, ALL), (ALL, ALL)):
            for tag in (0, 1, 0xFFFF, ALL):
                name = f"RFENCE {fid} range {start:#x} size {size:#x} tag {tag:#x}"
                yield call(name, Eid.RFENCE, fid, 1, 0, start, size, tag)


def _hsm() -> Iterator[Item]:
    for hart in (0, 1, 2, 77, 1 << 32, ALL, 1 << 63):
        yield call(f"HSM hart_get_status {hart:#x}", Eid.HSM, 2, hart)
        for where, address in PLACES.items():
            yield call(f"HSM hart_start {hart:#x} at {where}", Eid.HSM, 0, hart, address, 0x1234)
    kinds = (1, 0xFFF_FFFF, 0x1000_0000, 0x7FFF_FFFF, 0x8000_0000, 0x8000_0001, 0x9000_0000, 0xFFFF_FFFF,
             ALL << 31 & ALL, 1 << 32 | 1, 1 << 32 | 1 << 31)  # fmt: skip
    for kind in kinds:
        yield call(f"HSM hart_suspend type {kind:#x}", Eid.HSM, 3, kind, SCRATCH, 0)
    yield Item("HSM hart_suspend, retentive, an interrupt pending", "suspend-pending", (0, 0, 0, 0, 0, 0, 3, Eid.HSM))
    for fid in (3, 1):
        yield call(f"HSM function {fid}: nothing wakes the hart", Eid.HSM, fid)
    yield call("HSM hart_get_status of the caller, afterwards", Eid.HSM, 2, 0)


def _system() -> Iterator[Item]:
    for kind in (3, 7, 0x7FFF_FFFF, 0xF000_0000, ALL, 1 << 32 | 7):
        for reason in (0, 1, 99, ALL):
            yield call(f"SRST type {kind:#x} reason {reason:#x}", Eid.SRST, 0, kind, reason)
    for kind, reason in ((0, 0), (1, 1), (2, 0xE000_0000), (0, ALL), (1 << 32, 1 << 32 | 1)):
        yield call(f"SRST type {kind:#x} reason {reason:#x}, a system event", Eid.SRST, 0, kind, reason)
    yield call("SHUTDOWN of v0.1", Eid.SHUTDOWN)
    for value in (0, ALL, 1 << 63):
        yield call(f"TIME set_timer {value:#x}", Eid.TIME, 0, value)
        yield call(f"SET_TIMER of v0.1 {value:#x}", Eid.SET_TIMER, 0, value)
    yield call("TIME set_timer never", Eid.TIME, 0, ALL)
    for where, address in PLACES.items():
        for eid in (Eid.SEND_IPI, Eid.REMOTE_FENCE_I, Eid.REMOTE_SFENCE_VMA, Eid.REMOTE_SFENCE_VMA_ASID):
            yield call(f"{eid.name} of v0.1, mask in {where}", eid, 0, address, 0x1000, 0x1000, 1)
        for fid in range(3):
            yield call(f"DBCN {fid}, 16 bytes in {where}", Eid.DBCN, fid, 16, address, 0)
        for kind in (1, 0, 1 << 32):
            yield call(f"SUSP type {kind:#x} at {where}", Eid.SUSP, 0, kind, address, 5)


def _shared_memory() -> Iterator[Item]:
    for where, address in PLACES.items():
        for high in (0, 1):
            for flags in (0, 1):
                name = f"in {where}, upper half {high}, flags {flags}"
                yield call(f"STA set_shmem {name}", Eid.STA, 0, address & ~63, high, flags)
                yield call(f"PMU snapshot_set_shmem {name}", Eid.PMU, 7, address & ~0xFFF, high, flags)
        yield call(f"STA set_shmem, exactly {where}", Eid.STA, 0, address)
        yield call(f"PMU snapshot_set_shmem, exactly {where}", Eid.PMU, 7, address)
        for count in (0, 1, 2, ALL >> 4, ALL):
            yield call(f"PMU event_get_info {count:#x} in {where}", Eid.PMU, 8, address, 0, count, 0)
        yield call(f"PMU event_get_info in {where}, upper half", Eid.PMU, 8, address, 1, 1, 0)
        yield call(f"PMU event_get_info in {where}, flags", Eid.PMU, 8, address, 0, 1, 1)
    yield call("STA set_shmem off", Eid.STA, 0, ALL, ALL)
    yield call("PMU snapshot_set_shmem off", Eid.PMU, 7, ALL, ALL)


def _features() -> Iterator[Item]:
    for number in [*range(8), 0x7FFF_FFFF, 0x8000_0000, 0xC000_0000, 0xFFFF_FFFF, 1 << 32, ALL]:
        yield call(f"FWFT get {number:#x}", Eid.FWFT, 1, number)
        for value in (0, 1, 2, 7, ALL):
            for flags in (0, 2, ALL):
                yield call(f"FWFT set {number:#x} = {value:#x}, flags {flags:#x}", Eid.FWFT, 0, number, value, flags)
        yield call(f"FWFT set {number:#x} = 0", Eid.FWFT, 0, number, 0, 0)
        yield call(f"FWFT set {number:#x} = 2 and lock", Eid.FWFT, 0, number, 2, 1)
        yield call(f"FWFT set {number:#x} = 0 after a lock that failed", Eid.FWFT, 0, number, 0, 0)
        yield call(f"FWFT set {number:#x} = 0 and lock", Eid.FWFT, 0, number, 0, 1)
        yield call(f"FWFT set {number:#x} = 1 after a lock", Eid.FWFT, 0, number, 1, 0)
        yield call(f"FWFT get {number:#x} after all", Eid.FWFT, 1, number)


_CODE: dict[str, str | bytes] = {
    "call": CALL,
    "suspend-pending": """
  li t0, 2
  csrs sie, t0
  csrs sip, t0
  ecall
  li t0, 2
  csrc sip, t0
  csrw sie, zero
  jr ra
""",
}


def calls(on: Iterable[int] = ()) -> Sweep:
    """Every call; `on` are extensions that the VMM enables."""
    items = [*_everything(), *_base(), *_masks(), *_hsm(), *_system(), *_shared_memory(), *_features()]
    name, text = ("sbi-on", "SBI calls, all extensions enabled") if on else ("sbi", "SBI calls of every extension")
    return Sweep(name, text, tuple(items), _CODE, tuple(on))


def sweeps() -> list[Sweep]:
    """Return the sweeps of this file."""
    return [calls(), calls(OFF)]
