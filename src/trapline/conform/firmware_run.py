"""Runs the probes on a hart under firmware, real or a model: each from a checkpoint at the first instruction of S-mode.

A probe runs twice, with all fields that a trap may write given two opposite values: what is equal afterwards was
written, what is as it was given was left.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from trapline.conform.firmware_probes import (
    BASE,
    DATA,
    PROBES,
    STORED,
    WINDOW,
    WORDS,
    Probe,
    program,
    table_of,
)
from trapline.engine.api import Engine
from trapline.firmware.firmware import Firmware
from trapline.firmware.models import FirmwareModel
from trapline.firmware.outcome import HANG, Outcome
from trapline.lab.errors import UsageError
from trapline.lang.control import flush_translations
from trapline.lang.state import Hart
from trapline.machine.load.elf import is_elf, parse
from trapline.machine.machine import Machine
from trapline.machine.memory_map import RAM_BASE
from trapline.named_files import read_input
from trapline.privilege import csr_numbers as csr
from trapline.privilege.causes import cause_name
from trapline.privilege.csr import csr_write
from trapline.privilege.fields import (
    ATP_MODE_SHIFT,
    ATP_SV39,
    HSTATUS_GVA,
    HSTATUS_SPV,
    HSTATUS_SPVP,
    MSTATUS_FS,
    MSTATUS_SIE,
    MSTATUS_SPIE,
    MSTATUS_SPP,
)
from trapline.privilege.modes import MACHINE, MODE_NAMES, mode_name
from trapline.session.hooks import Hook
from trapline.session.loops import loops
from trapline.session.observe.trap_counts import counted, instructions_by_mode, trap_at
from trapline.session.terminal.console import Console

MEMORY = 64 << 20
TO_S_MODE, A_LOOK = 60_000_000, 3_000_000  # instructions that firmware may take, and between looks at what it does
A_PROBE = 200_000  # and for one event
MODES = {"U": (0, 0), "HS": (0, 1), "VU": (1, 0), "VS": (1, 1)}
HEDELEGS = (0, 0xB1FF)
_MODE_NUMBERS = {name: number for number, name in MODE_NAMES.items()}
_ONES = (1 << 64) - 1
# What a trap into HS or VS may write; the status bits are checked as the value behind the prime.
HS_FIELDS = ("scause", "sepc", "stval", "htval", "htinst", "SPV", "SPVP", "GVA", "SPP", "SPIE", "SIE")
VS_FIELDS = ("vscause", "vsepc", "vstval", "vs.SPP", "vs.SPIE", "vs.SIE")
_WORDS_OF_TRAPS = ("scause", "sepc", "stval", "htval", "htinst", "vscause", "vsepc", "vstval")
_BITS = {
    "SPV": ("hstatus", HSTATUS_SPV), "SPVP": ("hstatus", HSTATUS_SPVP), "GVA": ("hstatus", HSTATUS_GVA),
    "SPP": ("mstatus", MSTATUS_SPP), "SPIE": ("mstatus", MSTATUS_SPIE), "SIE": ("mstatus", MSTATUS_SIE),
    "vs.SPP": ("vsstatus", MSTATUS_SPP), "vs.SPIE": ("vsstatus", MSTATUS_SPIE), "vs.SIE": ("vsstatus", MSTATUS_SIE),
}  # fmt: skip
SET_UP = (
    *("medeleg", "mideleg", "mie", "mcounteren", "scounteren", "menvcfg", "mseccfg", "mstateen0", "hedeleg", "hideleg"),
    *("henvcfg", "hcounteren", "mtvec"),
)


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of an event: who got it, how, what was written, what it cost.

    `how` is hardware, redirected, emulated, runs, hung or ended. Addresses of the probe's own code are offsets from
    its label. `fields` holds what is behind both primings: a value, "left", or "kept SIE" for SPIE.
    """

    probe: str
    group: str
    mode: str
    hedeleg: int
    how: str
    to: str
    cause: str
    fields: tuple[tuple[str, str], ...]
    result: tuple[int, ...] = ()  # registers and memory of an instruction that ran, or of an SBI call
    where: str = ""  # of what hung or ended
    instructions: int = 0  # in M-mode: measured, or of the model

    @property
    def key(self) -> tuple[str, str, int]:
        """Return which event it is."""
        return self.probe, self.mode, self.hedeleg

    @property
    def same(self) -> tuple[object, ...]:
        """Return what a model must have alike."""
        return self.how, self.to, self.cause, self.fields, self.result


@dataclass(frozen=True, slots=True)
class FirmwareSeen:
    """What firmware did in all: how it set the hart up, and with each event."""

    name: str
    console: str
    instructions: int  # from reset to S-mode
    set_up: tuple[tuple[str, int], ...]
    events: tuple[Seen, ...]


class Board:
    """A machine whose hart stands at the first instruction of S-mode, under firmware."""

    def __init__(self, isa: str, misaligned: str, engine: str | Engine, entry: int = BASE) -> None:
        self.printed = bytearray()
        self.machine = Machine(
            isa=isa, memory=MEMORY, misaligned=misaligned, engine=engine, console=Console(self.printed.extend)
        )
        self.hart: Hart = self.machine.harts[0]
        self.code, self.image = program()
        self.entry, self.came = entry, 0
        self._hung: Outcome | None = None
        self._stop: str | None = None
        self._cost: Callable[[], int] = lambda: 0

    def __enter__(self) -> Self:
        """Use it in a with block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give the machine's memory back."""
        self.machine.close()

    def boot(self, path: Path) -> None:
        """Run real firmware up to S-mode; UsageError says where it is if it does not get there."""
        with tempfile.TemporaryDirectory() as folder:
            stage = Path(folder) / "stage.bin"
            stage.write_bytes(self.image)
            try:
                placed = _for_memory(path, Path(folder))
                try:
                    self.machine.boot_bios(placed, stage)
                except ValueError as error:
                    if "overlap" not in str(error):  # its own next stage is there: the probes take its place
                        raise
                    self.machine.boot_bios(placed)
                    self.machine.regions.write(BASE, self.image)
            except OSError as error:
                raise UsageError(f"{path}: {error.strerror or error}", "--firmware") from None
            except ValueError as error:
                raise UsageError(str(error), "--firmware") from None
        for _ in range(TO_S_MODE // A_LOOK):
            result = self.machine.run(A_LOOK, until=self.entry)
            if result.reason != "limit" or self._gets_nowhere():
                break
        if result.reason != "stop" or int(self.hart.priv) == MACHINE:
            raise UsageError(
                f"{path} never reaches S-mode at {self.entry:#x}: {self._place(result.reason)}", "--firmware"
            )
        if self.entry != BASE:
            self.machine.regions.write(BASE, self.image)
        self.came = int(self.hart.instret)
        self._cost = self._in_machine_mode

    def model(self, model: FirmwareModel) -> None:
        """Enter S-mode under a model."""
        self.machine.regions.write(BASE, self.image)
        firmware = Firmware(model)

        def handle(hart: Hart, _reason: int) -> None:
            done = firmware.handle(hart)
            if done.how == HANG:
                self._hung = done
                self.machine.stop("hung", 0, "", hart)

        self.machine.on_hosted = handle
        firmware.setup(self.hart, BASE)
        self._cost = lambda: firmware.estimated_instructions

    def _place(self, reason: str) -> str:
        hart = self.hart
        mode = mode_name(hart)
        found = loops(self.machine.harts, self.machine.engine)
        last = bytes(self.printed).decode(errors="replace").strip().splitlines()
        what = found[0].describe() if found else f"the hart is in {mode} at pc {int(hart.pc):#x}"
        if reason not in ("limit", "stop"):
            what += f", the run ended ({reason})"
        elif not found:
            what += f" after {int(hart.instret)} instructions"
        return what + (f"; it wrote: {last[-1][:60]}" if last else "; it wrote nothing")

    def _gets_nowhere(self) -> bool:
        """Whether the hart repeats one trap; what it stores while that is found out is undone."""
        point = self.machine.checkpoint()
        found = loops(self.machine.harts, self.machine.engine)
        self.machine.rewind(point, quiet=True)
        point.drop()
        return bool(found)

    def _in_machine_mode(self) -> int:
        return instructions_by_mode(self.hart)["M"]

    def set_up(self) -> tuple[tuple[str, int], ...]:
        """Return the registers of M-mode, and those of HS-mode that firmware gives a value."""
        return tuple((n, int(getattr(self.hart, n))) for n in SET_UP if hasattr(self.hart, n))

    def events(self, chosen: Callable[[str], bool], step: Callable[[int, int], None]) -> Iterator[Seen]:
        """Raise the chosen events in every mode, with hedeleg 0 and with all that a kernel delegates."""
        asked = [
            (n, p, mode, hedeleg)
            for n, p in enumerate(PROBES)
            if chosen(p.name)
            for mode in p.modes
            for hedeleg in (HEDELEGS if MODES[mode][0] else HEDELEGS[:1])
        ]
        point = self.machine.checkpoint()
        hooks = [self._hook(at + window, name) for at, name in self._handlers() for window in (0, WINDOW)]
        for done, (n, probe, mode, hedeleg) in enumerate(asked):
            step(done, len(asked))
            runs = []
            for prime in (0, 1):
                self.machine.rewind(point, quiet=True)
                runs.append(self._raise(n, probe, mode, hedeleg, prime))
            yield _merge(probe, mode, hedeleg, runs)
        for hook in hooks:
            hook.remove()

    def _handlers(self) -> tuple[tuple[int, str], ...]:
        return (self.code.symbols["hs_handler"], "HS"), (self.code.symbols["vs_handler"], "VS")

    def _hook(self, at: int, name: str) -> Hook:
        def reached(_hit: object) -> bool:
            self._stop = name
            return True

        return self.machine.on_code(at, reached)

    def _raise(self, n: int, probe: Probe, mode: str, hedeleg: int, prime: int) -> _Run:
        hart, symbols = self.hart, self.code.symbols
        test, after = symbols[f"p{n}_test"], symbols[f"p{n}_after"]
        self._enter(test, probe, mode, hedeleg)
        self._prime(prime, probe)
        self._stop = self._hung = None
        before, traps, free = self._cost(), _traps_to_m(hart), dict(_fields(hart, test))
        with self._hook(after, "after"):
            result = self.machine.run(A_PROBE)
        where = ""
        if self._stop is None:
            where = self._place(result.reason) if self._hung is None else "the model says that it stops there"
        return _Run(
            self._stop or ("ended" if result.reason not in ("limit", "hung", "idle") else "hung"),
            _traps_to_m(hart) - traps, self._cost() - before, free, dict(_fields(hart, test)), where,
            self._result(probe), int(hart.scause) if self._stop == "HS" else int(hart.vscause),
        )  # fmt: skip

    def _enter(self, test: int, probe: Probe, mode: str, hedeleg: int) -> None:
        """Have the hart stand at the probe in its mode."""
        hart, symbols = self.hart, self.code.symbols
        virtual, privilege = MODES[mode]
        user = privilege == 0 and probe.paging == "vsatp"
        table, guests = _sv39("user" if user else "supervisor"), _sv39("guest")
        window = WINDOW if user else 0
        floats = MSTATUS_FS if probe.floats else 0
        for number, value in (
            (csr.STVEC, symbols["hs_handler"] + window * (not virtual)), (csr.VSTVEC, symbols["vs_handler"] + window),
            (csr.HCOUNTEREN, probe.counters), (csr.SCOUNTEREN, probe.counters), (csr.HEDELEG, hedeleg),
            (csr.SIE, 0), (csr.HGATP, guests if probe.paging == "hgatp" else 0),
            (csr.VSATP, table if virtual and probe.paging == "vsatp" else 0),
            (csr.SSTATUS, floats | MSTATUS_SPP * privilege),
            (csr.VSSTATUS, floats), (csr.HSTATUS, HSTATUS_SPV * virtual), (csr.SEPC, test),
        ):  # fmt: skip
            hart.call(csr_write, number, value)
        for register in range(5, 32):
            hart.x[register] = 0
        values = {"a0": 0x1234, "a1": DATA + 1, "a2": STORED, "a3": DATA} | dict(probe.registers)
        for name, value in values.items():
            hart.x[10 + int(name[1:])] = value
        for n in range(32):
            hart.f[n] = STORED + n
        hart.pc = symbols["enter"] if mode != "HS" else test
        if mode != "HS":
            self.machine.run(1)
        if not virtual and probe.paging == "vsatp":
            hart.call(csr_write, csr.SATP, table)
        flush_translations(hart)

    def _prime(self, prime: int, probe: Probe) -> None:
        """Give all that a trap may write one of two opposite values."""
        hart = self.hart
        for name in _WORDS_OF_TRAPS:
            setattr(hart, name, 0x7F0 if prime else 0x80C)
        for status, mask in (("hstatus", HSTATUS_SPV | HSTATUS_SPVP | HSTATUS_GVA), ("vsstatus", MSTATUS_SPP)):
            setattr(hart, status, int(getattr(hart, status)) & ~mask | mask * prime)
        for status in ("mstatus", "vsstatus"):
            old = int(getattr(hart, status)) & ~(MSTATUS_SIE | MSTATUS_SPIE)
            setattr(hart, status, old | (MSTATUS_SIE if prime else MSTATUS_SPIE))
        hart.mstatus = int(hart.mstatus) & ~MSTATUS_SPP | MSTATUS_SPP * prime

    def _result(self, probe: Probe) -> tuple[int, ...]:
        hart = self.hart
        if self._stop != "after":
            return ()
        if probe.group == "sbi":
            return int(hart.x[10]), int(hart.x[11])
        if probe.group == "counters":
            return ()
        data = self.machine.regions.read(DATA, 8 * len(WORDS))
        words = (int.from_bytes(data[n : n + 8], "little") for n in range(0, len(data), 8))
        floats = (int(getattr(hart, status)) & MSTATUS_FS for status in ("mstatus", "vsstatus"))
        return int(hart.x[10]), int(hart.f[10]), *words, *floats


def _sv39(name: str) -> int:
    return ATP_SV39 << ATP_MODE_SHIFT | table_of(name) >> 12


def _for_memory(path: Path, folder: Path) -> Path:
    """Return an image that may be loaded: one that is linked for address 0 runs anywhere, and becomes flat."""
    data = read_input(path)
    if not is_elf(data):
        return path
    elf = parse(data, str(path))
    if elf.low >= RAM_BASE:
        return path
    if elf.entry != elf.low:
        raise UsageError(f"{path}: it is linked for {elf.low:#x}, and does not begin there", "--firmware")
    flat = bytearray(elf.high - elf.low)
    for segment in elf.segments:
        at = segment.address - elf.low
        flat[at : at + segment.filled] = segment.data
    placed = folder / path.name
    placed.write_bytes(flat)
    return placed


@dataclass(frozen=True, slots=True)
class _Run:
    stop: str
    traps: int
    instructions: int
    before: dict[str, int]
    after: dict[str, int]
    where: str
    result: tuple[int, ...]
    cause: int


def _traps_to_m(hart: Hart) -> int:
    return sum(n for index, n in counted(hart).items() if trap_at(index)[2] == "M")


def _fields(hart: Hart, test: int) -> Iterator[tuple[str, int]]:
    for name in _WORDS_OF_TRAPS:
        value = int(getattr(hart, name))
        yield name, value - test + BASE if test <= value < test + 16 else value
    for name, (status, mask) in _BITS.items():
        yield name, int(int(getattr(hart, status)) & mask != 0)


def _merge(probe: Probe, mode: str, hedeleg: int, runs: list[_Run]) -> Seen:
    first, second = runs
    to = {"HS": "HS", "VS": "VS"}.get(first.stop, mode)
    if first.stop in ("HS", "VS"):
        how = "redirected" if first.traps else "hardware"
    elif first.stop == "after":
        how = "emulated" if first.traps else "runs"
        how = "sbi" if probe.group == "sbi" else how
    else:
        how, to = first.stop, "-"
    fields: tuple[tuple[str, str], ...] = ()
    if first.stop in ("HS", "VS"):
        names = HS_FIELDS if first.stop == "HS" else VS_FIELDS
        fields = tuple((name, _change(name, runs)) for name in names)
    cause = cause_name(first.cause) if fields else ""
    cost = min(first.instructions, second.instructions)
    return Seen(probe.name, probe.group, mode, hedeleg, how, to, cause, fields, first.result, first.where, cost)


def _change(name: str, runs: list[_Run]) -> str:
    """Say what a field is behind a trap: left as it was, SIE from before, or a value."""
    if all(run.after[name] == run.before[name] for run in runs):
        return "left"
    enable = name.replace("SPIE", "SIE")
    if name.endswith("SPIE") and all(run.after[name] == run.before[enable] for run in runs):
        return "SIE"
    values = {run.after[name] for run in runs}
    return " or ".join(f"{value:#x}" for value in sorted(values))
