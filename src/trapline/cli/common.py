"""What several commands do before and after their work."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from trapline.cli.debugging import DEBUGGING, Debugging
from trapline.cli.observing import OBSERVING, Observing
from trapline.cli.options import Machine, Under
from trapline.cli.recording import RECORDING, Recording
from trapline.cli.snapshots import SNAPSHOTS, Snapshots
from trapline.cli.tokens import was_given
from trapline.dataclass import fields, replace

GUEST_RUNS_BY = 0.25  # seconds after the command was parsed

if TYPE_CHECKING:
    from trapline.engine.api import Engine
    from trapline.lab.guest_run import RunOptions
    from trapline.session.terminal.console import Console


def settings(under: Under) -> Any:
    """The lab's settings."""
    from trapline.lab import settings as lab

    return lab.settings(under.policy, under.firmware, under.host_fwft, under.misaligned)


def native(engine: str | Engine = "native") -> Engine:
    """The engine of that name, ready."""
    from trapline.engine.api import open_engine
    from trapline.views.progress import line

    return open_engine(engine, line)


def finish(data: Any, json: str | None, show: Any) -> None:
    """Write JSON where it is wanted, and show the tables unless JSON went to standard output."""
    from trapline.views.data import OutputError, write_json

    if json == "-":
        _to_stdout(lambda: write_json(data, "-"))
        return
    if json is not None:
        try:
            write_json(data, json)
        except OutputError:
            _to_stdout(lambda: _show(show))  # the result is not lost with its file
            raise
    _to_stdout(lambda: _show(show))


def _show(show: Any) -> None:
    from trapline.views.terminal import out

    show(out())


def _to_stdout(write: Callable[[], object]) -> None:
    """Write; where standard output cannot be written the result stands as it is, with its exit code."""
    try:
        write()
        sys.stdout.flush()
    except BrokenPipeError:
        _no_stdout()  # whoever read has gone, by choice
    except OSError as error:
        _lost_stdout(error.strerror or str(error))


def _lost_stdout(reason: str) -> None:
    from trapline.lab import output
    from trapline.lab.errors import UsageError

    _no_stdout()
    lost = UsageError(f"cannot write to standard output: {reason}")
    if lost.line() not in output.failed:
        output.note_failure(lost)


def _no_stdout() -> None:
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def import_beside(*modules: str) -> None:
    """Import modules while the guest runs: what shows its tables need not wait for it, nor they for that."""
    from importlib import import_module
    from threading import Timer

    timer = Timer(GUEST_RUNS_BY, lambda: [import_module(module) for module in modules])
    timer.daemon = True
    timer.start()


@contextlib.contextmanager
def console(json: str | None) -> Iterator[Console]:
    """The terminal as the guest's console; with JSON on standard output, the guest writes to standard error."""
    from trapline.session.terminal.console import READER_GONE, Console, terminal

    with terminal() as own:
        guest = Console(_to_stderr, own.source) if json == "-" else own
        guest.on_stderr = json == "-"
        yield guest
        guest.flush()
    if guest.lost and guest.quit_how != READER_GONE and json != "-":
        _lost_stdout(guest.lost)


def _to_stderr(data: bytes) -> None:
    sys.stderr.buffer.write(data)
    sys.stderr.buffer.flush()


def fetched(word: str) -> Any:
    """The fetched kernel that a word means; None if it is a file, or means none."""
    from pathlib import Path

    if Path(word).exists():
        return None
    from trapline.fetch.store import find_kernel

    return find_kernel(word)


def with_initrd(machine: Machine, kernel: Any) -> Machine:
    """The machine with a fetched kernel's initramfs, unless the user names another; one of an older version is told."""
    from trapline.views.progress import line

    if machine.initrd is None and (remark := kernel.remark()):
        line(remark)
    return replace(machine, initrd=machine.initrd or str(kernel.initrd), append=kernel_arguments(machine))


def kernel_arguments(machine: Machine) -> str:
    """The command line of a fetched kernel: what its console needs, then what the user says."""
    from trapline.fetch.store import APPEND

    own = APPEND.replace("ttyS0", "hvc0") if machine.console == "virtio" else APPEND
    return f"{own} {machine.append}".rstrip()


def checked_nacl(nacl: str | None, *, nested: bool) -> str:
    """The value of --nacl, which goes with --nested; "" if it was not given."""
    from trapline.lab.errors import UsageError
    from trapline.vmm.arguments import parse_nacl

    if nacl is None:
        return ""
    if not nested:
        raise UsageError(f"--nacl {nacl}", remedy="it goes with --nested")
    try:
        parse_nacl(nacl)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return nacl


def run_options(
    guest: str | None,
    under: Under,
    machine: Machine,
    memslot: Sequence[str],
    recording: Recording = RECORDING,
    backing: str = "auto",
    snapshots: Snapshots = SNAPSHOTS,
    observing: Observing = OBSERVING,
    nested: bool = False,
    nacl: str | None = None,
    debugging: Debugging = DEBUGGING,
) -> RunOptions:
    """The options of a run, from what the command line said."""
    from trapline.lab.guest_run import RunOptions

    fixed = {n: was_given(f"--{n}") for n in ("firmware", "host-fwft", "misaligned")}
    snapshots.require_alone(machine, guest=guest, memslot=memslot, **fixed)
    kernel = fetched(guest) if guest is not None else None
    if kernel is not None:
        guest, machine = str(kernel.image), with_initrd(machine, kernel)
    return RunOptions(
        guest=guest,
        settings=settings(under),
        memslot=tuple(memslot),
        backing=backing,
        nested=nested,
        nacl=checked_nacl(nacl, nested=nested),
        new_policy=was_given("--policy"),
        **common_options(machine, recording, snapshots, observing, debugging),
    )


def common_options(
    machine: Machine, recording: Recording, snapshots: Snapshots, observing: Observing, debugging: Debugging
) -> dict[str, Any]:
    """The fields of lab.CommonOptions, from what the command line said."""
    from trapline.lab.common_options import CommonOptions

    said = {**vars(machine), **vars(recording), "isa": machine.isa_or_default(), "virtio": machine.virtio()}
    said |= {"snapshots": snapshots.options(), "observe": observing.options(), "debug": debugging.options()}
    said["trace_filter"] = tuple(recording.trace_filter)
    return {f.name: said[f.name] for f in fields(CommonOptions)}


def run_and_show(run: Callable[[Console, Callable[[str], None]], Any], view: str, json: str | None) -> int:
    """Run with this terminal as the console, show the result by a function of views.run; return the exit code."""
    from trapline.session.terminal.sigint import result_kept
    from trapline.views.progress import line

    import_beside("trapline.views.run", "trapline.views.tables")
    with result_kept():
        with console(json) as terminal:
            report = run(terminal, line)
        from trapline.views import run as views

        newline(report.result.reason, json)
        finish(report.as_data(), json, lambda out: getattr(views, view)(out, report))
        status: int = report.result.exit_status
        return status


def newline(reason: str, json: str | None = None) -> None:
    """Part the guest's last output from the table; they are on standard error where JSON has standard output."""
    stream = sys.stderr if json == "-" else sys.stdout
    if stream.isatty() or reason != "exit":
        with contextlib.suppress(OSError):  # told by what follows
            stream.write("\n")
            stream.flush()
