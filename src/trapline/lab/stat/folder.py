"""Where runs offer themselves to `trapline stat`: one socket each, in a folder that is the user's alone."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

_NAME = re.compile(r"(\d{1,10})\.sock")


class UnsafeFolder(Exception):
    """The folder belongs to someone else, or others may write to it."""


def folder(environment: Mapping[str, str] = os.environ, *, make: bool = False) -> Path:
    """Return the folder: $XDG_RUNTIME_DIR/trapline, or trapline-UID in the folder for temporary files.

    UnsafeFolder: it cannot be made, or is not private. FileNotFoundError: it is not there, and is not to be made.
    """
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    if Path(runtime).is_absolute() and _private(Path(runtime)):
        found = Path(runtime) / "trapline"
    else:
        found = Path(environment.get("TMPDIR") or "/tmp") / f"trapline-{os.getuid()}"
    if make:
        with contextlib.suppress(FileExistsError):
            try:
                found.mkdir(mode=0o700)
            except FileExistsError:
                raise
            except OSError as error:
                raise UnsafeFolder(f"cannot make {str(found)!r}: {error.strerror}") from None
    found.lstat()
    if not _private(found):
        raise UnsafeFolder(f"{str(found)!r} is not a folder of yours alone (owner {os.getuid()}, mode 0700)")
    return found


def _private(path: Path) -> bool:
    """Whether it is a folder (no link) of this user's that nobody else may enter."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


def sockets(of: Path) -> Iterator[tuple[int, Path]]:
    """Yield (process, socket) of the runs that are alive; removes what dead ones have left."""
    for path in sorted(of.iterdir()):
        found = _NAME.fullmatch(path.name)
        if found is None:
            continue
        pid = int(found[1])
        if alive(pid):
            yield pid, path
        else:
            with contextlib.suppress(OSError):
                path.unlink()


def alive(pid: int) -> bool:
    """Whether a process is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return pid < 1 << 31
    return True


@contextlib.contextmanager
def short(path: Path) -> Iterator[str]:
    """Yield a name for a socket that is short enough for its address (107 bytes), however long the path is."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}" if len(os.fsencode(path)) > 100 else str(path)
    finally:
        os.close(descriptor)
