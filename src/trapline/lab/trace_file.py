"""`--trace FILE`: the traps and returns of a run, in the format that the file's ending names."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from trapline.lab.errors import UsageError
from trapline.lab.output import OutputFile, note_failure, output_file, require_writable
from trapline.lang.state import Hart
from trapline.machine.trace import MOST_LAST, Traced, Tracer, records
from trapline.privilege.causes import cause_name

OPTION = "--trace"
COLUMNS = ("hart", "instret", "event", "level", "mode", "cause", "name", "pc", "tval", "tval2")
Write = Callable[[Sequence[Traced]], None]


def row(traced: Traced) -> tuple[Any, ...]:
    """The values of COLUMNS."""
    name = "" if traced.returns else cause_name(traced.cause)
    event = "return" if traced.returns else "trap"
    where = traced.level, traced.mode, traced.cause, name, traced.epc, traced.tval, traced.tval2
    return traced.hart, traced.instret, event, *where


class _Lines:
    """JSON lines."""

    def __init__(self, out: OutputFile) -> None:
        self._out = out

    def write(self, found: Sequence[Traced]) -> None:
        """Write some."""
        self._out.write("".join(json.dumps(dict(zip(COLUMNS, row(t), strict=True))) + "\n" for t in found))

    def end(self) -> None:
        """Nothing stands at the end."""


class _Csv:
    """Comma-separated values with a head."""

    def __init__(self, out: OutputFile) -> None:
        self._out = out
        out.write(",".join(COLUMNS) + "\n")

    def write(self, found: Sequence[Traced]) -> None:
        """Write some."""
        self._out.write("".join(",".join(map(str, row(t))) + "\n" for t in found))

    def end(self) -> None:
        """Nothing stands at the end."""


class _Chrome:
    """Chrome's trace events, which Perfetto opens: a track for each level of each hart, a slice from trap to return.

    A microsecond there is an instruction here.
    """

    def __init__(self, out: OutputFile) -> None:
        self._out, self._first = out, True
        self._known: set[tuple[int, str]] = set()
        self._open: dict[tuple[int, str], int] = {}
        out.write('{"displayTimeUnit": "ns", "traceEvents": [')

    def write(self, found: Sequence[Traced]) -> None:
        """Write some."""
        for traced in found:
            track = traced.hart, traced.level
            if track not in self._known:
                self._known.add(track)
                self._event(traced, "M", name="thread_name", args={"name": f"hart {traced.hart} {traced.level}"})
            if not traced.returns:
                self._open[track] = self._open.get(track, 0) + 1
                args = {
                    "from": traced.mode,
                    "epc": hex(traced.epc),
                    "tval": hex(traced.tval),
                    "tval2": hex(traced.tval2),
                }
                self._event(traced, "B", name=cause_name(traced.cause), args=args)
            elif self._open.get(track, 0):
                self._open[track] -= 1
                self._event(traced, "E", args={"to": traced.mode, "pc": hex(traced.epc)})

    def _event(self, traced: Traced, kind: str, **more: Any) -> None:
        level = ("M", "HS", "VS").index(traced.level)
        event = {
            "ph": kind,
            "pid": traced.hart + 1,
            "tid": 10 * (traced.hart + 1) + level,
            "ts": traced.instret,
            **more,
        }
        self._out.write(("\n" if self._first else ",\n") + json.dumps(event))
        self._first = False

    def end(self) -> None:
        """Close the list."""
        self._out.write("\n]}\n")


class _Parquet:
    """One Parquet file, which is written at the end."""

    def __init__(self, path: str) -> None:
        require_writable(path, OPTION)
        try:
            import polars
        except ImportError:
            remedy = "pip install 'trapline[plot]', or .csv, .jsonl"
            raise UsageError(f"{path!r}: Parquet needs polars", OPTION, remedy) from None
        self._polars: Any = polars
        self._path, self._parts = path, []  # type: str, list[Any]

    def write(self, found: Sequence[Traced]) -> None:
        """Keep some."""
        large = dict.fromkeys(("cause", "pc", "tval", "tval2", "instret"), self._polars.UInt64)
        rows = [row(t) for t in found]
        self._parts.append(self._polars.DataFrame(rows, schema=list(COLUMNS), schema_overrides=large, orient="row"))

    def end(self) -> None:
        """Write them all."""
        try:
            (self._polars.concat(self._parts) if self._parts else self._polars.DataFrame()).write_parquet(self._path)
        except OSError as error:
            note_failure(UsageError(f"cannot write {self._path!r}: {error.strerror or error}", OPTION))


_TEXTS: dict[str, Callable[[OutputFile], Any]] = {".jsonl": _Lines, ".csv": _Csv, ".json": _Chrome}


@contextlib.contextmanager
def _opened(path: str) -> Iterator[Any]:
    ending = Path(path).suffix.lower()
    if ending == ".parquet":
        yield _Parquet(path)
    elif ending in _TEXTS:
        with output_file(path, OPTION) as out:
            assert out is not None
            yield _TEXTS[ending](out)
    else:
        endings = ".jsonl, .csv, .parquet, or .json for Perfetto"
        raise UsageError(f"{path!r} does not say in which format", OPTION, f"its name ends in {endings}")


@contextlib.contextmanager
def traced(path: str | None, last: int | None, harts: Sequence[Hart]) -> Iterator[Callable[[], None] | None]:
    """Trace harts in the block; yields what is to be called now and then, or None if no file is named.

    A thread writes while the harts run. With `last` only the last entries of each hart are written, at the end.
    """
    if path is None:
        if last is not None:
            raise UsageError("--trace-last needs a file", "--trace-last", "--trace FILE")
        yield None
        return
    if last is not None and not 0 < last <= MOST_LAST:
        raise UsageError(f"{last} is not in 1..{MOST_LAST}", "--trace-last")
    with _opened(path) as writer:
        tracer, waiting = Tracer(harts, last), queue.Queue(64)  # type: Tracer, queue.Queue[list[tuple[int, bytes]] | None]

        def work() -> None:
            failed = False
            while (found := waiting.get()) is not None:
                try:
                    if not failed:
                        writer.write([t for hart, data in found for t in records(hart, data)])
                except Exception as error:
                    failed = True
                    note_failure(UsageError(f"{path!r} ends early: {error or type(error).__name__}", OPTION))

        thread = threading.Thread(target=work, name="trace", daemon=True)
        thread.start()

        def look() -> None:
            if last is None and (found := tracer.take()):
                waiting.put(found)

        try:
            yield look
        finally:
            tracer.end()
            waiting.put(tracer.take())
            waiting.put(None)
            thread.join()
            writer.end()
            if tracer.lost:
                note_failure(UsageError(f"{path!r} lacks {tracer.lost} traps and returns: too many at once", OPTION))


def both(first: Callable[[], None] | None, second: Callable[[], None]) -> Callable[[], None]:
    """Call one after the other."""

    def call() -> None:
        if first is not None:
            first()
        second()

    return call
