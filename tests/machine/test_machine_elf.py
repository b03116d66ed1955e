"""ELF, Image and flat files."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from machine_fakes import make_elf

from trapline.lab.replay.elf_file import Part, write_elf
from trapline.machine.load.content import ImageError
from trapline.machine.load.elf import SYMBOL, parse
from trapline.machine.load.image import load_elf, load_program, read_program
from trapline.machine.load.kernel_image import linux_header
from trapline.session.regions import Regions

BASE = 0x8000_0000


def _memory(size: int = 0x10000) -> Regions:
    regions = Regions()
    regions.ram("RAM", BASE, size)
    return regions


def test_segments_entry_and_symbols() -> None:
    """A segment is loaded, its BSS cleared, and symbols are found by name."""
    regions = _memory()
    regions.write(BASE, b"\xff" * 64)
    data = make_elf(b"code", memory_size=16, entry=BASE + 2, symbols={"tohost": BASE + 8})
    loaded = load_elf(regions, parse(data, "p"))
    assert (loaded.entry, loaded.low, loaded.high) == (BASE + 2, BASE, BASE + 16)
    assert regions.read(BASE, 17) == b"code" + bytes(12) + b"\xff"
    assert loaded.elf is not None
    assert loaded.elf.symbols == {"tohost": BASE + 8}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"hello", "p: not an ELF file"),
        (b"\x7fELF\x02\x01", "p: truncated ELF: 6 bytes"),
        (make_elf(b"code")[:50], "p: truncated ELF header: 50 bytes of 64"),
        (make_elf(b"code")[:100], "p: truncated ELF: program headers end at 0x78, the file at 0x64"),
        (make_elf(b"code" * 100)[:200], "p: truncated ELF: segment 0 ends at 0x208, the file at 0xc8"),
        (make_elf(b"code", bits=1), "p: 32-bit ELF: only RV64 runs here"),
        (make_elf(b"code", machine=62), "p: ELF for x86-64 (e_machine 62), not RISC-V (243)"),
        (make_elf(b"code", machine=183, order=2), "p: big-endian ELF: only little-endian RV64 runs here"),
        (make_elf(b"code", kind=1), "p: ELF is a relocatable object, not an executable: link it first"),
        (make_elf(b"code", memory_size=2), "p: ELF segment 0 has more file bytes (0x4) than memory (0x2)"),
    ],
)
def test_defects_have_their_own_messages(data: bytes, message: str) -> None:
    """Each kind of unusable ELF is refused with one line that says what is wrong."""
    with pytest.raises(ImageError) as caught:
        parse(data, "p")
    assert str(caught.value) == message


@pytest.mark.parametrize("entry", [0, BASE - 2, BASE + 16, BASE + 0x10_0000, 1 << 63])
def test_entry_outside_all_segments(entry: int) -> None:
    """A program that would start where nothing was loaded is refused, with its segments."""
    with pytest.raises(ImageError) as caught:
        load_elf(_memory(), parse(make_elf(b"code", memory_size=16, entry=entry), "p"))
    where = "[0x80000000..0x8000000f]"
    assert str(caught.value) == (
        f"p: the ELF's entry {entry:#x} lies in none of its segments, {where}: link it with --entry SYMBOL"
    )


def test_odd_entry() -> None:
    """An entry in the middle of an instruction's first byte pair is refused."""
    with pytest.raises(ImageError, match="entry 0x80000001 is odd"):
        load_elf(_memory(), parse(make_elf(b"code", entry=BASE + 1), "p"))


@pytest.mark.parametrize("entry", [0x1000, 0x1002, BASE, BASE + 2])
def test_entry_by_its_virtual_or_physical_address(entry: int) -> None:
    """Where a segment is linked at another address than it is loaded at, the entry may be either."""
    data = bytearray(make_elf(b"code", entry=entry))
    struct.pack_into("<Q", data, 64 + 16, 0x1000)  # p_vaddr
    assert load_elf(_memory(), parse(bytes(data), "p")).entry == BASE + (entry & 2)


def test_segment_outside_memory_names_both_ranges() -> None:
    """A segment that does not fit is refused with its range and the memory's."""
    elf = parse(make_elf(b"code", memory_size=0x20000), "p")
    with pytest.raises(ImageError, match=r"p: segment \[0x80000000..0x8001ffff\].*RAM: \[0x80000000..0x8000ffff\]"):
        load_elf(_memory(), elf)


def test_the_headers_of_the_file_below_memory() -> None:
    """A program linked with -Ttext at the start of RAM, whose headers the linker put a page before it, is loaded."""
    regions = _memory()
    data = bytearray(make_elf(b"code" * 0x400, BASE))
    struct.pack_into("<QQQQQ", data, 64 + 8, 0, BASE - 0x1000, BASE - 0x1000, 0x1004, 0x1010)  # from offset 0 on
    loaded = load_elf(regions, parse(bytes(data), "p"))
    assert (loaded.entry, loaded.low, loaded.high) == (BASE, BASE, BASE + 0x10)
    assert regions.read(BASE, 4) == data[0x1000:0x1004]
    struct.pack_into("<QQ", data, 64 + 16, BASE - 0x2000, BASE - 0x2000)
    with pytest.raises(ImageError, match=r"segment \[0x7fffe000..0x7ffff00f\] does not fit"):
        load_elf(_memory(), parse(bytes(data), "p"))


def _linux(image_size: int = 0x8000) -> bytes:
    return struct.pack("<IIQQQIIQ8s4sI", 0x6F, 0, 0x20_0000, image_size, 0, 2, 0, 0, b"RISCV\0\0\0", b"RSC\x05", 0)


def test_a_linux_image_occupies_its_declared_size() -> None:
    """The Image header's image_size counts, not the length of the file."""
    assert linux_header(_linux()) == (0x20_0000, 0x8000, 0)
    loaded = load_program(_memory(), _linux(), "Image", BASE + 0x1000)
    assert (loaded.kind, loaded.entry, loaded.high) == ("linux", BASE + 0x1000, BASE + 0x9000)
    with pytest.raises(ImageError, match=r"Image .* does not fit into memory"):
        load_program(_memory(), _linux(0x10000), "Image", BASE + 0x1000)


def test_missing_and_empty_files(tmp_path: Path) -> None:
    """A file that is not there, and one that is empty, are named."""
    with pytest.raises(ImageError, match="nothing: No such file or directory"):
        read_program(tmp_path / "nothing")
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(ImageError, match="the file is empty"):
        read_program(tmp_path / "empty")


@pytest.mark.parametrize("kind", [3, 4])
def test_names_of_files_and_sections_are_no_symbols(kind: int) -> None:
    """An ELF's STT_FILE symbol has the value 0: it would be the name of every address below the program."""
    data = write_elf([Part(BASE, b"code")], {"program.c": 0, "start": BASE}, BASE)
    named = SYMBOL.pack(len("\0.symtab\0.strtab\0"), 0x10, 0, 0xFFF1, 0, 0)
    assert data.count(named) == 1
    assert parse(data.replace(named, named[:4] + bytes([kind]) + named[5:]), "it").symbols == {"start": BASE}
