"""Compressed data, unpacked piece by piece and never further than wanted: how much is in it, nobody knows before.

What Python unpacks itself, and zstd through a library where Python is too old for it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from trapline.machine.load.content import MOST

_PIECE, _FEED = 1 << 20, 64 << 10  # bytes that come out, and go in, at a time
_ZSTD_FEED = 512  # four bytes of it may be a block of 128 KiB
_DICTIONARY = 256 << 20  # bytes of memory for what xz and zstd refer back to
_WINDOW = {"gzip": 31, "zlib": 15}  # of zlib


class Sliced(Protocol):
    """Bytes, or a file of which any can be had."""

    def __len__(self) -> int: ...

    def __getitem__(self, wanted: slice, /) -> bytes: ...


class MissingLibraryError(Exception):
    """Something is compressed with zstd, and nothing here can unpack it."""

    def __init__(self) -> None:
        super().__init__("compressed with zstd, which this Python cannot unpack: pip install 'trapline[zstd]'")


class DamagedError(Exception):
    """Compressed data that does not unpack."""


class TooLargeError(DamagedError):
    """Compressed data that unpacks to more than is wanted."""


def unpack(
    data: Sliced, kind: str, most: int | Callable[[bytes], int] = MOST, start: int = 0, end: int | None = None
) -> bytes:
    """Return the contents of what lies in `data` from `start` to `end`, which are at most `most` bytes long.

    `most` may be asked of the first bytes that come out, which say what kind of file it is. `kind` is gzip, zlib, xz,
    lzma, bzip2 or zstd. DamagedError says what is wrong; TooLargeError, that there is more.
    """
    found: list[bytes] = []
    left = -1
    for piece in _pieces(_View(data, start, len(data) if end is None else end), kind):
        if not found:
            left = most = most(piece) if callable(most) else most
        left -= len(piece)
        if left < 0:
            raise TooLargeError(f"{kind} data that unpacks to more than {most} bytes")
        found.append(piece)
    return b"".join(found)


class PackedReader:
    """A file object that unpacks another one; reading beyond `most` bytes raises TooLargeError."""

    def __init__(self, source: Any, kind: str, most: int = MOST) -> None:
        self._pieces, self._kind = _pieces(source, kind), kind
        self._most, self._left = most, most
        self._rest = memoryview(b"")  # unpacked, and not read yet

    def read(self, size: int = -1) -> bytes:
        """Read unpacked bytes; fewer than `size` at the end only."""
        found, left = [], size if size >= 0 else 1 << 62
        while left and (self._rest or self._more()):
            found.append(self._rest[:left])
            left -= len(found[-1])
            self._rest = self._rest[len(found[-1]) :]
        return b"".join(found)

    def _more(self) -> bool:
        self._rest = memoryview(next(self._pieces, b""))
        self._left -= len(self._rest)
        if self._left < 0:
            raise TooLargeError(f"{self._kind} data that unpacks to more than {self._most} bytes")
        return len(self._rest) != 0


class _View:
    """A file object over part of some bytes, which are not copied whole."""

    def __init__(self, data: Sliced, start: int, end: int) -> None:
        self._data, self._at, self._end = data, start, end

    def read(self, size: int = -1) -> bytes:
        until = self._end if size < 0 else min(self._at + size, self._end)
        piece = bytes(self._data[self._at : until])
        self._at += len(piece)
        return piece


def _pieces(source: Any, kind: str) -> Iterator[bytes]:
    """Yield what a file unpacks to, never empty pieces; the first is asked of the library at once."""
    if kind in _WINDOW:
        return _checked(_inflated(source, _WINDOW[kind]), kind, zlib.error)
    if kind in ("xz", "lzma"):
        import lzma  # this and bz2 would take milliseconds of every start

        return _checked(
            _members(source, lambda: lzma.LZMADecompressor(memlimit=_DICTIONARY), lzma.LZMAError), kind, lzma.LZMAError
        )
    if kind == "bzip2":
        import bz2

        return _checked(_members(source, bz2.BZ2Decompressor, OSError), kind, OSError)
    if kind == "zstd":
        return _zstd(source)
    raise ValueError(f"unknown compression {kind!r}")


def _checked(pieces: Iterator[bytes], kind: str, error_type: type[Exception]) -> Iterator[bytes]:
    try:
        yield from pieces
    except (error_type, EOFError, MemoryError) as error:
        raise DamagedError(f"damaged {kind} data: {error}") from None


def _inflated(source: Any, window: int) -> Iterator[bytes]:
    """zlib's formats; a gzip file is one or more members, with zeros behind them."""
    data = source.read(_FEED)
    while True:
        unpacker = zlib.decompressobj(window)
        full = False  # more may come out of what is in
        while not unpacker.eof:
            if not data and not full and not (data := source.read(_FEED)):
                raise EOFError("it ends too early")
            piece = unpacker.decompress(data, _PIECE)
            data, full = unpacker.unconsumed_tail, len(piece) == _PIECE
            if piece:
                yield piece
        data = unpacker.unused_data
        while data.strip(b"\0") == b"" and (more := source.read(_FEED)):
            data = more
        if window != _WINDOW["gzip"] or not (data := data.lstrip(b"\0")):
            return


def _members(source: Any, make: Callable[[], Any], error: type[Exception]) -> Iterator[bytes]:
    """xz and bzip2: one or more streams; what follows the first and is none is no part of it."""
    data, first = source.read(_FEED), True
    while first or data:
        unpacker = make()
        while not unpacker.eof:
            if unpacker.needs_input and not data and not (data := source.read(_FEED)):
                raise EOFError("it ends too early")
            try:
                piece, data = unpacker.decompress(data, _PIECE), b""
            except error:
                if first:
                    raise
                return
            if piece:
                yield piece
        data, first = unpacker.unused_data.lstrip(b"\0") or source.read(_FEED).lstrip(b"\0"), False


def _zstd(source: Any) -> Iterator[bytes]:
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]  # Python 3.14
    except ImportError:
        pass
    else:
        file = zstd.ZstdFile(source)
        return _checked(iter(lambda: file.read(_PIECE), b""), "zstd", zstd.ZstdError)
    try:
        import zstandard
    except ImportError:
        raise MissingLibraryError from None
    return _checked(_zstd_frames(source, zstandard), "zstd", zstandard.ZstdError)


def _zstd_frames(source: Any, zstandard: Any) -> Iterator[bytes]:
    data = source.read(_ZSTD_FEED)
    while True:
        unpacker = zstandard.ZstdDecompressor(max_window_size=_DICTIONARY).decompressobj()
        while not unpacker.eof:
            if not data and not (data := source.read(_ZSTD_FEED)):
                raise EOFError("it ends too early")
            piece, data = unpacker.decompress(data), b""
            if piece:
                yield piece
        data = unpacker.unused_data or source.read(_ZSTD_FEED)
        if not data:
            return
