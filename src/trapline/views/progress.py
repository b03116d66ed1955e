"""Progress on standard error; silent unless a person is watching."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def bar(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """Show a progress bar; call what it yields with (done, total, what is being done)."""
    if not sys.stderr.isatty():
        yield lambda done, total, what: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=None)

        def update(done: int, total: int, what: str) -> None:
            progress.update(task, completed=done, total=total, description=f"{title} {what}"[:50])

        yield update


def line(text: str) -> None:
    """Say one thing that takes a while (the native image is compiled once)."""
    sys.stderr.write(f"trapline: {text}\n")
    sys.stderr.flush()


@contextlib.contextmanager
def transfer() -> Iterator[Callable[[str, int, int], None]]:
    """Show what is being downloaded or unpacked; call what it yields with (what, bytes done, bytes in all)."""
    if not sys.stderr.isatty():
        started: set[str] = set()

        def note(what: str, done: int, total: int) -> None:
            if what not in started:
                started.add(what)
                line(f"{what} ({max(1, total >> 20)} MB)")

        yield note
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(20), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        tasks: dict[str, Any] = {}

        def update(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what[:26], total=total)
            progress.update(tasks[what], completed=done, total=total)

        yield update
