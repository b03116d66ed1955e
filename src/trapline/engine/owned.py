"""Folders and files that nobody but their owner can have written: what is read from there runs as native code.

As ssh and sudo see it: every folder on the way, every link, and the thing itself belong to this user or to root,
and nobody else may write there; a folder with the sticky bit, such as /tmp, may be on the way.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

OTHERS = stat.S_IWGRP | stat.S_IWOTH
_LINKS = 40  # as many as Linux follows


def distrust(path: Path) -> str:
    """Say in a few words why what stands at `path` cannot be trusted; "" if it can, or is not there yet."""
    at, words, links = Path("/"), list(reversed((Path.cwd() / path).parts[1:])), 0
    found = _of_folder(at, last=not words)
    while words and not found:
        word = words.pop()
        if word == "..":
            at = at.parent
            continue
        here = at / word
        try:
            info = here.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except OSError as error:
            return f"{here}: {error.strerror}"
        if stat.S_ISLNK(info.st_mode):
            links += 1
            target = here.readlink()
            found = _owner(here, info) or ("" if links <= _LINKS else f"{here} leads to itself")
            words += reversed(target.parts[1:] if target.is_absolute() else target.parts)
            at = Path("/") if target.is_absolute() else at
        else:
            found = of(here, info, last=not words)
            at = here
    return found


def _of_folder(path: Path, *, last: bool) -> str:
    try:
        return of(path, path.stat(), last=last)
    except OSError as error:
        return f"{path}: {error.strerror}"


def of(path: Path, info: os.stat_result, *, last: bool = True) -> str:
    """The same for one file or folder alone; in one that is not the `last` of its path the sticky bit will do."""
    sticky = stat.S_ISDIR(info.st_mode) and info.st_mode & stat.S_ISVTX and not last
    if not sticky and info.st_mode & OTHERS:
        return f"others may write to {path} (mode {stat.S_IMODE(info.st_mode):o}; chmod go-w ends that)"
    return _owner(path, info)


def _owner(path: Path, info: os.stat_result) -> str:
    if info.st_uid in (0, os.geteuid()):
        return ""
    return f"{path} belongs to {_name(info.st_uid)}"


def _name(uid: int) -> str:
    import pwd

    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


class DistrustError(PermissionError):
    """What others may have written; `strerror` says who."""


def read(path: Path) -> bytes:
    """Read a file of this user's; DistrustError if others may have written it, another OSError if it cannot be read."""
    with path.open("rb") as file:
        why = of(path, os.fstat(file.fileno()))
        if why:
            raise DistrustError(errno.EACCES, why)
        return file.read()


def make(folder: Path) -> None:
    """Make a folder that is this user's alone, with those above it; OSError, also if others may write to it."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
    why = distrust(missing[0] if missing else folder)
    if why:
        raise DistrustError(errno.EACCES, why)
