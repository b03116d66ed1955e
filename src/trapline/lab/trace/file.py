"""`--trace FILE`: the traps and returns of a run, in the format that the file's ending names."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import queue
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trapline.dataclass import dataclass, field
from trapline.engine.api import Engine
from trapline.lab.common_options import CommonOptions
from trapline.lab.errors import UsageError
from trapline.lab.output import OutputFile, note_failure, output_file, require_writable
from trapline.lab.symbols import Symbols, read_symbols, symbols_among
from trapline.lab.trace.filter import Filtered, TraceFilter, names_of, parse_filters
from trapline.lab.trace.log_text import LogText, exec_log, parse_log
from trapline.lab.trace.perfetto import TRAPS_A_COUNT
from trapline.lang.state import Hart
from trapline.privilege.causes import cause_name
from trapline.session.observe.trace import MOST_LAST, Traced, Tracer, records

OPTION = "--trace"
COLUMNS = ("hart", "instret", "event", "level", "mode", "cause", "name", "pc", "tval", "tval2")
_LINE = (
    '{"hart": %d, "instret": %d, "event": "%s", "level": "%s", "mode": "%s", "cause": %d, "name": "%s", '
    '"pc": %d, "tval": %d, "tval2": %d}\n'
)
_CSV_LINE = "%d,%d,%s,%s,%s,%d,%s,%d,%d,%d\n"
Write = Callable[[Sequence[Traced]], None]


@dataclass(frozen=True, slots=True)
class Tracing:
    """What the command line says about a trace, checked: the file, how many of the last, and which."""

    path: str | None = None
    last: int | None = None
    wanted: TraceFilter | None = None
    log: frozenset[str] = frozenset()  # items of --log
    log_file: str | None = None
    symbols: Symbols = field(default_factory=Symbols)  # for the names in the log


def tracing(options: CommonOptions, own: Mapping[str, int]) -> Tracing:
    """Check the options; `own` are the program's symbols. UsageError says what is wrong."""
    path, last, filters = options.trace, options.trace_last, options.trace_filter
    if path is None:
        for option, wrong in (("--trace-last", last is not None), ("--trace-filter", bool(filters))):
            if wrong:
                raise UsageError("needs a file", option, "--trace FILE")
    elif Path(path).suffix.lower() not in (*_ENDINGS, ""):
        raise _no_format(path)
    if last is not None and not 0 < last <= MOST_LAST:
        raise UsageError(f"{last} is not in 1..{MOST_LAST}", "--trace-last")
    items, log_file = parse_log(options.log, options.log_file)
    given = read_symbols(options.observe.symbols) if filters or items else Symbols()
    wanted = parse_filters(filters, names_of(own, given) if filters else {})
    return Tracing(path, last, wanted, items, log_file, given or symbols_among(own))


_name = functools.lru_cache(maxsize=256)(cause_name)


def row(traced: Traced) -> tuple[Any, ...]:
    """The values of COLUMNS."""
    name = "" if traced.returns else _name(traced.cause)
    event = "return" if traced.returns else "trap"
    where = traced.level, traced.mode, traced.cause, name, traced.epc, traced.tval, traced.tval2
    return traced.hart, traced.instret, event, *where


class _Nothing:
    """No file was named: there is a log alone."""

    def write(self, found: Sequence[Traced]) -> None:
        """Drop them."""

    def end(self) -> None:
        """Nothing is left."""


class _Lines:
    """A line for each, of JSON as json.dumps would write it or of commas: the writing thread has to keep up."""

    def __init__(self, line: str, head: str, out: OutputFile) -> None:
        self._line, self._out = line, out
        out.write(head)

    def write(self, found: Sequence[Traced]) -> None:
        self._out.write("".join([self._line % row(t) for t in found]))

    def end(self) -> None:
        """Nothing stands at the end."""


class _Chrome:
    """Chrome's trace events, which Perfetto opens: a track for each level of each hart, a slice from trap to return.

    Beside them a counter of each level's traps. A microsecond there is an instruction here.
    """

    def __init__(self, out: OutputFile) -> None:
        self._out, self._first = out, True
        self._known: set[tuple[int, str]] = set()
        self._open: dict[tuple[int, str], int] = {}
        self._counts: dict[tuple[int, str], tuple[int, Traced]] = {}  # traps so far, and the last one
        self._made: list[str] = []
        out.write('{"displayTimeUnit": "ns", "traceEvents": [')

    def write(self, found: Sequence[Traced]) -> None:
        for traced in found:
            track = traced.hart, traced.level
            if track not in self._known:
                self._known.add(track)
                name = f'{{"name": "hart {traced.hart} {traced.level}"}}'
                self._event(traced, "M", f'"name": "thread_name", "args": {name}')
            if not traced.returns:
                self._open[track] = self._open.get(track, 0) + 1
                epc, tval, tval2 = traced.epc, traced.tval, traced.tval2
                args = f'{{"from": "{traced.mode}", "epc": "{epc:#x}", "tval": "{tval:#x}", "tval2": "{tval2:#x}"}}'
                self._event(traced, "B", f'"name": "{_name(traced.cause)}", "args": {args}')
                count = self._counts[track][0] + 1 if track in self._counts else 1
                self._counts[track] = count, traced
                if count % TRAPS_A_COUNT == 1:
                    self._count(track)
            elif self._open.get(track, 0):
                self._open[track] -= 1
                self._event(traced, "E", f'"args": {{"to": "{traced.mode}", "pc": "{traced.epc:#x}"}}')
        self._hand_on()

    def _event(self, traced: Traced, kind: str, more: str) -> None:
        hart = traced.hart + 1
        tid = 10 * hart + ("M", "HS", "VS").index(traced.level)
        self._made.append(f'{{"ph": "{kind}", "pid": {hart}, "tid": {tid}, "ts": {traced.instret}, {more}}}')

    def _hand_on(self) -> None:
        if self._made:
            self._out.write(("\n" if self._first else ",\n") + ",\n".join(self._made))
            self._made, self._first = [], False

    def _count(self, track: tuple[int, str]) -> None:
        """Write how many traps a level has had."""
        count, traced = self._counts[track]
        self._event(traced, "C", f'"name": "traps to {traced.level}", "args": {{"traps": {count}}}')

    def end(self) -> None:
        """Write what each level has come to, and close the list."""
        for track in self._counts:
            self._count(track)
        self._hand_on()
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
        self._parts.append(self._frame([row(t) for t in found]))

    def _frame(self, rows: list[tuple[Any, ...]]) -> Any:
        text = dict.fromkeys(("event", "level", "mode", "name"), self._polars.String)
        large = dict.fromkeys(("cause", "pc", "tval", "tval2", "instret"), self._polars.UInt64)
        types = {**text, **large, "hart": self._polars.Int64}
        return self._polars.DataFrame(rows, schema={name: types[name] for name in COLUMNS}, orient="row")

    def end(self) -> None:
        """Write them all."""
        try:
            self._polars.concat([self._frame([]), *self._parts]).write_parquet(self._path)
        except (OSError, self._polars.exceptions.PolarsError) as error:
            full = "os error 28" in str(error)
            reason = os.strerror(errno.ENOSPC) if full else getattr(error, "strerror", None) or error
            note_failure(UsageError(f"cannot write {self._path!r}: {reason}", OPTION))


_TEXTS: dict[str, Callable[[OutputFile], Any]] = {
    ".jsonl": functools.partial(_Lines, _LINE, ""),
    ".csv": functools.partial(_Lines, _CSV_LINE, ",".join(COLUMNS) + "\n"),
    ".json": _Chrome,
}
_ENDINGS = (*_TEXTS, ".parquet", ".pftrace")


@contextlib.contextmanager
def _opened(path: str | None) -> Iterator[Any]:
    if path is None:
        yield _Nothing()
        return
    ending = Path(path).suffix.lower()
    if ending == ".parquet":
        yield _Parquet(path)
    elif ending == ".pftrace":
        from trapline.lab.trace.perfetto import Perfetto

        with output_file(path, OPTION, encoding="latin-1") as out:
            assert out is not None
            yield Perfetto(out)
    elif ending in _TEXTS:
        with output_file(path, OPTION) as out:
            assert out is not None
            yield _TEXTS[ending](out)
    else:
        raise _no_format(path)


def _no_format(path: str) -> UsageError:
    endings = ".jsonl, .csv, .parquet, or .json or .pftrace for Perfetto"
    return UsageError(f"{path!r} does not say in which format", OPTION, f"its name ends in {endings}")


class _Chosen:
    """What stands before a writer when not everything is wanted: a filter, and the last ones of each hart alone."""

    def __init__(self, options: Tracing, writer: Any) -> None:
        self._writer = writer
        self._filtered = Filtered(options.wanted) if options.wanted is not None else None
        self._last: dict[int, deque[Traced]] | None = None
        if options.last is not None:
            self._last = defaultdict(lambda: deque(maxlen=options.last))

    def write(self, found: Sequence[Traced]) -> None:
        """Write or keep some."""
        wanted = self._filtered.keep(found) if self._filtered is not None else found
        if self._last is None:
            self._writer.write(wanted)
            return
        for traced in wanted:
            self._last[traced.hart].append(traced)

    def end(self) -> None:
        """Write what was kept."""
        if self._last is not None:
            self._writer.write([t for kept in self._last.values() for t in kept])


@dataclass(frozen=True, slots=True)
class Looking:
    """What is to be called now and then while harts run; `line` puts a line of the log behind what came before it."""

    look: Callable[[], None]
    line: Callable[[str], None]
    harts: Sequence[Hart]

    def __call__(self) -> None:
        self.look()

    def around(self, engine: Engine, options: Tracing) -> Engine:
        """Return an engine that tells the log what is executed, or the same one."""
        return exec_log(engine, self.harts, options.symbols, self.line) if "exec" in options.log else engine


def _put(found: list[tuple[int, bytes]] | str, chosen: _Chosen, log: LogText | None) -> None:
    if isinstance(found, str):
        assert log is not None
        log.text(found)
        return
    traps = [t for hart, data in found for t in records(hart, data)]
    chosen.write(traps)
    if log is not None:
        log.write(traps)


@contextlib.contextmanager
def traced(options: Tracing, harts: Sequence[Hart]) -> Iterator[Looking | None]:
    """Trace harts in the block; yields what is to be called now and then, or None if no file is named.

    A thread writes while the harts run. The last entries alone are written at the end.
    """
    path = options.path
    if path is None and not options.log:
        yield None
        return
    with _opened(path) as writer, output_file(options.log_file, "--log") as out:
        log = LogText(options.log, out, options.symbols) if options.log else None
        # A filter and a log have to see everything; without them the ring itself forgets what is not among the last.
        chosen, last = _Chosen(options, writer), options.last if options.wanted is None and log is None else None
        tracer, waiting = Tracer(harts, last), queue.Queue(64)  # type: Tracer, queue.Queue[list[tuple[int, bytes]] | str | None]

        def work() -> None:
            failed = False
            while (found := waiting.get()) is not None:
                try:
                    if not failed:
                        _put(found, chosen, log)
                except Exception as error:
                    failed = True
                    what = f"{path!r}" if path is not None else "the log"
                    note_failure(UsageError(f"{what} ends early: {error or type(error).__name__}", OPTION))

        thread = threading.Thread(target=work, name="trace", daemon=True)
        thread.start()

        def look() -> None:
            if last is None and (found := tracer.take()):
                waiting.put(found)

        def line(text: str) -> None:
            look()
            waiting.put(text)

        try:
            yield Looking(look, line, harts)
        finally:
            tracer.end()
            waiting.put(tracer.take())
            waiting.put(None)
            thread.join()
            chosen.end()
            writer.end()
            if log is not None:
                log.end()
            if tracer.lost:
                note_failure(UsageError(f"{path!r} lacks {tracer.lost} traps and returns: too many at once", OPTION))


def both(first: Callable[[], None] | None, second: Callable[[], None]) -> Callable[[], None]:
    """Call one after the other."""

    def call() -> None:
        if first is not None:
            first()
        second()

    return call
