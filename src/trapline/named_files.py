"""Files that a user names: no name of a device or of a pipe can take all memory, or wait for ever."""

from __future__ import annotations

import errno
import io
import os
import stat
import time
from pathlib import Path

_NAMELESS = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")  # what a shell gives a program in the place of a file
_EMPTY = "/dev/null"
MOST = 1 << 30  # bytes of a file that has no bound of its own
_PATIENCE, _A_LOOK = 0.5, 0.02  # seconds: how long a pipe may be without a reader, and how often it is asked
_pipes: list[int] = []  # open as long as this process runs: their readers would see an end before anything is written


def open_input(path: str | Path) -> io.BufferedReader:
    """Open a file to read; OSError if there is none, or if it is a directory, a device or a pipe that has a name.

    A pipe that the shell made for this process (`<(command)`) may be read, and so may /dev/null.
    """
    name = str(path)
    descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer lets nobody wait
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
        if not stat.S_ISREG(mode) and name != _EMPTY and not name.startswith(_NAMELESS):
            raise OSError(errno.EINVAL, "not a regular file", name)
        os.set_blocking(descriptor, True)
        return os.fdopen(descriptor, "rb")
    except OSError:
        os.close(descriptor)
        raise


def read_input(path: str | Path, most: int = MOST) -> bytes:
    """Return all bytes of a file as `open_input` opens it; OSError if there are more than `most`."""
    with open_input(path) as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(most + 1) if size <= most else b""
    if size > most or len(data) > most:
        raise OSError(errno.EFBIG, f"more than {most} bytes", str(path))
    return data


def no_file(path: str | Path) -> str:
    """Say why a path names no regular file, or nothing if it does."""
    found = Path(path)
    if found.is_file():
        return ""
    if found.is_dir():
        return "it is a folder, not a file"
    return "it is no regular file" if found.exists() else "there is no such file"


def require_reader(path: str | Path) -> None:
    """Return if `path` is no pipe, or one that some program reads; OSError if nobody does for half a second."""
    until = time.monotonic() + _PATIENCE
    while Path(path).is_fifo():
        try:
            _pipes.append(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
            return
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        if time.monotonic() > until:
            raise OSError(errno.ENXIO, "a pipe that no program reads", str(path))
        time.sleep(_A_LOOK)
