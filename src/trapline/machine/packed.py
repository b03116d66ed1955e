"""Compressed data: what Python unpacks itself, and zstd through a library where Python is too old for it."""

from __future__ import annotations

import gzip
import io
import lzma
import zlib
from typing import Any


class MissingLibraryError(Exception):
    """Something is compressed with zstd, and nothing here can unpack it."""

    def __init__(self) -> None:
        super().__init__("compressed with zstd, which this Python cannot unpack: pip install 'trapline[zstd]'")


class DamagedError(Exception):
    """Compressed data that does not unpack."""


def unpack(data: bytes, kind: str) -> bytes:
    """Return the contents of `data`; `kind` is gzip, xz, lzma or zstd."""
    try:
        if kind == "gzip":
            return gzip.decompress(data)
        if kind in ("xz", "lzma"):
            return lzma.decompress(data)
        if kind == "zstd":
            return _zstd(data)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise DamagedError(f"damaged {kind} data: {error}") from error
    raise ValueError(f"unknown compression {kind!r}")


def _zstd(data: bytes) -> bytes:
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]  # Python 3.14
    except ImportError:
        pass
    else:
        return bytes(zstd.decompress(data))
    try:
        import zstandard
    except ImportError:
        raise MissingLibraryError from None
    unpacker = zstandard.ZstdDecompressor().decompressobj()
    try:
        found = unpacker.decompress(data)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None
    if not unpacker.eof:
        raise EOFError("it ends too early")
    return bytes(found)


def zstd_reader(source: Any) -> Any:
    """Return a file object that unpacks zstd from bytes or from a file; MissingLibraryError if nothing can."""
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]  # Python 3.14
    except ImportError:
        pass
    else:
        return _Reader(zstd.ZstdFile(io.BytesIO(source) if isinstance(source, bytes) else source), zstd.ZstdError)
    try:
        import zstandard
    except ImportError:
        raise MissingLibraryError from None
    return _Reader(zstandard.ZstdDecompressor().stream_reader(source, read_across_frames=True), zstandard.ZstdError)


class _Reader:
    """A library's reader, with its errors as ours."""

    def __init__(self, reader: Any, error: type[Exception]) -> None:
        self._reader, self._error = reader, error

    def read(self, size: int = -1) -> bytes:
        """Read unpacked bytes."""
        try:
            return bytes(self._reader.read(size))
        except (self._error, EOFError) as error:
            raise DamagedError(f"damaged zstd data: {error}") from None
