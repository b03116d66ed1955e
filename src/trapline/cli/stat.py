"""`trapline stat`: what a running `run` or `boot` does now."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

from trapline.cli.numbers import Count, Seconds
from trapline.cli.options import Flag, Json
from trapline.cli.parameter import Parameter

if TYPE_CHECKING:
    from trapline.lab.stat.client import Connection
    from trapline.lab.stat.rates import Line, View

LEAST_INTERVAL = 0.1


def stat(
    pid: int | None = None,
    /,
    *,
    once: Annotated[bool, Parameter(name=("--once", "-1"), negative="")] = False,
    log: Annotated[bool, Parameter(name=("--log", "-l"), negative="")] = False,
    csv: Flag = False,
    json: Json = None,
    fields: Annotated[str | None, Parameter(name=("--fields", "-f"))] = None,
    interval: Annotated[Seconds, Parameter(name=("--interval", "-s"))] = 1.0,
    count: Count | None = None,
    own: Annotated[bool, Parameter(negative="", show=False)] = False,
) -> int:
    """Watch a run or boot: traps by cause, origin and route, rates, costs, exits, vCPUs, hot symbols.

    The keys are those of kvm_stat; h shows them. The run is not slowed by more than 1 %.

    Parameters
    ----------
    pid
        The process of the run; the only one, if not said.
    once
        One table, and out; rates are those of one interval.
    log
        A line each interval.
    csv
        Every counter each interval, as CSV.
    json
        A line of JSON each interval (one with -1), to a file, or - for standard output.
    fields
        Only traps, counters and symbols whose name fits a regular expression.
    interval
        Seconds between two samples, 0.1 or more.
    count
        End behind so many intervals.
    """
    import re

    from trapline.lab.errors import UsageError
    from trapline.lab.stat.rates import named

    if sum((log, csv, json is not None)) > 1:
        raise UsageError("--log, --csv and --json: one of them")
    if not LEAST_INTERVAL <= interval <= 3600:
        raise UsageError(f"--interval {interval:g}: 0.1 to 3600 seconds")
    if count is not None and count < 1:
        raise UsageError(f"--count {count}: 1 or more")
    try:
        wanted = named(fields)
    except re.error as error:
        raise UsageError(f"{fields!r} is no regular expression: {error}", "--fields") from None
    plain = once or log or csv or json is not None
    if not plain:
        return _screen(pid, fields, interval, own=own)
    with _writer(log=log, csv=csv, json=json) as write, contextlib.closing(_chosen(pid)) as connection:
        return _repeat(connection, write, wanted, interval, 1 if once else count)


def _chosen(pid: int | None) -> Connection:
    """Connect to the run that is meant."""
    from trapline.lab.errors import UsageError
    from trapline.lab.stat.client import NONE, connect, described, runs

    if pid is not None:
        return connect(pid)
    found = runs()
    if len(found) == 1:
        return connect(next(iter(found)))
    if not found:
        raise UsageError(NONE, remedy="start trapline run or trapline boot")
    from trapline.views.stat import show_runs
    from trapline.views.terminal import out

    show_runs(out(), described(found))
    raise UsageError("several runs", remedy="trapline stat PID")


def _repeat(
    connection: Connection,
    write: Callable[[View], None],
    wanted: Callable[[Line], bool],
    interval: float,
    count: int | None,
) -> int:
    """Write a view each interval; the first sample is only where rates begin."""
    from trapline.lab.errors import UsageError
    from trapline.lab.stat.client import Gone
    from trapline.lab.stat.rates import Rates

    rates = Rates()
    shown = 0
    try:
        rates.view(connection.ask())
        while count is None or shown < count:
            time.sleep(interval)
            write(rates.view(connection.ask(), wanted))
            shown += 1
    except Gone as gone:
        if not shown or not str(gone).endswith("has ended"):
            raise UsageError(str(gone)) from None
    return 0


@contextlib.contextmanager
def _writer(*, log: bool, csv: bool, json: str | None) -> Iterator[Callable[[View], None]]:
    """Yield what writes a view as it is asked for."""
    from trapline.views import stat as views
    from trapline.views.terminal import out

    def line(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    if json is not None:
        with _json_file(json) as write:
            yield write
    elif csv:
        line(views.csv_head())
        yield lambda view: line(views.csv_lines(view))
    elif log:
        yield lambda view: line(views.log_line(view) + "\n")
    else:
        yield lambda view: views.show_view(out(), view)


@contextlib.contextmanager
def _json_file(path: str) -> Iterator[Callable[[Any], None]]:
    """Yield what writes a view as a line of JSON."""
    import json

    from trapline.lab.errors import UsageError

    with contextlib.ExitStack() as open_files:
        target = sys.stdout if path == "-" else Path(path).open("w", encoding="utf-8")  # noqa: SIM115  (closed by _closed)
        if path != "-":
            open_files.callback(_closed, target)

        def write(view: Any) -> None:
            try:
                target.write(json.dumps(view.as_data()) + "\n")
                target.flush()
            except BrokenPipeError:
                raise
            except OSError as error:
                raise UsageError(f"cannot write {path!r}: {error.strerror}", "--json") from None

        yield write


def _closed(file: IO[str]) -> None:
    """Close a file; what it could not take was said when it was written."""
    with contextlib.suppress(OSError):
        file.close()


def _screen(pid: int | None, fields: str | None, interval: float, *, own: bool) -> int:
    """Watch on a screen of its own."""
    from importlib.util import find_spec

    from trapline.lab.errors import UsageError
    from trapline.lab.stat.client import NONE, connect, runs

    found = runs()
    if own and pid not in found:
        return 0  # the run ended before its view had started: its result follows
    if pid is not None:
        connect(pid).close()
    elif not found:
        raise UsageError(NONE, remedy="start trapline run or trapline boot")
    elif len(found) == 1:
        pid = next(iter(found))
    if find_spec("textual") is None:
        raise UsageError("the full screen needs textual", remedy="pip install 'trapline[watch]', or -1, -l, --csv")
    if not sys.stdout.isatty() or not sys.stdin.isatty():
        raise UsageError("the full screen needs a terminal", remedy="-1, -l, --csv or --json -")
    from trapline.lab.own_screen import ENDS_RUN, ESCAPE
    from trapline.views.stat_screen import StatScreen

    screen = StatScreen(pid, fields=fields or "", interval=interval, own=own)
    screen.run()
    if screen.said and not own:
        print(screen.said)
    return ENDS_RUN if screen.ends_run else ESCAPE if own and screen.escape else 0
