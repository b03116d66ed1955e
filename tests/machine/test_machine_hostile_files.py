"""Files that are made to take all memory or all time end with one line instead."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import struct
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from machine_fakes import make_elf

from trapline.cli.main import main
from trapline.machine.load.content import ImageError, OpenFile
from trapline.machine.load.elf import parse
from trapline.machine.load.image import MostBytes, load_elf, load_program, most_of_program, read_initrd, read_program
from trapline.machine.load.kernel_image import LINUX_HEADER, unpacked
from trapline.machine.load.packed import DamagedError, PackedReader, TooLargeError, unpack
from trapline.named_files import open_input
from trapline.session.regions import Regions

BASE = 0x8000_0000
MIB = 1 << 20
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "xz": lambda data: lzma.compress(data, preset=0),
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE, preset=0),
    "bzip2": bz2.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


def memory(size: int = MIB) -> Regions:
    """A board's RAM."""
    regions = Regions()
    regions.ram("RAM", BASE, size)
    return regions


def peak(action: Callable[[], object]) -> int:
    """Bytes that Python takes at most for an action that ends with an ImageError or TooLargeError."""
    tracemalloc.start()
    try:
        with pytest.raises((ImageError, TooLargeError)):
            action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", PACKERS)
@settings(max_examples=15, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([0, 1, MIB - 1, MIB, MIB + 1]))
def test_unpacking_in_pieces(kind: str, data: bytes, more: int) -> None:
    """What was packed comes out again, whole or through a file, and one byte less than that is too little room."""
    data += bytes(more)
    packed = PACKERS[kind](data)
    assert unpack(packed, kind) == unpack(memoryview(packed), kind, len(data)) == data
    reader, found = PackedReader(io.BytesIO(packed), kind), b""
    while piece := reader.read(100_000):
        found += piece
    assert found == data
    with pytest.raises(DamagedError):
        unpack(packed[:-1], kind)
    if data:
        with pytest.raises(TooLargeError, match=f"unpacks to more than {len(data) - 1} bytes"):
            unpack(packed, kind, len(data) - 1)


@pytest.mark.parametrize("kind", ["gzip", "xz", "bzip2", "zstd"])
def test_files_of_several_members(kind: str) -> None:
    """Members one behind the other are one file."""
    assert unpack(PACKERS[kind](b"one ") + PACKERS[kind](b"two"), kind) == b"one two"


@pytest.mark.parametrize("kind", PACKERS)
def test_a_bomb_takes_what_is_wanted_and_no_more(kind: str) -> None:
    """Unpacking 32 MiB of zeros into at most 1 MiB takes a few MiB, in whatever way they are packed."""
    bomb = PACKERS[kind](bytes(32 * MIB))
    assert peak(lambda: unpack(bomb, kind, MIB)) < 20 * MIB


def test_a_dictionary_of_gigabytes_is_refused() -> None:
    """An xz or zstd file cannot ask for more memory than 256 MiB to refer back to."""
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}]
    packed = bytearray(lzma.compress(b"x" * 100, format=lzma.FORMAT_ALONE))
    struct.pack_into("<I", packed, 1, 0xC000_0000)
    with pytest.raises(DamagedError, match="damaged lzma data"):
        unpack(bytes(packed), "lzma")
    assert unpack(lzma.compress(b"x" * 100, filters=filters), "xz") == b"x" * 100
    frame = struct.pack("<IBB", 0xFD2F_B528, 0, 0xA8) + b"\1\0\0"  # a window of 2^31 bytes
    with pytest.raises(DamagedError, match="damaged zstd data"):
        unpack(frame, "zstd")


@pytest.mark.parametrize(("head", "most"), [(b"", MIB), (b"\x7fELF", 66 * MIB)])
def test_a_packed_kernel_that_never_ends(tmp_path: Path, head: bytes, most: int) -> None:
    """No more comes out of a kernel file than fits into the machine's RAM; an ELF, which may hold more, has more."""
    path = tmp_path / "bomb"
    path.write_bytes(gzip.compress(head + bytes(70 * MIB)))
    with pytest.raises(ImageError, match=f"gzip data that unpacks to more than {most} bytes: give more --memory"):
        read_program(path, most_of_program(memory()))


def test_a_file_that_never_ends() -> None:
    """What is no regular file is read as far as memory goes, and no further."""
    assert peak(lambda: read_program("/dev/zero", MostBytes(MIB))) < 5 * MIB
    assert peak(lambda: read_initrd("/dev/zero", MIB)) < 5 * MIB


def test_a_sparse_file_of_a_terabyte(tmp_path: Path) -> None:
    """A file that is larger than memory is not read: as an initrd it is refused, as a program it is mapped."""
    path = tmp_path / "sparse"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(ImageError, match=r"the initrd \(over 0x100000 bytes\) does not fit into memory"):
        read_initrd(path, MIB)
    data = read_program(path, MostBytes(MIB))
    assert isinstance(data, OpenFile) and len(data) == 1 << 40


def linux_image(size: int) -> bytes:
    """A Linux Image whose first half is seen in the file."""
    head = LINUX_HEADER.pack(0x6F, 0, 0x20_0000, size, 0, 2, 0, 0, b"RISCV\0\0\0", b"RSC\x05", 0)
    return head + b"\xa5" * (size - len(head))


def test_a_kernel_and_an_initrd_through_pipes() -> None:
    """What a shell puts in the place of a file (`<(command)`) is read whole, though no size is known of it."""
    data = linux_image(MIB)
    read, write = os.pipe()
    with os.fdopen(read, "rb"):
        writer = threading.Thread(target=lambda: os.fdopen(write, "wb").write(data))
        writer.start()
        assert read_program(f"/dev/fd/{read}") == data
        writer.join()
    read, write = os.pipe()
    with os.fdopen(read, "rb"), os.fdopen(write, "wb") as end:
        end.write(b"initrd")
        end.close()
        assert read_initrd(f"/dev/fd/{read}", MIB) == b"initrd"


def test_a_host_without_threads_reads_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large Image is read whole also where no second thread can be had."""
    data = linux_image(8 * MIB)
    (tmp_path / "Image").write_bytes(data)
    content = read_program(tmp_path / "Image")

    def none(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none)
    ours = memory(16 * MIB)
    load_program(ours, content, "p", BASE)
    assert ours.read(BASE, 8 * MIB) == data


@pytest.mark.parametrize("kind", ["image", "elf", "packed"])
def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path, kind: str) -> None:
    """A program file that becomes shorter between its check and its copy is an error of the file."""
    path = tmp_path / "program"
    whole = {"image": linux_image(MIB), "elf": make_elf(b"\xa5" * MIB), "packed": gzip.compress(os.urandom(MIB))}[kind]
    path.write_bytes(whole)
    with open_input(path) as file:
        content = OpenFile(file, "p")
    os.truncate(path, MIB // 2)
    with pytest.raises(ImageError, match="p: the file became shorter while it was read"):
        if kind == "packed":
            unpacked(content, "p")
        else:
            load_program(memory(2 * MIB), content, "p", BASE)


@pytest.mark.parametrize("kind", ["image", "elf"])
def test_a_file_that_is_not_read_whole(tmp_path: Path, kind: str) -> None:
    """What is loaded from an open file piece by piece is what is loaded from its bytes, symbols included."""
    data = bytearray(linux_image(3 * MIB + 5) if kind == "image" else make_elf(bytes(MIB) * 3, symbols={"here": BASE}))
    data[0x1000:] = os.urandom(2 * MIB) + data[2 * MIB + 0x1000 :]
    path = tmp_path / "program"
    path.write_bytes(data)
    with open_input(path) as file:
        content = OpenFile(file, "p")
    ours, theirs = memory(8 * MIB), memory(8 * MIB)
    loaded = [load_program(ours, content, "p", BASE), load_program(theirs, bytes(data), "p", BASE)]
    assert ours.read(BASE, 8 * MIB) == theirs.read(BASE, 8 * MIB) and ours.read(BASE + MIB, 64) != bytes(64)
    if kind == "elf":
        assert [one.elf.symbols for one in loaded if one.elf] == [{"here": BASE}] * 2


def segments(count: int, address: Callable[[int], int], size: int, filled: int = 0) -> bytes:
    """An ELF with many segments, whose bytes are the file's own first ones."""
    head = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1" + bytes(9), 2, 243, 1, BASE, 64, 0, 0, 64, 56, count, 64, 0, 0
    )
    rows = (struct.pack("<IIQQQQQQ", 1, 7, 0, address(n), address(n), filled, size, 0) for n in range(count))
    return head + b"".join(rows)


@pytest.mark.parametrize("step", [0, 0xFFF])
def test_segments_that_overlap_are_refused(step: int) -> None:
    """An ELF cannot have the same memory filled again and again."""
    with pytest.raises(ImageError, match=r"p: ELF segments overlap: \[0x80000000..0x80000fff\] and"):
        parse(segments(65_535, lambda n: BASE + n * step, 0x1000), "p")


def test_segments_in_any_order_that_overlap_are_refused() -> None:
    """An overlap is found between segments that do not follow each other in the file, and named from below."""
    places = [BASE + 0x3000, BASE, BASE + 0x6000, BASE + 0x3800]
    with pytest.raises(ImageError, match=r"\[0x80003000..0x80003fff\] and \[0x80003800..0x800047ff\]"):
        parse(segments(4, lambda n: places[n], 0x1000), "p")
    with pytest.raises(ImageError, match=r"\[0x80000000..0x80000fff\] and \[0x80000800..0x800017ff\]"):
        parse(segments(2, lambda n: BASE + 0x800 * (1 - n), 0x1000), "p")


def test_as_many_segments_as_there_may_be() -> None:
    """65535 segments side by side are loaded as fast as their bytes allow."""
    regions = memory(8 * MIB)
    regions.write(BASE, b"\xff" * (8 * MIB))
    loaded = load_elf(regions, parse(segments(65_535, lambda n: BASE + n * 64, 64, 4), "p"))
    assert regions.read(BASE + 64, 64) == b"\x7fELF" + bytes(60) and loaded.high == BASE + 65_535 * 64


def test_a_segment_of_zeros_takes_no_memory() -> None:
    """BSS as large as RAM is cleared where it is not zero, in pieces."""
    regions = memory(256 * MIB)
    regions.write(BASE + 100 * MIB, b"x")
    tracemalloc.start()
    load_elf(regions, parse(make_elf(b"code", memory_size=256 * MIB), "p"))
    top = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert top < 10 * MIB and regions.read(BASE + 100 * MIB, 1) == b"\0"


def with_symbols(count: int, names: bytes, tables: int = 1, name_at: int = 1) -> bytes:
    """An ELF with symbol tables, all of which are the same bytes."""
    image = make_elf(b"code")
    start = len(image)
    entries = struct.pack("<IBBHQQ", name_at, 0x10, 0, 1, 0x1234, 0) * count
    strings_at = start + len(entries)
    rows = [struct.pack("<IIQQQQIIQQ", 0, 2, 0, 0, start, len(entries), tables, 0, 1, 24)] * tables
    rows.append(struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, strings_at, len(names), 0, 0, 1, 0))
    table_at = strings_at + len(names)
    image = bytearray(image + entries + names + b"".join(rows))
    struct.pack_into("<Q", image, 40, table_at)
    struct.pack_into("<HHH", image, 58, 64, len(rows), 0)
    return bytes(image)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (with_symbols(3, b"\0name\0"), {"name": 0x1234}),
        (with_symbols(20_000, b"\0name\0", tables=60_000), {"name": 0x1234}),
        (with_symbols(50_000, b"\0" + b"x" * MIB), {}),
        (with_symbols(50_000, b"\0" + b"x" * 4000 + b"\0"), {}),
    ],
    ids=["usual", "many-tables", "no-end", "long-names"],
)
def test_symbol_tables_that_are_traps(data: bytes, found: dict[str, int]) -> None:
    """Only one table counts, a name has an end, and a table that is too much is as none."""
    started = time.process_time()
    assert parse(data, "p").symbols == found
    assert time.process_time() - started < 2


def test_the_command_says_it_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A hostile program ends `boot` and `run` with exit code 2 and one line."""
    bomb, elf = tmp_path / "bomb.gz", tmp_path / "elf"
    bomb.write_bytes(gzip.compress(bytes(98 * MIB)))
    elf.write_bytes(segments(65_535, lambda n: BASE, 64 * MIB))
    for command in (
        ["run", str(bomb)],
        ["boot", str(bomb)],
        ["boot", str(elf)],
        ["run", str(elf), "--initrd", "/dev/zero"],
    ):
        assert main([*command, "--memory", "16M"]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and err.startswith("trapline: "), err
