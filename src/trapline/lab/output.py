"""What commands write while they run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from trapline.lab.errors import UsageError
from trapline.named_files import require_reader

# Outputs that failed while a guest ran: told behind the result, which is not lost with them.
failed: list[str] = []


def note_failure(error: UsageError) -> None:
    """Have an output that could not be written told at the end of the command."""
    failed.append(error.line())


@contextlib.contextmanager
def behind_result() -> Iterator[None]:
    """Write what stands beside a result: where that fails it is told at the end, and the result is shown."""
    try:
        yield
    except UsageError as error:
        note_failure(error)


@contextlib.contextmanager
def written(path: str, option: str) -> Iterator[None]:
    """Write the file that `option` names; UsageError says why that cannot be."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot write {path!r}: {getattr(error, 'strerror', None) or error}", option) from None


def require_folder(path: str, option: str) -> None:
    """Raise UsageError where the folder that `option` names can neither be written to nor made."""
    there = next((p for p in (Path(path), *Path(path).absolute().parents) if os.path.lexists(p)), Path("/"))
    if not there.is_dir():
        raise UsageError(f"cannot write to {path!r}: {str(there)!r} is no directory", option)
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"cannot write to {path!r}: Permission denied", option)


def require_writable(path: str, option: str) -> None:
    """Raise UsageError where the file that `option` names cannot be written: before hours of running, not after."""
    file = Path(path)
    with written(path, option):
        if file.is_dir():
            raise UsageError(f"cannot write {path!r}: it is a directory", option)
        if not file.parent.is_dir():
            raise UsageError(f"cannot write {path!r}: there is no directory {str(file.parent)!r}", option)
        if not os.access(file if file.exists() else file.parent, os.W_OK):
            raise UsageError(f"cannot write {path!r}: Permission denied", option)
        require_reader(file)


def write_text(text: str, path: str, option: str) -> None:
    """Write a whole file; UsageError where that fails."""
    with written(path, option):
        Path(path).write_text(text, encoding="utf-8")


class OutputFile:
    """A file that a run writes to. When the disk is full the run goes on without it."""

    def __init__(self, file: IO[str], path: str, option: str) -> None:
        self._file, self._path, self._option = file, path, option
        self._lost = False

    def write(self, text: str) -> None:
        """Write text, or nothing once that has failed."""
        if not self._lost:
            try:
                self._file.write(text)
            except OSError as error:
                self._fail(error)

    def close(self) -> None:
        """Write what is left."""
        try:
            self._file.close()
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        if not self._lost:
            note_failure(UsageError(f"{self._path!r} ends early: {error.strerror}", self._option))
        self._lost = True


@contextlib.contextmanager
def output_file(path: str | None, option: str, *, encoding: str = "utf-8") -> Iterator[OutputFile | None]:
    """Open the file that `option` names; None if it names none. In latin-1 each character is a byte."""
    if path is None:
        yield None
        return
    require_writable(path, option)
    with written(path, option):
        file = Path(path).open("w", encoding=encoding)  # noqa: SIM115  (only the opening may fail with UsageError)
    with contextlib.closing(OutputFile(file, path, option)) as output:
        yield output
