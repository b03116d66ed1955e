"""`trapline boot`: a board with real M-mode code."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from trapline.dataclass import dataclass
from trapline.engine.api import open_engine
from trapline.lab.common_options import CommonOptions
from trapline.lab.debugging import debugged
from trapline.lab.errors import UsageError, input_of
from trapline.lab.observe import Observation, watch
from trapline.lab.output import behind_result, output_file
from trapline.lab.recording import asked_trace, check_recording, covered_beside, profiled_beside, traced_beside
from trapline.lab.snapshots import Taken, check, restored, run_and_keep
from trapline.lab.stat.offer import offered
from trapline.lab.symbols import Symbols, program_symbols
from trapline.machine.aia import parse_aia
from trapline.machine.machine import Machine
from trapline.machine.result import ENDED_FROM_OUTSIDE, RunResult
from trapline.machine.signature import signature_bounds
from trapline.machine.virtio.options import NO_VIRTIO
from trapline.plain import plain
from trapline.privilege.causes import cause_name
from trapline.session.observe.trap_counts import instructions_by_mode, summed, trap_rows
from trapline.session.terminal.console import Console

if TYPE_CHECKING:
    from trapline.session.loops import Loop


@dataclass(frozen=True, slots=True)
class BootOptions(CommonOptions):
    """A `boot` command line."""

    image: str | None = None
    bios: str | None = None
    kernel: str | None = None
    misaligned: str = "trap"
    log_commits: str | None = None
    signature: str | None = None
    signature_granularity: int = 16
    offer: bool = False  # whether `trapline stat` may watch it


@dataclass(frozen=True, slots=True)
class BootReport:
    """How it ended, and what the compiled counters of all harts counted in this run."""

    options: BootOptions
    result: RunResult
    traps: list[tuple[int, str, str, int]]  # cause, origin, destination, count
    instructions: dict[str, int]
    seconds: float
    snapshot: Taken | None = None
    seen: Observation | None = None
    notes: tuple[str, ...] = ()
    loops: tuple[Loop, ...] = ()  # what harts repeated for ever when the run was ended from outside

    def as_data(self) -> dict[str, Any]:
        return {
            "image": self.options.image or self.options.bios or self.options.snapshots.restore,
            "kernel": self.options.kernel,
            **plain(self.result, "reason code message exit_status instret=instructions"),
            "traps": [{"cause": c, "name": cause_name(c), "from": o, "to": d, "count": n} for c, o, d, n in self.traps],
            "instructions": self.instructions,
            "seconds": round(self.seconds, 3),
            **plain(self, "snapshot notes loops observed=seen"),
        }


def make_machine(
    options: BootOptions,
    console: Console | None = None,
    progress: Callable[[str], None] | None = None,
    *,
    tree_alone: bool = False,
) -> Machine:
    """Return a loaded board, or with `tree_alone` one that may lack a program; UsageError: the input is wrong."""
    from trapline.vmm.arguments import parse_memory

    check(options.snapshots)
    if options.snapshots.restore is not None:
        machine: Machine = restored(Machine, options, console, progress)
        return machine
    empty = tree_alone and not (options.image or options.bios or options.kernel or options.initrd)
    if (options.image is None) == (options.bios is None) and not empty:
        raise UsageError("give either IMAGE (a program that starts in M-mode) or --bios FILE")
    if options.image is not None and (options.kernel or options.initrd or options.append):
        raise UsageError("--kernel, --initrd and --append go with --bios", remedy="IMAGE is a bare program")
    with input_of(options.image or options.bios):
        # What is wrong is said before native code is made, which may take a minute.
        memory = parse_memory(options.memory)
        parse_aia(options.aia)
        if options.virtio != NO_VIRTIO:
            options.virtio.check()
        machine = Machine(
            isa=options.isa,
            memory=memory,
            harts=options.smp,
            engine=open_engine(options.engine, progress),
            timebase=options.timebase,
            misaligned=options.misaligned,
            virtio=options.virtio,
            tinst=options.tinst,
            aia=options.aia,
            console=console,
        )
        if options.image is not None:
            machine.load(options.image)
        elif options.bios is not None:
            machine.boot_bios(options.bios, options.kernel, options.initrd, options.append)
        else:
            machine.device_tree(options.append)
    return machine


def boot(
    options: BootOptions, console: Console | None = None, progress: Callable[[str], None] | None = None
) -> BootReport:
    """Boot, run to the end, write what was asked for; after a system_reset, of the last start."""
    while (report := _boot_once(options, console, progress)).result.reason == "restart":
        pass
    return report


def _boot_once(options: BootOptions, console: Console | None, progress: Callable[[str], None] | None) -> BootReport:
    if options.log_commits is not None and options.debug.address is not None:
        raise UsageError("--log-commits goes without a debugger", "--log-commits")
    check_recording(options, _programs(options), debugged=options.debug.address is not None)
    machine = make_machine(options, console, progress)
    if options.signature is not None:
        with _usage("--signature"):
            signature_bounds(machine.symbols, options.signature_granularity)
    engine = machine.engine
    trace = asked_trace(options, machine.symbols)
    with (
        output_file(options.log_commits, "--log-commits") as log,
        output_file(options.signature, "--signature") as signature,
    ):
        if log is not None:
            machine.log_commits(log.write)
        watching = watch(machine, machine.harts, options.observe, machine.schedule)
        traps, executed = summed(machine.harts), instructions(machine)

        def source() -> Any:
            from trapline.lab.stat.board import BoardSource

            return BoardSource(machine, options, traps, executed)

        started = time.perf_counter()
        with (
            profiled_beside(options, machine.harts, machine.schedule, lambda: _symbols(options)),
            traced_beside(trace, machine.harts, machine, machine.schedule),
            covered_beside(options, engine, _programs(options), lambda: _symbols(options)),
            debugged(machine, options.debug, progress) as run,
            offered(machine, options.offer, source, guest=False, live=options.observe.live),
        ):
            result, taken = run_and_keep(run, machine.interrupt, options)
            seconds = time.perf_counter() - started - (taken.seconds if taken else 0)
        if signature is not None:
            with behind_result(), _usage("--signature"):
                signature.write(machine.signature(options.signature_granularity))
    levels = instructions(machine)
    levels.subtract(executed)
    table = trap_rows(summed(machine.harts) - traps)
    seen = watching.finish() if watching is not None else None
    counted = {n: v for n, v in levels.items() if v}
    notes = (*machine.virtio.failures(), *machine.engine.notes())
    repeated: tuple[Loop, ...] = ()
    if result.reason in ENDED_FROM_OUTSIDE:
        from trapline.session.loops import loops

        repeated = loops(machine.harts, engine)
    return BootReport(options, result, table, counted, seconds, taken, seen, notes, repeated)


@contextlib.contextmanager
def _usage(option: str) -> Iterator[None]:
    """What an option's value cannot mean is the user's to mend."""
    try:
        yield
    except ValueError as error:
        raise UsageError(str(error), option) from None


def _programs(options: BootOptions) -> tuple[str | None, ...]:
    return options.image, options.bios, options.kernel


def _symbols(options: BootOptions) -> Symbols:
    return program_symbols(_programs(options), (None, "U"))


def instructions(machine: Machine) -> Counter[str]:
    """Return the instructions of each mode, summed over harts."""
    total: Counter[str] = Counter()
    for hart in machine.harts:
        total.update(instructions_by_mode(hart))
    return total
