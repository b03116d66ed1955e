"""`--snapshot`, `--snapshot-at` and `--restore`, for boards and guests alike."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trapline.dataclass import dataclass, replace
from trapline.engine.api import open_engine
from trapline.lab.errors import UsageError
from trapline.lab.output import note_failure
from trapline.people import grouped, read_count
from trapline.session.terminal.watch import Watch

if TYPE_CHECKING:
    from trapline.lab.common_options import CommonOptions
    from trapline.session.terminal.console import Console

_NUMBER = re.compile(r"[+-]?\d[\w.+-]*")  # what is meant to be one, if perhaps not one of ours
_MOST = (1 << 63) - 1
_NOTHING_LEFT = ("exit", "reset", "restart", "panic", "killed", "hung")


@dataclass(frozen=True, slots=True)
class SnapshotOptions:
    """What the command line says about snapshots: the file to write, when, and the file to start from."""

    file: str | None = None
    at: str | None = None
    restore: str | None = None
    trust_files: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """A snapshot that was written: its file, size in bytes, and how long that took."""

    file: str
    size: int
    seconds: float

    def as_data(self) -> dict[str, Any]:
        return {"file": self.file, "bytes": self.size, "seconds": round(self.seconds, 3)}


def moment(text: str) -> int | bytes:
    """Read `--snapshot-at`: a number of instructions (600M, 1_000_000), or text that the console shows."""
    count = read_count(text)
    if count is not None and count <= _MOST:
        return count
    if count is not None or (_NUMBER.fullmatch(text) and not text.isascii()):
        raise UsageError(
            f"--snapshot-at {text!r}: expected a whole number from 0 to {_MOST} (600M), or the console's text"
        )
    if not text:
        raise UsageError("--snapshot-at '' says nothing", remedy="a number of instructions, or text of the console")
    return text.encode().decode("unicode_escape").encode("latin-1") if "\\" in text else text.encode()


def check(options: SnapshotOptions) -> None:
    """Refuse what makes no sense before anything runs."""
    if options.at is not None and options.file is None:
        raise UsageError("--snapshot-at needs --snapshot FILE")
    if options.at is not None:
        moment(options.at)
    if options.trust_files and options.restore is None:
        raise UsageError("--trust-snapshot-files needs --restore FILE")


def restored(
    kind: Any, options: CommonOptions, console: Console | None, progress: Callable[[str], None] | None, **more: Any
) -> Any:
    """Return the Machine or Guest (`kind`) of a snapshot; its error is the user's."""
    engine, virtio, trust = open_engine(options.engine, progress), options.virtio, options.snapshots.trust_files
    try:
        return kind.restore(
            options.snapshots.restore, engine=engine, console=console, virtio=virtio, trust_files=trust, **more
        )
    except (ValueError, MemoryError) as error:
        raise UsageError(str(error) or "there is not enough memory for it", "--restore") from error


def run_and_keep(machine: Any, stop: Callable[[str, str], None], asked: CommonOptions) -> tuple[Any, Taken | None]:
    """Run a Machine or Guest, and write the snapshot that was asked for; `stop(reason, message)` ends a run."""
    options = asked.snapshots
    try:
        return _run_and_keep(machine, stop, options, asked.max_instructions, asked.max_seconds)
    except UsageError:
        raise
    except Exception as error:
        if options.restore is None or os.environ.get("TRAPLINE_DEBUG"):
            raise
        # Each word of a snapshot is one that the machine can have; not every combination is.
        what = f"{options.restore}: no machine gets into the state that it holds ({type(error).__name__}: {error})"
        raise UsageError(what, "--restore", "TRAPLINE_DEBUG=1 shows where it stopped") from error


def _run_and_keep(
    machine: Any,
    stop: Callable[[str, str], None],
    options: SnapshotOptions,
    max_instructions: int | None,
    max_seconds: float | None,
) -> tuple[Any, Taken | None]:
    if options.file is None:
        return machine.run(max_instructions, max_seconds), None
    if options.at is None:
        result = machine.run(max_instructions, max_seconds)
        if result.reason in _NOTHING_LEFT:
            return replace(result, message=f"{result.message}; no snapshot: nothing is left to go on with"), None
        return result, _take(machine, options.file)
    at = moment(options.at)
    if isinstance(at, bytes):
        return _at_text(machine, stop, at, options.file, max_instructions, max_seconds)
    limited = max_instructions is not None and max_instructions < at
    result = machine.run(max_instructions if limited else at, max_seconds)
    if result.reason != "limit" or result.instructions < at:
        return replace(
            result, message=f"{result.message}; no snapshot: it was to be at {grouped(at)} instructions"
        ), None
    return _kept(machine, result, options.file, f"at {grouped(at)} instructions")


def _at_text(
    machine: Any,
    stop: Callable[[str, str], None],
    text: bytes,
    file: str,
    max_instructions: int | None,
    max_seconds: float | None,
) -> tuple[Any, Taken | None]:
    shown = text.decode(errors="replace")
    watch = Watch(machine.console.source, text, lambda: stop("snapshot", f"{file} at {shown!r}"))
    machine.console.source, before = watch, machine.console.source
    try:
        result = machine.run(max_instructions, max_seconds)
    finally:
        machine.console.source = before
    if result.reason != "snapshot":
        return replace(result, message=f"{result.message}; no snapshot: the console never showed {shown!r}"), None
    return _kept(machine, result, file, f"at {shown!r}")


def _kept(machine: Any, result: Any, file: str, when: str) -> tuple[Any, Taken | None]:
    """Write the snapshot that ended the run; say so where that failed, or it would look as if it were there."""
    taken = _take(machine, file)
    message = f"{file} {when}" if taken is not None else f"{file} {when} could not be written"
    return replace(result, reason="snapshot", message=message), taken


def _take(machine: Any, file: str) -> Taken | None:
    started = time.perf_counter()
    from trapline.session.state.snapshot_file import SnapshotError  # with msgspec, not for every start

    try:
        size = machine.snapshot(file)
    except SnapshotError as error:
        note_failure(UsageError(str(error), "--snapshot"))  # behind the result
        return None
    return Taken(file, size, time.perf_counter() - started)
