"""Lockstep: run a program here and on Spike, or on two engines, and find the first divergence.

The result names it in architectural terms: the instruction, the mode, the register or CSR and both values.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from trapline.engine.api import Engine
from trapline.isa.decode import Decoder, declare
from trapline.isa.text import text as instruction_text
from trapline.lang.functions import INSTRUCTIONS
from trapline.lang.state import Hart
from trapline.lang.state.words import LAYOUT
from trapline.lang.values import U64
from trapline.machine.machine import Machine
from trapline.privilege import csr_numbers as csr
from trapline.privilege.csr import csr_read
from trapline.privilege.csr_table import CSR_READ
from trapline.privilege.modes import mode_name
from trapline.verify import spike
from trapline.verify.stream_layout import BODY, RAM_SIZE

CONTEXT = 12
END = 0x6F  # a jump to itself: the stream is over
# Words of the hart that are no architectural state although they stand among it, and some behind it that are.
_NOT_ARCHITECTURE = {
    "next_pc", "insn", "insn_length", "trap_cause", "trap_tval", "trap_tval2", "trap_tinst", "trap_gva",
    "hvien", "hvictl",
}  # fmt: skip
_ALSO = (
    "fp_ready", "data_priv", "data_virt", "irq_cause", "irq_level", "ctx_base", "ctx_now", "instret",
    "reservation", "trap_count", "mode_instret", "mode_since",
)  # fmt: skip


# Spike logs the stored bits of these, not what a read gives: mip without hvip and the timers.
_LOGGED_IN_PART = {csr.MIP, csr.SIP, csr.HIP, csr.HVIP, csr.VSIP, csr.MVIP}


@dataclass(frozen=True)
class Divergence:
    """The first place where two runs differ."""

    number: int  # instructions before it
    pc: int
    mode: str
    instruction: str
    what: tuple[str, ...]  # "x5: here 0x1, there 0x2"
    before: tuple[str, ...]  # the last lines of the other run's log, or the last instructions
    csrs: dict[str, int]

    def text(self) -> str:
        """Return the report for people."""
        lines = [
            f"first divergence after {self.number} instructions, in {self.mode} at {self.pc:#x}: {self.instruction}"
        ]
        lines += [f"  {line}" for line in self.what]
        lines += ["before it:"] + [f"  {line}" for line in self.before]
        lines += ["state:"] + [f"  {name:10} {value:#x}" for name, value in self.csrs.items()]
        return "\n".join(lines)


_SHOWN = (
    "mstatus", "mcause", "mepc", "mtval", "mtval2", "mtinst", "medeleg", "mideleg", "mie", "mip", "menvcfg",
    "satp", "scause", "sepc", "stval", "hstatus", "htval", "hedeleg", "hideleg", "hgatp", "henvcfg",
    "vsstatus", "vscause", "vsepc", "vstval", "vsatp",
)  # fmt: skip


def make_machine(elf: bytes, isa: str, engine: str | Engine, misaligned: str = "trap", htif: bool = False) -> Machine:
    """Return a machine as Spike is started for streams, with the program loaded."""
    machine = Machine(isa=isa, engine=engine, memory=RAM_SIZE, misaligned=misaligned)
    machine.load_elf(elf, htif=htif)
    return machine


@cache
def _every_extension() -> Decoder:
    """A decoder for texts: it knows what this hart may not have."""
    declare()
    return Decoder({name for i in INSTRUCTIONS for name in re.split("[&|]", i.extension)})


class _Here:
    """This side of a lockstep: one hart, stepped through its engine."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.hart = machine, machine.harts[0]

    def step(self) -> None:
        self.machine.engine.run(self.hart, 1)

    def instruction(self, bits: int) -> str:
        found = _every_extension().decode(bits)
        return instruction_text(found, int(self.hart.pc)) if found else f"illegal {bits:#x}"

    def divergence(self, number: int, pc: int, mode: str, bits: int, what: list[str], before: deque[str]) -> Divergence:
        hart = self.hart
        csrs = {name: int(getattr(hart, name)) for name in _SHOWN}
        return Divergence(number, pc, mode, self.instruction(bits), tuple(what), tuple(before), csrs)


def against_spike(
    elf: bytes, isa: str, engine: str | Engine = "native", misaligned: str = "trap", here_isa: str | None = None
) -> Divergence | None:
    """Return the first instruction whose effects differ from Spike's, or None. `here_isa` is ours if not the same."""
    here = _Here(make_machine(elf, here_isa or isa, engine, misaligned))
    hart = here.hart
    before: deque[str] = deque(maxlen=CONTEXT)
    interrupt = False
    number = 0
    for commit in spike.commits(elf, isa):
        if commit.trap.startswith("interrupt"):
            interrupt = True
            continue
        pc, mode = int(hart.pc), mode_name(hart)
        if pc != commit.pc and not (interrupt and hart.irq_cause != 0):
            return here.divergence(
                number, pc, mode, 0, [f"pc: here {pc:#x}, there {commit.pc:#x}", commit.line], before
            )
        interrupt = False
        traps, retired_not = _trap_total(hart), int(hart.not_retired)
        here.step()
        number += 1
        trapped = _trap_total(hart) != traps
        what = _differences(hart, commit, interrupted=trapped)
        if int(hart.not_retired) != retired_not and not commit.trap:
            what.insert(0, f"here: a trap; there: {commit.line}")
        if commit.trap and not trapped:
            what.append(f"here: no trap; there: {commit.trap}, tval {commit.tval:#x}")
        if what:
            return here.divergence(number, commit.pc, mode, commit.bits, [*what, commit.line], before)
        before.append(commit.line)
        if commit.bits == END and not commit.trap:
            return None
    return None


def _trap_total(hart: Hart) -> int:
    counters = LAYOUT.fields["trap_count"]
    return sum(hart.mem[counters.index : counters.index + counters.count])


def _differences(hart: Hart, commit: spike.Commit, interrupted: bool) -> list[str]:
    """Compare what an instruction wrote; an interrupt right after it has already changed CSRs here."""
    what = []
    for name, there in commit.registers.items():
        kind, rest = name[0], name[1:]
        if kind == "c":
            number = int(rest.split("_")[0])
            if number not in CSR_READ or number in _LOGGED_IN_PART or interrupted:
                continue
            ours = int(csr_read(hart, U64(number)))
            name = rest.split("_", 1)[1]
        else:
            ours = int((hart.x if kind == "x" else hart.f)[int(rest)])
        if ours != there:
            what.append(f"{name}: here {ours:#x}, there {there:#x}")
    return what


def architectural_words() -> list[tuple[str, int, int]]:
    """Return (name, index, count) of the words that two engines must agree on."""
    names = list(LAYOUT.fields)
    names = [n for n in names[: names.index("has_m")] if n not in _NOT_ARCHITECTURE] + list(_ALSO)
    fields = [LAYOUT.fields[n] for n in names]
    return [(f.name, f.index, 32 if f.name == "x" else f.count) for f in fields]


def differing_state(a: Hart, b: Hart, words: list[tuple[str, int, int]]) -> list[str]:
    """Return the architectural words of two harts that differ."""
    what = []
    for name, index, count in words:
        if a.mem[index : index + count] != b.mem[index : index + count]:
            for i in range(count):
                if a.mem[index + i] != b.mem[index + i]:
                    label = name if count == 1 else f"{name}[{i}]"
                    what.append(f"{label}: here {a.mem[index + i]:#x}, there {b.mem[index + i]:#x}")
    return what


def between_engines(
    elf: bytes,
    isa: str,
    limit: int,
    engines: tuple[Any, Any],
    misaligned: str = "trap",
    stride: int = 64,
    observe: Callable[[Machine], None] | None = None,
) -> Divergence | None:
    """Run two engines in strides and compare; a stride that differs is run again one instruction at a time.

    `observe` is called with the second machine before each of its instructions.
    """
    here, there = (_Here(make_machine(elf, isa, engine, misaligned)) for engine in engines)
    words = architectural_words()
    number = 0
    while number < limit:
        here.machine.engine.run(here.hart, stride)
        if observe is None:
            there.machine.engine.run(there.hart, stride)
        else:
            for _ in range(stride):
                observe(there.machine)
                there.step()
        if differing_state(here.hart, there.hart, words):
            return _single_steps(elf, isa, engines, misaligned, number, words)
        number += stride
        if int(there.hart.insn) == END and int(there.hart.pc) < BODY:
            return None
    return None


def _single_steps(
    elf: bytes, isa: str, engines: tuple[Any, Any], misaligned: str, start: int, words: list[tuple[str, int, int]]
) -> Divergence:
    here, there = (_Here(make_machine(elf, isa, engine, misaligned)) for engine in engines)
    for side in (here, there):
        side.machine.engine.run(side.hart, start)
    before: deque[str] = deque(maxlen=CONTEXT)
    for number in range(start, start + 4096):
        pc, mode = int(there.hart.pc), mode_name(there.hart)
        here.step()
        there.step()
        bits = int(there.hart.insn)
        what = differing_state(here.hart, there.hart, words)
        if what:
            return here.divergence(number, pc, mode, bits, what, before)
        before.append(f"{mode} {pc:#x} {there.instruction(bits)}")
    return here.divergence(
        start, int(here.hart.pc), mode_name(here.hart), 0, ["differs only when run in strides"], before
    )
