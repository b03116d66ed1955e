"""The cache directory: where files are kept between runs, whom it has to belong to, how they are read and written."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import Mapping
from pathlib import Path

from trapline.digest import sha256
from trapline.engine import owned

MOVES = "TRAPLINE_CACHE names another place"


def cache_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """TRAPLINE_CACHE, or trapline in the user's cache directory; OSError if the user has none.

    As the XDG Base Directory specification says, a relative XDG_CACHE_HOME is ignored.
    """
    own = environment.get("TRAPLINE_CACHE")
    if own:
        return Path(own).absolute()
    base = Path(environment.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else _home(environment) / ".cache") / "trapline"


def _home(environment: Mapping[str, str]) -> Path:
    home = Path(environment.get("HOME", ""))
    if home.is_absolute():
        return home
    import pwd

    with contextlib.suppress(KeyError):
        home = Path(pwd.getpwuid(os.geteuid()).pw_dir)
    if not home.is_absolute():
        raise FileNotFoundError(errno.ENOENT, f"the user has no home directory ({MOVES})")
    return home


@functools.cache
def _judged(folder: Path) -> str:
    return owned.distrust(folder)


def cache_trouble() -> str:
    """Say in one line why the cache directory is not used; "" if it is."""
    try:
        why = _judged(cache_directory())
    except OSError as error:
        return f"no cache: {error.strerror}"
    return f"the cache is not used: {why}; {MOVES}" if why else ""


def kept_file(name: str) -> Path | None:
    """Where a file of the cache is, or would be; None if the directory is not to be used."""
    return None if cache_trouble() else cache_directory() / name


def read_kept(path: Path | None) -> bytes | None:
    """Return what is in a file of the cache; None if it is not there, or others may have written it."""
    try:
        return None if path is None else owned.read(path)
    except OSError:
        return None


def sealed(data: bytes) -> bytes:
    """Bytes behind a line with their digest."""
    return sha256(data).hexdigest().encode() + b"\n" + data


def unsealed(data: bytes) -> bytes | None:
    """What `sealed` sealed, whole; None for all else: nothing of it may be looked at."""
    digest, _, whole = data.partition(b"\n")
    return whole if sha256(whole).hexdigest().encode() == digest else None


def write_whole(path: Path, data: bytes) -> None:
    """Write a file in one rename."""
    import tempfile

    owned.make(path.parent)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".native-")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(data)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def remove_old(directory: Path, keep: Path, limit: int = 16, pattern: str = "native-*.bin") -> None:
    """Keep the newest few files of a kind."""
    others = sorted(directory.glob(pattern), key=lambda p: p.stat().st_mtime, reverse=True)
    for path in [p for p in others if p != keep][limit - 1 :]:
        path.unlink(missing_ok=True)
