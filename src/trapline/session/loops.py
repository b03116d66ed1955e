"""Harts that get nowhere: the same trap, raised by the same instruction, with the same registers, again and again.

Nothing watches for this while a machine runs. When a run is over, and everything about it is written down, each
hart goes on for a moment, one instruction at a time, out of reach of the devices; then it is put back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from trapline.dataclass import dataclass
from trapline.engine.api import Engine
from trapline.lang.control import EXIT_LIMIT
from trapline.lang.state import Hart
from trapline.lang.state.words import LAYOUT
from trapline.plain import plain
from trapline.privilege.causes import INTERRUPT, LOAD_MISALIGNED, STORE_MISALIGNED, cause_name
from trapline.privilege.fields import HSTATUS_GVA, HSTATUS_SPVP, MSTATUS_GVA, MSTATUS_SPP
from trapline.privilege.modes import DESTINATION_NAMES, MACHINE, MODE_NAMES, SUPERVISOR, TO_HS, TO_M, TO_VS, USER
from trapline.session.fault_reason import MISALIGNED_REMEDY, fault_reason
from trapline.session.observe.trap_counts import counted, trap_at

_ATTEMPTS = {True: 6_000, False: 1_200}  # by whether the engine is fast
_GLANCE = {True: 3_000, False: 300}
_TIMES = 4  # as often must the same trap be seen with the same registers
_REGISTERS = (
    *("x", "f", "fflags", "frm", "pc", "priv", "virt", "mstatus", "mtvec", "mepc", "mcause", "mtval", "mscratch"),
    *("stvec", "sepc", "scause", "stval", "sscratch", "satp", "hstatus", "hgatp", "medeleg", "hedeleg"),
    *("vsstatus", "vstvec", "vsepc", "vscause", "vstval", "vsscratch", "vsatp", "menvcfg", "henvcfg"),
)
_SPANS = [(f.index, f.index + f.count) for f in (LAYOUT.fields[name] for name in _REGISTERS)]
_OWN = [(f.index, f.index + f.count) for f in LAYOUT.fields.values() if not f.host]


@dataclass(frozen=True, slots=True)
class Loop:
    """What a hart repeats: `cause` raised at `pc` in mode `origin`, taken to `destination`; and why, in words."""

    hart: int
    cause: int
    pc: int
    tval: int
    who: str  # the hart or vCPU, by number
    origin: str
    destination: str
    reason: str

    def describe(self) -> str:
        """Return it in one line."""
        way = f"{cause_name(self.cause)} from {self.origin} to {self.destination}"
        return f"{self.who} loops at pc {self.pc:#x} with {way}: {self.reason}"

    def as_data(self) -> dict[str, Any]:
        return {**plain(self, "hart cause pc tval from=origin to=destination reason"), "name": cause_name(self.cause)}


def loops(harts: Sequence[Hart], engine: Engine, noun: str = "hart") -> tuple[Loop, ...]:
    """Return what each hart repeats for ever, if it does; the run is over, and nobody looks at memory any more."""
    found = ((number, loop_of(hart, engine) or _at_its_own_handler(hart)) for number, hart in enumerate(harts))
    return tuple(_describe(harts[number], f"{noun} {number}", number, trap) for number, trap in found if trap)


@dataclass(frozen=True, slots=True)
class _Taken:
    """A trap that was taken, and the mode of fetches and of loads and stores in front of it."""

    cause: int
    epc: int
    tval: int
    gpa: int
    mode: tuple[int, int]
    data: tuple[int, int]
    destination: int
    registers: bytes


class _DeviceTouched(Exception):
    """The hart reached a device."""


class _Untouchable:
    """In a device's place."""

    def load(self, *_: Any) -> int:
        raise _DeviceTouched

    def store(self, *_: Any) -> None:
        raise _DeviceTouched


def loop_of(hart: Hart, engine: Engine) -> _Taken | None:
    """Return the trap that a hart takes again and again, or None; the hart's registers stay as they are."""
    fast = engine.turn > _ATTEMPTS[True]
    with _set_aside(hart, engine), contextlib.suppress(_DeviceTouched):
        before, traps = _saved(hart), sum(counted(hart).values())
        engine.run(hart, _GLANCE[fast])
        if sum(counted(hart).values()) - traps < 2:
            return None
        _put_back(hart, before)
        return _repeated(hart, engine, _ATTEMPTS[fast])
    return None


def _repeated(hart: Hart, engine: Engine, attempts: int) -> _Taken | None:
    """Step until a trap has been seen often enough, with nothing retired in between but its handler."""
    seen: dict[_Taken, int] = {}
    retired: set[int] = set()  # after the return from the last trap
    counts, returned = counted(hart), True
    for _ in range(attempts):
        pc, mode, data = int(hart.pc), (int(hart.priv), int(hart.virt)), (int(hart.data_priv), int(hart.data_virt))
        if engine.run(hart, 1) != EXIT_LIMIT:
            return None
        if (now := counted(hart)) == counts:
            if returned:
                retired.add(pc)
            returned = returned or hart.pc in (hart.mepc, hart.sepc, hart.vsepc)
            continue
        counts, taken = now, _taken(hart, mode, data)
        # An instruction that its handler steps over is behind it in between: a program that asks and asks.
        beyond = {taken.epc} if taken.cause & INTERRUPT else {taken.epc, taken.epc + 2, taken.epc + 4}
        if retired & beyond:
            seen.clear()
        seen[taken] = seen.get(taken, 0) + 1
        if seen[taken] == _TIMES:
            return taken
        retired.clear()
        returned = False
    return None


def _taken(hart: Hart, mode: tuple[int, int], data: tuple[int, int]) -> _Taken:
    registers = b"".join(bytes(hart.mem[low:high]) for low, high in _SPANS)
    words: tuple[int, ...]
    if hart.priv == MACHINE:
        words = hart.mcause, hart.mepc, hart.mtval, hart.mtval2, TO_M
    elif hart.virt == 0:
        words = hart.scause, hart.sepc, hart.stval, hart.htval, TO_HS
    else:
        words = hart.vscause, hart.vsepc, hart.vstval, 0, TO_VS
    cause, epc, tval, gpa, destination = (int(word) for word in words)
    guest = hart.mstatus & MSTATUS_GVA if destination == TO_M else hart.hstatus & HSTATUS_GVA
    if destination != TO_VS and guest != 0 and not data[1]:  # HLV and its kin
        data = (SUPERVISOR if hart.hstatus & HSTATUS_SPVP != 0 else USER, 1)
    return _Taken(cause, epc, tval, gpa << 2 | tval & 3, mode, data, destination, registers)


def _at_its_own_handler(hart: Hart) -> _Taken | None:
    """Return what a guest under a hosted hypervisor repeats: its handler's first instruction has led to the handler."""
    if hart.hosted_hs == 0 or hart.vscause & INTERRUPT != 0:
        return None
    pc, supervisor = hart.pc, hart.priv == SUPERVISOR
    if hart.kvm_in_guest == 0:
        pc, supervisor = hart.guest_sepc, hart.guest_sstatus & MSTATUS_SPP != 0
    if not supervisor or hart.vsstatus & MSTATUS_SPP == 0 or not pc == hart.vsepc == hart.vstvec & ~3:
        return None
    mode = (SUPERVISOR, 1)
    return _Taken(int(hart.vscause), int(pc), int(hart.vstval), 0, mode, mode, TO_VS, b"")


def _describe(hart: Hart, who: str, number: int, trap: _Taken) -> Loop:
    reason = fault_reason(hart, trap.cause, trap.tval, trap.gpa, trap.mode, trap.data)
    parts = [reason] if reason else []
    name = ("mtvec", "stvec", "vstvec")[trap.destination]
    if int(getattr(hart, name)) == 0:
        parts.append(f"{name} is 0, nobody has set it")
        parts += _beginning(hart, trap)
    origin = MODE_NAMES[trap.mode[0] | trap.mode[1] << 2]
    text = "; ".join(parts) or "its handler returns to the same instruction and has changed nothing"
    return Loop(number, trap.cause, trap.epc, trap.tval, who, origin, DESTINATION_NAMES[trap.destination], text)


def _beginning(hart: Hart, trap: _Taken) -> Iterator[str]:
    """What went to the missing handler first, out of the counters of traps."""
    others = {
        cause
        for cause, _, to in map(trap_at, counted(hart))
        if to == DESTINATION_NAMES[trap.destination] and not cause & INTERRUPT and cause != trap.cause
    }
    if len(others) == 1:
        yield f"it began with {cause_name(next(iter(others)))}"
    if others & {LOAD_MISALIGNED, STORE_MISALIGNED}:
        yield MISALIGNED_REMEDY


# --- the hart for a moment ---


@contextlib.contextmanager
def _set_aside(hart: Hart, engine: Engine) -> Iterator[None]:
    """Let the hart run without devices and observers, and put it back afterwards."""
    devices, observe = dict(hart.devices), int(hart.observe_base)
    before = _saved(hart)
    hart.devices.update(dict.fromkeys(devices, _Untouchable()))
    hart.observe_base = 0
    engine.regions_changed(hart)
    try:
        yield
    finally:
        _put_back(hart, before)
        hart.devices.update(devices)
        hart.observe_base = observe
        engine.regions_changed(hart)


def _saved(hart: Hart) -> list[tuple[int, int, bytes]]:
    return [(low, high, bytes(hart.mem[low:high])) for low, high in _OWN]


def _put_back(hart: Hart, words: list[tuple[int, int, bytes]]) -> None:
    for low, high, data in words:
        hart.mem[low:high] = memoryview(data).cast("Q")
    hart.on_flush_translations()
