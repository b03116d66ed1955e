"""`trapline run`: a guest under a policy, and the table of what every trap did."""

from __future__ import annotations

import contextlib
import json
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trapline.dataclass import dataclass, field, replace
from trapline.engine.api import open_engine
from trapline.firmware.firmware import Firmware
from trapline.kvm.report.cost import source as kvm_source
from trapline.kvm.report.death import Death
from trapline.kvm.report.trace import TrapRecord
from trapline.lab.common_options import CommonOptions
from trapline.lab.counted import Before, balance, instructions_since, moved, rows_of
from trapline.lab.debugging import debugged
from trapline.lab.errors import UsageError, input_of
from trapline.lab.firmware_names import firmware_named
from trapline.lab.observe import Observation, watch
from trapline.lab.output import OutputFile, output_file
from trapline.lab.recording import asked_trace, check_recording, covered_beside, profiled_beside, traced_beside
from trapline.lab.run_rows import RunRow, add_hosted
from trapline.lab.settings import Settings
from trapline.lab.snapshots import Taken, check, restored, run_and_keep
from trapline.lab.stat.offer import offered
from trapline.lab.survival import Survival, survival
from trapline.lab.symbols import Symbols, read_symbols, symbols_of
from trapline.lab.trace.file import Tracing
from trapline.lab.whereabouts import Place, ended_by, place_at_end, whereabouts
from trapline.machine.aia import parse_aia
from trapline.machine.result import ENDED_FROM_OUTSIDE
from trapline.machine.virtio.options import NO_VIRTIO
from trapline.plain import plain
from trapline.privilege.causes import cause_name
from trapline.session.terminal.console import Console
from trapline.shown import html_table
from trapline.vmm.arguments import parse_memory, parse_slot
from trapline.vmm.guest import Guest
from trapline.vmm.interrupts import MODES
from trapline.vmm.result import GuestResult

if TYPE_CHECKING:
    from trapline.lab.trace.file import Tracing
    from trapline.session.loops import Loop


@dataclass(frozen=True, slots=True)
class RunOptions(CommonOptions):
    """A `run` command line, checked when the guest is made."""

    guest: str | None
    settings: Settings
    memslot: tuple[str, ...] = ()
    backing: str = "auto"
    nested: bool = False
    nacl: str = ""  # "" as the policy has it
    offer: bool = False  # whether `trapline stat` may watch it
    new_policy: bool = True  # a restored guest goes on under the policy of `settings`, not under its own
    explain: bool = True  # a run that did not end well is looked into: who survives its death, where it is


@dataclass(slots=True)
class RunReport:
    """What a run was and did."""

    options: RunOptions
    result: GuestResult
    rows: list[RunRow]
    instructions: dict[str, int]
    counters: dict[str, int]
    ticks: int
    seconds: float
    notes: tuple[str, ...] = ()
    unassigned: tuple[str, ...] = ()
    balance: tuple[str, ...] = ()  # where the compiled counters and the records disagree; must be empty
    output: bytes = field(default=b"", repr=False)
    snapshot: Taken | None = None
    seen: Observation | None = None
    symbols: Symbols = field(default_factory=Symbols, repr=False)
    survival: Survival | None = None  # of a guest that was killed
    places: tuple[Place, ...] = ()  # of the vCPUs of one that was cut short
    loops: tuple[Loop, ...] = ()  # what vCPUs repeated for ever when the run was ended from outside

    @property
    def traps(self) -> int:
        """All traps."""
        return sum(r.count for r in self.rows)

    @property
    def all_instructions(self) -> int:
        """Instructions of all levels, estimates among them."""
        return sum(self.instructions.values())

    def __repr__(self) -> str:
        settings, result = self.options.settings, self.result
        return f"<RunReport of {settings.policy.name}, {settings.firmware}: {result.reason}, {self.traps} traps>"

    def _repr_html_(self) -> str:
        rows = [
            (cause_name(r.cause), " > ".join(r.path), ", ".join(r.how), r.outcome(), r.count, round(r.mean), r.total)
            for r in self.rows
        ]
        return html_table(
            ("trap", "route", "how", "outcome", "count", "mean cost", "cost"), rows, repr(self).strip("<>")
        )

    def as_data(self) -> dict[str, Any]:
        death = self.result.death
        return {
            **self.options.settings.head(),
            "guest": self.options.guest or self.options.snapshots.restore,
            **plain(self.result, "reason code message exit_status instret=instructions"),
            "traps": [r.as_data(self.all_instructions) for r in self.rows],
            "instructions": self.instructions,
            "estimated": ["HS", "M"],
            "source": kvm_source(self.options.settings.policy.release),
            **plain(self, "counters ticks"),
            "seconds": round(self.seconds, 3),
            **plain(self, "notes loops unassigned"),
            "kernel_log": list(death.log) if death else [],
            "death": death_data(death, self.symbols) if death else None,
            **plain(self, "survival places snapshot observed=seen"),
        }


# Endings of traces that have every trap of the hart, delegated ones too.
_OF_HARDWARE = (".csv", ".parquet", ".json", ".pftrace")


class _Routes:
    """JSON lines of traps that left the guest: all that are wanted, or the last of each vCPU."""

    def __init__(self, file: OutputFile, options: Tracing) -> None:
        self._file, self._wanted = file, options.wanted
        self._last: dict[int, deque[TrapRecord]] | None = None
        if options.last is not None:
            self._last = defaultdict(lambda: deque(maxlen=options.last))

    def __call__(self, r: TrapRecord) -> None:
        """A trap's way has ended."""
        if self._wanted is not None and not any(
            self._wanted.admits(r.cause, r.origin, level, r.epc) for level in r.path[1:]
        ):
            return
        if self._last is None:
            self._file.write(trace_line(r))
        else:
            self._last[r.vcpu].append(r)

    def end(self) -> None:
        """Write what was kept."""
        for kept in (self._last or {}).values():
            for record in kept:
                self._file.write(trace_line(record))


@contextlib.contextmanager
def _routes(guest: Guest, file: OutputFile | None, options: Tracing | None) -> Iterator[None]:
    """Write the ways of traps in the block."""
    if file is None or options is None:
        yield
        return
    guest.vm.on_trap = routes = _Routes(file, options)
    guest.vm.told_late = True
    try:
        yield
    finally:
        guest.vm.told_late = False
        routes.end()


def trace_data(r: TrapRecord) -> dict[str, Any]:
    """Return one line of a trace file."""
    taken = plain(r, "instret vcpu cause name from=origin path how end")
    return taken | {"errno": r.errno or None} | plain(r, "epc tval gpa")


_LINES: dict[tuple[Any, ...], str] = {}  # what the lines of traps that took the same way have in common


def trace_line(r: TrapRecord) -> str:
    """Return the same as a line of JSON."""
    way = r.cause, r.origin, r.path, r.how, r.end, r.errno
    if (of_way := _LINES.get(way)) is None:
        data = trace_data(r)
        names = ("cause", "name", "from", "path", "how", "end", "errno")
        of_way = _LINES[way] = json.dumps({name: data[name] for name in names})[1:-1]
    gpa = "null" if r.gpa is None else r.gpa
    return f'{{"instret": {r.instret}, "vcpu": {r.vcpu}, {of_way}, "epc": {r.epc}, "tval": {r.tval}, "gpa": {gpa}}}\n'


def make_guest(
    options: RunOptions,
    console: Console | None = None,
    progress: Callable[[str], None] | None = None,
    *,
    tree_alone: bool = False,
) -> Guest:
    """Return a loaded guest, or with `tree_alone` one that may lack a program; UsageError: the input is wrong."""
    s = options.settings
    if options.max_instructions is not None and options.max_instructions <= 0:
        raise UsageError(f"--max-instructions {options.max_instructions} is not positive")
    check(options.snapshots)
    if options.snapshots.restore is not None:
        policy = s.policy if options.new_policy else None
        guest: Guest = restored(Guest, options, console, progress, policy=policy)
        return guest
    if options.guest is None and not (tree_alone and options.initrd is None):
        raise UsageError("run needs a GUEST", remedy="or --restore FILE")
    with input_of(options.guest):
        # What is wrong is said before native code is made, which may take a minute.
        memory, slots = parse_memory(options.memory), [parse_slot(text) for text in options.memslot]
        parse_aia(options.aia, modes=tuple(MODES))
        if options.virtio != NO_VIRTIO:
            options.virtio.check()
        engine = open_engine(options.engine, progress)
        guest = Guest(
            s.policy,
            firmware=Firmware(firmware_named(s.firmware), host_fwft=s.host_fwft),
            memory=memory,
            vcpus=options.smp,
            memslots=slots,
            console=console,
            isa=options.isa,
            engine=engine,
            timebase=options.timebase,
            misaligned=s.misaligned,
            virtio=options.virtio,
            tinst=options.tinst,
            aia=options.aia,
            backing=options.backing,
            nested=options.nested,
            nacl=options.nacl,
        )
        if options.guest is not None:
            guest.load(options.guest, initrd=options.initrd, append=options.append)
        else:
            guest.device_tree(options.append)
    return guest


def run_guest(
    options: RunOptions,
    console: Console | None = None,
    progress: Callable[[str], None] | None = None,
    on_kernel_log: Callable[[str], None] | None = None,
) -> RunReport:
    """Run a guest to its end and report every trap; after a system_reset, of the last start."""
    output = bytearray()
    if console is None:
        console = Console(output.extend)
    while (report := _run_once(options, console, progress, on_kernel_log)).result.reason == "restart":
        output.clear()
    report.output = bytes(output)
    return report


def _run_once(
    options: RunOptions,
    console: Console,
    progress: Callable[[str], None] | None,
    on_kernel_log: Callable[[str], None] | None,
) -> RunReport:
    check_recording(options, (options.guest,), debugged=options.debug.address is not None)
    guest = make_guest(options, console, progress)
    if options.snapshots.restore is not None:
        options = replace(options, settings=_settings_of(guest))
    engine, before = guest.vm.engine, Before(guest)
    harts = guest.harts
    watching = watch(guest, harts, options.observe)
    guest.vm.on_log = on_kernel_log

    def source() -> Any:
        from trapline.lab.stat.guest import GuestSource

        return GuestSource(guest, options, before)

    of_hardware = options.trace is not None and Path(options.trace).suffix.lower() in _OF_HARDWARE
    trace = asked_trace(options, guest.vm.symbols)
    ring = trace if of_hardware or trace is None else replace(trace, path=None, last=None, wanted=None)
    with (
        traced_beside(ring, harts, guest, guest.vm),
        output_file(None if of_hardware else options.trace, "--trace") as file,
        _routes(guest, file, trace),
        profiled_beside(options, harts, guest.vm, lambda: symbols_of(options.guest)),
        offered(guest, options.offer, source, guest=True, live=options.observe.live),
        covered_beside(options, engine, (options.guest,), lambda: symbols_of(options.guest)),
    ):
        started, ticks = time.perf_counter(), guest.position()[1]
        with debugged(guest, options.debug, progress) as run:
            result, taken = run_and_keep(run, guest.interrupt, options)
        seconds = time.perf_counter() - started - (taken.seconds if taken else 0)
    traps, routes, firmware = moved(guest, before)
    rows = rows_of(traps, routes, firmware, options.settings.policy.release)
    seen = watching.finish() if watching is not None else None
    if seen is not None:
        add_hosted(seen, rows)
    report = RunReport(
        options,
        result,
        rows,
        instructions_since(guest, rows, before),
        before.counted_since(guest),
        guest.position()[1] - ticks,
        seconds,
        (*guest.vm.notes, *guest.devices.virtio.failures(), *guest.vm.engine.notes()),
        tuple(guest.devices.unassigned.since(before.unassigned).describe()),
        tuple(balance(traps, routes, sum(r.m for r in rows), before.spent_since(guest))),
        snapshot=taken,
        seen=seen,
    )
    return _examine(guest, report) if options.explain else report


def _examine(guest: Guest, report: RunReport) -> RunReport:
    """Find out who survives what killed the guest, or where it is; last, since the guest's state is spent by that."""
    result, options = report.result, report.options
    if result.reason in ENDED_FROM_OUTSIDE:
        from trapline.session.loops import loops

        report.loops = loops(guest.harts, guest.vm.engine, "vCPU")
    fatal = result.death is not None or result.reason in ("killed", "debug", "hung")
    if not fatal and result.reason not in ("limit", "stuck", "interrupted"):
        return report
    given = options.observe.symbols
    report.symbols = read_symbols(given) if given else symbols_of(options.guest)
    if fatal:
        dead = result.death.vcpu if result.death else ended_by(guest)
        if result.death is None:
            report.places = (place_at_end(guest, dead, result.message, report.symbols),)
        if guest.vm.last_traps:
            report.survival = survival(guest.vm, dead)
    else:
        report.places = tuple(whereabouts(guest, report.symbols))
    return report


def death_data(death: Death, symbols: Symbols) -> dict[str, Any]:
    """Return the JSON form of a kill: where, why, and the last traps before it."""
    from dataclasses import asdict

    return {
        "cause": death.cause,
        "name": cause_name(death.cause),
        "from": death.origin,
        "pc": death.pc,
        "symbol": symbols.name(death.origin, death.pc),
        "ra": death.registers["ra"],
        "ra_symbol": symbols.caller(death.origin, death.registers["ra"]),
        "errno": death.errno,
        "rule": death.rule.source,
        "last_traps": [{**trace_data(r), "symbol": symbols.name(r.origin, r.epc)} for r in death.routes],
        "code": [asdict(line) for line in death.code],
        "walks": [
            {
                "stage": walk.stage,
                "address": walk.address,
                "result": walk.result,
                "why": walk.why,
                "steps": [{**asdict(step), "flags": step.flags} for step in walk.steps],
            }
            for walk in death.walks
        ],
        "csrs": {level: [asdict(csr) for csr in csrs] for level, csrs in death.csrs.items()},
        "registers": death.registers,
    }


def _settings_of(guest: Guest) -> Settings:
    """Return what a restored guest runs under."""
    vm = guest.vm
    misaligned = "hardware" if vm.vcpus[0].hart.misaligned_hardware != 0 else "trap"
    return Settings(vm.policy, vm.firmware.model.name, vm.firmware.host_fwft, misaligned)
