"""What commands write while they run: files, and numbers for people."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from trapline.lab.errors import UsageError


def grouped(value: float) -> str:
    """Return a number for people: rounded to one, a space between thousands."""
    return f"{round(value):,}".replace(",", " ")


@contextlib.contextmanager
def output_file(path: str | None, option: str) -> Iterator[IO[str] | None]:
    """Open the file that `option` names; None if it names none."""
    if path is None:
        yield None
        return
    try:
        file = Path(path).open("w", encoding="utf-8")  # noqa: SIM115  (only the opening may fail with UsageError)
    except OSError as error:
        raise UsageError(f"cannot write {path!r}: {error.strerror}", option) from None
    with file:
        yield file
