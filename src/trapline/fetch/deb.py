"""Unpacking .deb files (deb(5)): an ar archive with a tar of control data and a tar of files."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from trapline.fetch.apt import stanzas
from trapline.lab.errors import UsageError
from trapline.machine.load.packed import DamagedError, MissingLibraryError, PackedReader
from trapline.named_files import open_input

_MAGIC, _HEADER = b"!<arch>\n", 60
_KINDS = {".xz": "xz", ".gz": "gzip", ".bz2": "bzip2", ".zst": "zstd", "": ""}
_CONTROL = 1 << 20  # bytes of a control file
_GROWS, _LEAST = 20, 256 << 20  # times its size, or bytes, that a package unpacks to at most


class Part(io.RawIOBase):
    """A stretch of a file, read from its start; `progress(done)` hears how far."""

    def __init__(self, file: IO[bytes], size: int, progress: Callable[[int], None] = lambda done: None) -> None:
        super().__init__()
        self._file, self._size, self._left, self._progress = file, size, size, progress

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as the stretch goes."""
        data = self._file.read(min(len(buffer), self._left))
        buffer[: len(data)] = data
        self._left -= len(data)
        self._progress(self._size - self._left)
        return len(data)


class Deb:
    """A .deb file, which unpacks to no more than `least` bytes, or a number of times its size if that is more."""

    def __init__(self, path: Path, *, least: int = _LEAST) -> None:
        self.path, self._least = path, least

    def control(self) -> dict[str, str]:
        """Return the fields of its control file, names in lower case."""
        for name, data in self._files("control.tar", lambda name: name.lstrip("./") == "control", _CONTROL):
            if name == "control":
                return next(stanzas(data.decode("utf-8", "replace")), {})
        raise self._damaged("it has no control file")

    def files(
        self, wanted: Callable[[str], bool], progress: Callable[[int, int], None] = lambda done, total: None
    ) -> Iterator[tuple[str, bytes]]:
        """Yield (path, contents) of the regular files whose path, without ./, is wanted."""
        return self._files("data.tar", wanted, self._least, progress)

    def _files(
        self,
        member: str,
        wanted: Callable[[str], bool],
        largest: int,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Iterator[tuple[str, bytes]]:
        try:
            with open_input(self.path) as file:
                suffix, size = self._seek(file, member)
                part = Part(file, size, lambda done: progress(done, size))
                most = max(self._least, _GROWS * size)
                source: Any = PackedReader(part, _KINDS[suffix], most) if suffix else part
                with tarfile.open(fileobj=source, mode="r|") as tar:
                    for info in tar:
                        name = info.name.removeprefix("./")
                        if not info.isreg() or not wanted(name):
                            continue
                        if info.issparse() or info.size > largest:
                            raise self._damaged(f"{name} has {info.size} bytes")
                        contents = tar.extractfile(info)
                        assert contents is not None
                        yield name, contents.read()
        except (tarfile.TarError, EOFError, DamagedError, ValueError, OverflowError, RecursionError) as error:
            raise self._damaged(str(error)) from None
        except MissingLibraryError as error:
            raise UsageError(str(error), str(self.path)) from None

    def _seek(self, file: IO[bytes], member: str) -> tuple[str, int]:
        """Go to a member of the ar archive; return the suffix of its name and its size."""
        if file.read(len(_MAGIC)) != _MAGIC:
            raise UsageError("not a Debian package (no ar archive)", str(self.path))
        while len(header := file.read(_HEADER)) == _HEADER:
            name = header[:16].decode("latin-1").strip().rstrip("/")
            digits = header[48:58].rstrip(b" ")
            if not digits.isdigit():
                raise self._damaged("a member without a size")
            size = int(digits)
            if name.startswith(member):
                suffix = name.removeprefix(member)
                if suffix not in _KINDS:
                    raise UsageError(f"{name}: this compression is not supported", str(self.path))
                if file.tell() + size > self.path.stat().st_size:
                    raise self._damaged("it ends too early")
                return suffix, size
            file.seek(size + size % 2, io.SEEK_CUR)
        raise self._damaged(f"it has no {member}")

    def _damaged(self, why: str) -> UsageError:
        return UsageError(f"the package is damaged: {why}", str(self.path))
