"""The compiled image on disk: found by content, so that it can never be stale; written in one rename."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from trapline.digest import sha256
from trapline.engine import owned, stamps
from trapline.engine.kept_files import (
    MOVES,
    cache_directory,
    cache_trouble,
    kept_file,
    read_kept,
    remove_old,
    sealed,
    unsealed,
    write_whole,
)
from trapline.engine.link import Image
from trapline.engine.roots import PACKAGE, files, sources

MAGIC = b"trapline native image 2\n"


NEEDS = ("run", "h.step_end")  # an image without these is none
PATIENCE = 60.0  # seconds to wait for a process that compiles the same


def _say_what_is_not_used(key: str, say: Callable[[str], None]) -> None:
    """One line about the folder, or about files in it that others may have written."""
    if trouble := cache_trouble():
        say(trouble)
        return
    with contextlib.suppress(OSError):
        there = [path for path in cache_directory().iterdir() if key in path.name]
        bad = [why for path in sorted(there) if (why := owned.of(path, path.stat()))]
        if bad:
            more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
            say(f"a file of the cache is not used: {bad[0]}{more}")


def _cpu() -> str:
    try:
        with Path("/proc/cpuinfo").open() as lines:
            for line in lines:
                if line.startswith(("flags", "Features")):
                    return line
    except OSError:
        pass
    import platform

    return platform.processor()


def _compiler() -> str:
    """The version of llvmlite, by the name of its metadata's directory: importlib.metadata takes longer to import."""
    found = importlib.util.find_spec("llvmlite")
    if found is None or found.origin is None:
        return "none"
    package = Path(found.origin).parent
    return ",".join(sorted(p.name for p in package.parent.glob("llvmlite-*.dist-info"))) or str(package)


def key_of(files: Iterable[tuple[str, bytes]]) -> str:
    """Digest of source files, by name and contents in any order, of the compiler and of the host."""
    digest = sha256(MAGIC)
    for name, text in sorted(files):
        digest.update(name.encode() + b"\n" + text)
    digest.update(f"{_compiler()} {os.uname().machine} {sys.platform} {_cpu()}".encode())
    return digest.hexdigest()[:32]


@functools.cache
def image_key() -> str:
    """Digest of everything that the image depends on: the sources, the compiler, the host.

    It is kept, too, with the stamps of all files and folders that it was made from: a start looks at these.
    """
    compiler = stamps.library("llvmlite")
    host = [_cpu(), os.uname().machine, sys.version, compiler]
    path = kept_file(f"key-{zlib.crc32(os.fsencode(PACKAGE)):08x}.bin") if compiler else None
    known = stamps.unpacked(read_kept(path))
    if known is not None and known[0] == host and stamps.unchanged(known[1]):
        return str(known[2])
    before = stamps.stamps([*compiler, *_places({*files(), *(name for name, _ in sources())})])
    key = key_of(sources())
    if path is not None and before is not None:
        with contextlib.suppress(OSError):
            write_whole(path, stamps.packed((host, before, key)))
    return key


def _places(names: Iterable[str]) -> list[str]:
    """The files of these names and every folder on the way to them, whose times show that others have come."""
    files = [PACKAGE / name for name in names]
    return sorted({str(place) for file in files for place in (file, *file.parents) if place.is_relative_to(PACKAGE)})


def read_image(path: Path | None, needs: Iterable[str] = ()) -> Image | None:
    """Return the image in a file; None: there is none, it is damaged, a name lacks, or others may have written it."""
    data = read_kept(path)
    if data is None or not data.startswith(MAGIC):
        return None
    whole = unsealed(data[len(MAGIC) :])
    if whole is None:
        return None
    head, _, code = whole.partition(b"\n")
    symbols = _offsets(head, len(code))
    return None if symbols is None or not symbols.keys() >= set(needs) else Image(code, symbols)


def _offsets(head: bytes, size: int) -> dict[str, int] | None:
    """The offsets of an image's functions: the engine jumps to them, so a whole file with others in it is no image."""
    try:
        fields = json.loads(head)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict) or not all(type(at) is int and 0 <= at < size for at in fields.values()):
        return None
    return fields


def write_image(path: Path, image: Image) -> None:
    """Write the image so that a reader sees all of it or nothing."""
    write_whole(path, MAGIC + sealed(json.dumps(image.symbols).encode() + b"\n" + image.code))


def load_image(progress: Callable[[str], None] = lambda text: None) -> Image:
    """Return the image for these sources and this host, compiling it when it is not on disk."""
    key = image_key()
    _say_what_is_not_used(key, progress)
    path = kept_file(f"native-{key}.bin")
    found = read_image(path, NEEDS)
    if found is not None:
        return found
    if path is None:
        return _compiled(progress)
    with _alone(path.parent, progress):
        found = read_image(path, NEEDS)  # another process may have made it meanwhile
        return found or _keep(path, _compiled(progress), progress)


def _compiled(progress: Callable[[str], None]) -> Image:
    from trapline.engine.build import compile_image

    return compile_image(progress)


@contextlib.contextmanager
def _alone(folder: Path, progress: Callable[[str], None], patience: float = PATIENCE) -> Iterator[None]:
    """Let one process of this folder compile at a time; go on all the same where folders cannot be locked."""
    with contextlib.ExitStack() as opened:
        with contextlib.suppress(OSError):
            owned.make(folder)
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            opened.callback(os.close, handle)
            _lock(handle, progress, patience)
        yield


def _lock(handle: int, progress: Callable[[str], None], patience: float) -> None:
    import fcntl
    import time

    end, said = time.monotonic() + patience, False
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                return None  # the other one may be stopped
        if not said:
            progress("waiting for another process that compiles the engine")
            said = True
        time.sleep(0.05)


def _keep(path: Path, image: Image, progress: Callable[[str], None]) -> Image:
    try:
        write_image(path, image)
        remove_old(path.parent, path)
    except OSError as error:
        progress(f"cannot keep the compiled engine in {path.parent}: {error.strerror} ({MOVES})")
    return image
