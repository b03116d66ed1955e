"""The file of a snapshot: a checked head in JSON, then the checked bytes of memory; written whole or not at all.

    trapline snapshot 1\\n | sha256 of the head | its length (8 bytes) | head (JSON) | payload

The head says how long the payload is, what its sha256 is, and where in it each stretch of memory lies:
pieces of 256 KiB, compressed; those that are all zero are not there.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypedDict

import msgspec

from trapline.named_files import open_input

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

MAGIC = b"trapline snapshot 1\n"
_ANY_MAGIC = b"trapline snapshot "
_HEAD = struct.Struct("<32sQ")
PIECE = 256 << 10
_ZERO = bytes(PIECE)
_LEVEL = 1  # of compression: a snapshot is read more often than it is stored for long


HEAD: dict[str, type] = {
    **dict.fromkeys(("kind", "trapline", "layout"), str),
    **dict.fromkeys(("made_with", "state", "about", "payload"), dict),
    **dict.fromkeys(("harts", "memory"), list),
}


class Stretch(TypedDict):
    """A stretch of memory in the head: pieces are a number and a length in the payload."""

    name: str
    size: int
    pieces: list[tuple[int, int]]


class Payload(TypedDict):
    """What the head says of the payload."""

    size: int
    sha256: str


class SnapshotError(ValueError):
    """A snapshot that cannot be written or restored; the message names the file and what to do."""


def pack(memory: Iterable[tuple[str, memoryview]]) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Compress named stretches of memory; return their descriptions and the pieces of the payload."""
    table: list[dict[str, Any]] = []
    payload: list[bytes] = []
    with _workers() as pool:
        for name, view in memory:
            starts = [at for at in range(0, len(view), PIECE) if not _is_zero(view[at : at + PIECE])]
            packed = list(pool.map(lambda at, v=view: zlib.compress(v[at : at + PIECE], _LEVEL), starts))
            pieces = [[at // PIECE, len(p)] for at, p in zip(starts, packed, strict=True)]
            table.append({"name": name, "size": len(view), "pieces": pieces})
            payload += packed
    return table, payload


def _workers() -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(os.cpu_count() or 1)


def _is_zero(view: memoryview) -> bool:
    return bytes(view) == _ZERO[: len(view)]


def unpack(table: list[dict[str, Any]], payload: memoryview, memory: dict[str, memoryview], name: str) -> None:
    """Fill memory that is zero so far; SnapshotError if the pieces are not those of this memory, each once."""
    jobs: list[tuple[memoryview, memoryview]] = []
    at = 0
    for entry in table:
        view = memory.get(entry["name"])
        if view is None or len(view) != entry["size"]:
            raise SnapshotError(f"{name}: its memory {entry['name']!r} ({entry['size']} bytes) has no place here")
        del memory[entry["name"]]
        last = -1
        for number, length in entry["pieces"]:
            if not last < number < -(-len(view) // PIECE) or not 0 < length <= len(payload) - at:
                raise SnapshotError(f"{name}: a piece of memory that {entry['name']!r} does not have")
            jobs.append((view[number * PIECE : (number + 1) * PIECE], payload[at : at + length]))
            at, last = at + length, number
    if memory or at != len(payload):
        raise SnapshotError(f"{name}: not the memory of this machine")
    _require_memory(sum(len(target) for target, _ in jobs), name)
    with _workers() as pool:
        list(pool.map(_fill, jobs))


def _require_memory(size: int, name: str) -> None:
    """What is compressed in a small file may be more than this host has."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > there:
        raise SnapshotError(f"{name}: its memory holds {size >> 20} MiB, this host has {there >> 20} MiB")


def _fill(job: tuple[memoryview, memoryview]) -> None:
    target, packed = job
    target[:] = inflate(packed, len(target))


def inflate(packed: bytes | memoryview, size: int) -> bytes:
    """Decompress what becomes exactly `size` bytes; ValueError if it does not, before there are more of them."""
    machine = zlib.decompressobj()
    try:
        data = machine.decompress(packed, size + 1)
    except zlib.error as error:
        raise ValueError(f"compressed data that is none: {error}") from None
    if len(data) != size or not machine.eof or machine.unused_data:
        raise ValueError(f"compressed data that is not {size} bytes")
    return data


def write(path: str | Path, head: dict[str, Any], payload: list[bytes]) -> int:
    """Write a snapshot; return its size in bytes. A file comes in one rename, after all of it is on disk.

    What is no regular file (a pipe, a device) is written to and never replaced; a link stays one.
    """
    from hashlib import sha256

    digest = sha256()
    for piece in payload:
        digest.update(piece)
    head = {**head, "payload": {"size": sum(map(len, payload)), "sha256": digest.hexdigest()}}
    text = json.dumps(head, separators=(",", ":")).encode()
    pieces = [MAGIC + _HEAD.pack(sha256(text).digest(), len(text)) + text, *payload]
    try:
        target = Path(path).resolve()
        if target.exists() and not target.is_file():
            with target.open("wb") as out:
                out.writelines(pieces)
        else:
            _replace(target, pieces)
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise SnapshotError(f"cannot write {str(path)!r}: {reason}") from None
    return sum(map(len, pieces))


def _replace(target: Path, pieces: list[bytes]) -> None:
    import tempfile

    _remove_leftovers(target)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.{os.getpid()}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as out:
            out.writelines(pieces)
            out.flush()
            os.fsync(out.fileno())
        Path(name).replace(target)
        _sync_directory(target.parent)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _sync_directory(directory: Path) -> None:
    with contextlib.suppress(OSError):
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove_leftovers(target: Path) -> None:
    """Remove what killed processes left of snapshots of the same name."""
    for part in target.parent.glob(f".{target.name}.*.part"):
        process = part.name[len(target.name) + 2 :].partition(".")[0]
        if process.isdigit() and not Path(f"/proc/{process}").exists():
            part.unlink(missing_ok=True)


def read(path: str | Path) -> tuple[dict[str, Any], memoryview]:
    """Return head and payload, both checked; SnapshotError says what is wrong with the file.

    No more of it is read than its head says, which comes first.
    """
    try:
        with open_input(path) as file:
            return _read(file, path)
    except OSError as error:
        raise SnapshotError(f"{path}: {error.strerror or error}") from None
    except (MemoryError, OverflowError):
        raise SnapshotError(f"{path}: a snapshot that is larger than the memory of this machine") from None


def _read(file: BinaryIO, path: str | Path) -> tuple[dict[str, Any], memoryview]:
    from hashlib import sha256

    start = len(MAGIC) + _HEAD.size
    begin = file.read(start)
    if begin[: len(MAGIC)] != MAGIC:
        if begin[: len(_ANY_MAGIC)] == _ANY_MAGIC:
            raise SnapshotError(f"{path}: a snapshot in another format than this version's: make a new one")
        raise SnapshotError(f"{path}: not a snapshot (trapline boot|run ... --snapshot FILE makes one)")
    if len(begin) < start:
        raise SnapshotError(f"{path}: truncated snapshot: {len(begin)} bytes")
    digest, length = _HEAD.unpack_from(begin, len(MAGIC))
    text = _take(file, length)
    if len(text) < length:
        raise SnapshotError(f"{path}: truncated snapshot: {start + len(text)} of at least {start + length} bytes")
    if sha256(text).digest() != digest:
        raise SnapshotError(f"{path}: damaged snapshot: its head does not match its checksum")
    head = _head(text, path)
    known = head["payload"]
    payload = _take(file, known["size"])
    if len(payload) < known["size"] or file.read(1):
        begins = start + length
        what, there = "truncated", str(begins + len(payload))
        if len(payload) == known["size"]:
            what, there = "overlong", f"more than {there}"
        raise SnapshotError(f"{path}: {what} snapshot: {there} of {begins + known['size']} bytes")
    if sha256(payload).hexdigest() != known["sha256"]:
        raise SnapshotError(f"{path}: damaged snapshot: its memory does not match its checksum")
    return head, memoryview(payload)


def _take(file: BinaryIO, size: int) -> bytes:
    """Read so many bytes, or all that are left; a size that the file only claims takes no memory."""
    status = os.fstat(file.fileno())
    return file.read(min(size, status.st_size) if stat.S_ISREG(status.st_mode) else size)


def _head(text: bytes, path: str | Path) -> dict[str, Any]:
    """Return the head, with everything in it that all snapshots have."""
    try:
        head = json.loads(text)
        if not isinstance(head, dict):
            raise ValueError("not an object")
        for name, kind in HEAD.items():
            if not isinstance(head.get(name), kind):
                raise ValueError(f"no {name}")
        msgspec.convert(head["payload"], Payload)
        msgspec.convert(head["memory"], list[Stretch])
    except (ValueError, RecursionError) as error:
        what = str(error) if isinstance(error, ValueError) else "it is nested too deep"
        raise SnapshotError(f"{path}: damaged snapshot: its head makes no sense ({what[:200]})") from None
    return head
