"""Unpacking .deb files (deb(5)): an ar archive with a tar of control data and a tar of files."""

from __future__ import annotations

import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from trapline.lab.errors import UsageError
from trapline.lab.fetch.apt import stanzas
from trapline.machine.packed import DamagedError, MissingLibraryError, zstd_reader

_MAGIC, _HEADER = b"!<arch>\n", 60
_MODES = {".xz": "r|xz", ".gz": "r|gz", ".bz2": "r|bz2", ".zst": "r|", "": "r|"}


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
    """A .deb file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def control(self) -> dict[str, str]:
        """Return the fields of its control file, names in lower case."""
        for name, data in self._files("control.tar", lambda name: name.lstrip("./") == "control"):
            if name == "control":
                return next(stanzas(data.decode("utf-8", "replace")), {})
        raise self._damaged("it has no control file")

    def files(
        self, wanted: Callable[[str], bool], progress: Callable[[int, int], None] = lambda done, total: None
    ) -> Iterator[tuple[str, bytes]]:
        """Yield (path, contents) of the regular files whose path, without ./, is wanted."""
        return self._files("data.tar", wanted, progress)

    def _files(
        self,
        member: str,
        wanted: Callable[[str], bool],
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Iterator[tuple[str, bytes]]:
        try:
            with self.path.open("rb") as file:
                suffix, size = self._seek(file, member)
                part = Part(file, size, lambda done: progress(done, size))
                source: Any = zstd_reader(part) if suffix == ".zst" else part
                with tarfile.open(fileobj=source, mode=_MODES[suffix]) as tar:  # type: ignore[call-overload]
                    for info in tar:
                        name = info.name.removeprefix("./")
                        if info.isreg() and wanted(name):
                            yield name, tar.extractfile(info).read()
        except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, DamagedError) as error:
            raise self._damaged(str(error)) from None
        except MissingLibraryError as error:
            raise UsageError(str(error), str(self.path)) from None

    def _seek(self, file: IO[bytes], member: str) -> tuple[str, int]:
        """Go to a member of the ar archive; return the suffix of its name and its size."""
        if file.read(len(_MAGIC)) != _MAGIC:
            raise UsageError("not a Debian package (no ar archive)", str(self.path))
        while len(header := file.read(_HEADER)) == _HEADER:
            name = header[:16].decode("latin-1").strip().rstrip("/")
            try:
                size = int(header[48:58])
            except ValueError:
                raise self._damaged("a member without a size") from None
            if name.startswith(member):
                suffix = name.removeprefix(member)
                if suffix not in _MODES:
                    raise UsageError(f"{name}: this compression is not supported", str(self.path))
                if file.tell() + size > self.path.stat().st_size:
                    raise self._damaged("it ends too early")
                return suffix, size
            file.seek(size + size % 2, io.SEEK_CUR)
        raise self._damaged(f"it has no {member}")

    def _damaged(self, why: str) -> UsageError:
        return UsageError(f"the package is damaged: {why}", str(self.path))
