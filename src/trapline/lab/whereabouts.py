"""Where a guest is when its run was cut short, and what it waits for.

A vCPU that blocks says it itself. One that runs is followed for some more instructions, its writes to devices
dropped: whether it goes round in a loop, what the loop reads, what it calls. The guest is of no other use afterwards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from trapline.dataclass import dataclass, field
from trapline.isa.decode import Decoded
from trapline.isa.registers import X_NAMES
from trapline.kvm.report.death import disassemble, fetch
from trapline.kvm.report.trace import TrapRecord
from trapline.kvm.report.walks import vs_walk
from trapline.kvm.run_stop import RunStop
from trapline.kvm.uapi.numbers import Exit, MpState
from trapline.kvm.uapi.stats import hardware_traps
from trapline.kvm.vcpu import Vcpu
from trapline.lab.symbols import Symbols
from trapline.machine.devices.clint import time_of
from trapline.plain import plain
from trapline.privilege.causes import ECALL_VS, INTERRUPT, cause_name
from trapline.privilege.csr import csr_read
from trapline.privilege.csr_numbers import CSR_NAMES, VSIP
from trapline.privilege.fields import MSTATUS_SIE
from trapline.sbi.numbers import Eid
from trapline.vmm.guest import Guest

STEPS = 600  # instructions that a running vCPU is followed for
LONGEST_LOOP = 100
_SHOWN = 4  # of what a loop reads
_SOURCES = {1: "software", 5: "timer", 9: "external", 13: "counter overflow"}  # bits of vsie
_EIDS = {int(e): e.name for e in Eid}
A6, A7 = X_NAMES.index("a6"), X_NAMES.index("a7")


@dataclass(frozen=True, slots=True)
class Place:
    """Where one vCPU is: its mode and pc, with the symbol if there is one, and in words what it does."""

    vcpu: int
    mode: str
    pc: int
    symbol: str | None
    what: str
    code: tuple[str, ...] = ()

    def as_data(self) -> dict[str, Any]:
        return plain(self, "vcpu mode pc symbol what")


def ended_by(guest: Guest) -> int:
    """Return the vCPU whose trap ended the run: that of the last trap; if its firmware hung before one, that vCPU."""
    hung = (v.id for v in guest.vm.vcpus if v.firmware_dump)
    traps = guest.vm.last_traps
    return next(hung, traps[-1].vcpu if traps else 0)


def place_at_end(guest: Guest, number: int, what: str, symbols: Symbols) -> Place:
    """Return where the vCPU is that a policy, or a firmware that never came back, has ended."""
    vcpu = guest.vm.vcpu(number)
    return Place(number, vcpu.guest_mode(), vcpu.pc, symbols.name(vcpu.guest_mode(), vcpu.pc), what)


@dataclass(slots=True)
class _Trail:
    """What a vCPU did while it was followed: each instruction with the registers before it, and its exceptions."""

    pcs: list[int] = field(default_factory=list)
    registers: list[tuple[int, ...]] = field(default_factory=list)
    traps: list[TrapRecord] = field(default_factory=list)
    delivered: int = 0  # exceptions that hardware gave to the guest


def whereabouts(guest: Guest, symbols: Symbols) -> list[Place]:
    """Return where each vCPU is; those that run go on for STEPS instructions."""
    vm = guest.vm
    vm.poll, vm.on_log = None, None
    return [_place(guest, vcpu, symbols) for vcpu in vm.vcpus]


def _place(guest: Guest, vcpu: Vcpu, symbols: Symbols) -> Place:
    mode, pc = vcpu.present_mode(), vcpu.pc
    name = symbols.name(mode, pc)
    if vcpu.mp_state is MpState.STOPPED:
        return Place(vcpu.id, mode, pc, name, "stopped: no vCPU has started it")
    if vcpu.blocked and not vcpu.runnable():
        return Place(vcpu.id, mode, pc, name, _waits(guest, vcpu))
    trail = _follow(guest, vcpu)
    if vcpu.blocked and not vcpu.runnable() and len(set(trail.pcs)) <= LONGEST_LOOP:
        return Place(vcpu.id, mode, vcpu.pc, symbols.name(vcpu.present_mode(), vcpu.pc), _waits(guest, vcpu))
    what, loop = _runs(guest, vcpu, trail, symbols)
    return Place(vcpu.id, mode, pc, name, what, _code(vcpu, loop))


# --- a vCPU that blocks ---
def _waits(guest: Guest, vcpu: Vcpu) -> str:
    """Say what a blocked vCPU waits in, and what could wake it."""
    last = next((r for r in reversed(guest.vm.last_traps) if r.vcpu == vcpu.id and not r.cause & INTERRUPT), None)
    inside = "wfi"
    if last is not None and last.cause == ECALL_VS:
        inside = f"the SBI call {_EIDS.get(int(vcpu.hart.x[A7]), 'of an unknown extension')}"
    enabled = _enabled(vcpu)
    text = f"waits in {inside} for {' or '.join(enabled)} interrupts" if enabled else f"waits in {inside}"
    deadline = vcpu.timer.deadline()
    if not enabled:
        return f"{text}, and has enabled no interrupt: nothing can wake it"
    if "timer" not in enabled:
        return text
    if deadline is None:
        return f"{text}; no timer is set"
    return f"{text}; the timer is due in {(deadline - time_of(vcpu.hart)) * 1000 / guest.vm.timebase:.3f} ms"


def _enabled(vcpu: Vcpu, *, pending: bool = False) -> list[str]:
    """Return the interrupts that the guest has enabled, or those of them that are pending."""
    vcpu.put()
    bits = vcpu.csrs.vsie & (int(vcpu.hart.call(csr_read, VSIP)) if pending else -1)
    return [name for bit, name in _SOURCES.items() if bits >> bit & 1]


# --- a vCPU that runs ---
def _follow(guest: Guest, vcpu: Vcpu) -> _Trail:
    trail = _Trail()
    before = _exceptions(vcpu)
    guest.vm.on_trap = lambda record: None if record.cause & INTERRUPT else trail.traps.append(record)
    try:
        for _ in range(STEPS):
            trail.pcs.append(vcpu.pc)
            trail.registers.append(tuple(int(vcpu.hart.x[n]) for n in range(32)))
            stop = vcpu.run(1)
            if stop is RunStop.EXIT:
                if not _answer(guest, vcpu):
                    break
                vcpu.complete()
            if stop in (RunStop.ERROR, RunStop.HUNG, RunStop.BLOCKED):
                break
    finally:
        guest.vm.on_trap = None
    trail.delivered = _exceptions(vcpu) - before
    return trail


def _exceptions(vcpu: Vcpu) -> int:
    found = hardware_traps(vcpu.hart).items()
    return sum(n for (cause, _, where), n in found if where == "VS" and not cause & INTERRUPT)


def _answer(guest: Guest, vcpu: Vcpu) -> bool:
    """Answer an exit to user space without doing anything; return whether the vCPU can go on."""
    run = vcpu.kvm_run
    if run.exit_reason is Exit.MMIO:
        if not run.mmio.is_write:
            guest.devices.access(vcpu)
        return True
    return run.exit_reason in (Exit.RISCV_SBI, Exit.RISCV_CSR)


def _runs(guest: Guest, vcpu: Vcpu, trail: _Trail, symbols: Symbols) -> tuple[str, list[int]]:
    """Say what a vCPU does, and which instructions its loop has."""
    exceptions = trail.delivered + sum(r.end == "guest" for r in trail.traps)
    if trail.pcs and exceptions > 0.9 * len(trail.pcs):
        return _storm(vcpu, trail, symbols), []
    period = _period(trail.pcs)
    if not period:
        return _roams(trail, symbols), []
    loop, at = trail.pcs[-period:], trail.registers[-period:]
    length = f"a loop of {period} instructions" if period > 1 else "a loop of one instruction"
    touches = list(dict.fromkeys(_touches(guest, vcpu, loop, at, symbols)))
    if touches:
        more = f" and {len(touches) - _SHOWN} more" if len(touches) > _SHOWN else ""
        return f"goes round in {length} that {', '.join(touches[:_SHOWN])}{more}", loop
    if trail.registers[-period] != trail.registers[-2 * period]:
        return f"goes round in {length}", loop
    return f"spins in {length}: {_interruptible(vcpu)}", loop


def _storm(vcpu: Vcpu, trail: _Trail, symbols: Symbols) -> str:
    """Its handler faults, and so it goes there again."""
    pc, _ = Counter(trail.pcs[len(trail.pcs) // 2 :]).most_common(1)[0]
    vcpu.put()
    cause = cause_name(vcpu.csrs.vscause)
    name = symbols.name("VS", pc)
    where = f"{pc:#x} <{name}>" if name else f"{pc:#x}"
    return f"its trap handler at {where} traps itself, again and again: {cause} at {vcpu.csrs.vsepc:#x}"


def _roams(trail: _Trail, symbols: Symbols) -> str:
    functions = Counter(n for pc in trail.pcs if (n := symbols.name("VS", pc, exact=False)))
    inside = f", most of them in {', '.join(n for n, _ in functions.most_common(3))}" if functions else ""
    return f"runs: {len(set(trail.pcs))} different instructions among the next {len(trail.pcs)}{inside}"


def _period(pcs: list[int]) -> int:
    """Return after how many instructions the last ones repeat themselves, twice at least; 0 if they do not."""
    for period in range(1, min(LONGEST_LOOP, len(pcs) // 3) + 1):
        if pcs[-period:] == pcs[-2 * period : -period] == pcs[-3 * period : -2 * period]:
            return period
    return 0


def _touches(guest: Guest, vcpu: Vcpu, loop: list[int], at: list[tuple[int, ...]], symbols: Symbols) -> Iterator[str]:
    """Yield what a loop looks at that may change (memory, devices, CSRs, SBI), and the devices that it writes to."""
    for pc, x in zip(loop, at, strict=True):
        bits = fetch(vcpu, pc)
        found: Decoded | None = vcpu.decoder.decode(bits) if bits is not None else None
        if found is None:
            continue
        name, operands = found.instruction.name, found.operands
        access = found.instruction.access
        if name == "ecall" and vcpu.present_mode() == "VS":
            yield f"calls SBI {_EIDS.get(x[A7], f'extension {x[A7]:#x}')} function {x[A6]}"
        elif name == "wfi":
            pending = _enabled(vcpu, pending=True)
            yield f"does wfi, which does not wait: {' and '.join(pending)} pending" if pending else "does wfi"
        elif "csr" in operands:
            yield f"reads {CSR_NAMES.get(operands['csr'], hex(operands['csr']))}"
        elif access is not None and access.size:
            va = x[operands["rs1"]] + operands.get("imm", 0) & (1 << 64) - 1
            yield from _memory(guest, vcpu, va, access.is_store, symbols)


def _memory(guest: Guest, vcpu: Vcpu, va: int, store: bool, symbols: Symbols) -> Iterator[str]:
    gpa = vs_walk(vcpu, va).result
    device = guest.devices.name_at(gpa) if gpa is not None else None
    if device is not None:
        yield f"{'writes to' if store else 'reads'} {device} at {gpa:#x}"
    elif not store:
        name = symbols.name("VS", va)
        yield f"reads memory at {va:#x}{f' <{name}>' if name else ''}"


def _interruptible(vcpu: Vcpu) -> str:
    """Whether an interrupt could end a loop that looks at nothing."""
    mode, enabled = vcpu.present_mode(), _enabled(vcpu)
    status = int(vcpu.csrs.vsstatus)
    if not enabled or (mode == "VS" and not status & MSTATUS_SIE):
        return "it looks at nothing, and no interrupt is enabled: it never ends"
    return f"it looks at nothing; only {' or '.join(enabled)} interrupts can end it"


def _code(vcpu: Vcpu, loop: list[int]) -> tuple[str, ...]:
    """Return the instructions of a short loop."""
    return tuple(disassemble(vcpu, pc) for pc in sorted(set(loop))[:8])
