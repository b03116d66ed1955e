"""Kernels as people have them: packed, cut short, or for another machine."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from trapline.machine.load.content import ImageError
from trapline.machine.load.image import load_program, read_program
from trapline.session.regions import Regions

BASE = 0x8020_0000
TEXT = 0x400


def linux(machine: int = 0x5064, magic: bytes = b"RSC\x05", size: int = 0x1000) -> bytes:
    """A Linux Image with the PE header of CONFIG_EFI and one section up to `size`."""
    header = struct.pack("<2sHIQQQIIQ8s4sI", b"MZ", 0x106F, 0, 0x20_0000, 0x8000, 0, 2, 0, 0, bytes(8), magic, 64)
    pe = struct.pack("<4sHHIIIHH", b"PE\0\0", machine, 1, 0, 0, 0, 112, 0) + bytes(112)
    section = struct.pack("<8sIIIIIIHHI", b".text", size, TEXT, size - TEXT, TEXT, 0, 0, 0, 0, 0)
    return (header + pe + section).ljust(size, b"\x13")


def zboot(kind: bytes, packed: bytes) -> bytes:
    """An EFI zboot image."""
    head = b"MZ\0\0zimg" + struct.pack("<II", 64, len(packed)) + bytes(8)
    return (head + kind).ljust(64, b"\0") + packed


def load(data: bytes) -> str:
    """Load into a machine's RAM; return what it was taken for."""
    regions = Regions()
    regions.ram("RAM", 0x8000_0000, 4 << 20)
    return load_program(regions, data, "Image", BASE).kind


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "bzip2": bz2.compress,
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
}


@pytest.mark.parametrize("kind", PACKERS)
def test_packed_kernels(tmp_path: Path, kind: str) -> None:
    """A kernel that Linux's build can pack, bare or as EFI zboot, becomes the Image; a damaged one is named."""
    packed = PACKERS[kind](linux())
    path = tmp_path / "kernel"
    for data in (packed, zboot(kind.encode(), packed))[: 1 if kind == "bzip2" else 2]:
        path.write_bytes(data)
        assert read_program(path) == linux()
    path.write_bytes(packed[:-20])
    with pytest.raises(ImageError, match=f"kernel: damaged {kind} data"):
        read_program(path)


@pytest.mark.parametrize("kind", PACKERS)
def test_packed_twice_or_empty(tmp_path: Path, kind: str) -> None:
    """What is packed a second time, or unpacks to nothing, is no program."""
    path = tmp_path / "kernel"
    for inside, says in ((gzip.compress(linux()), "packed a second time"), (b"", f"{kind} data of nothing")):
        path.write_bytes(PACKERS[kind](inside))
        with pytest.raises(ImageError, match=says):
            read_program(path)


def test_code_that_begins_like_lzma_or_bzip2(tmp_path: Path) -> None:
    """Three bytes alone are no compressed kernel: code may begin with them."""
    path = tmp_path / "code"
    for data in (b"\x5d\0\0\0" + b"\x13\0\0\0" * 4, b"BZh" + bytes(40), b"\x5d\0\0"):
        path.write_bytes(data)
        assert read_program(path) == data


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (zboot(b"gzip", b""), "damaged gzip data: it ends too early"),
        (zboot(b"lz4", b"?"), "EFI zboot kernel packed with 'lz4', which nothing here unpacks"),
        (zboot(b"gzip", bytes(99))[:-1], "truncated EFI zboot kernel: 163 bytes declared, 162 there"),
        (zboot(b"zstd", b"?"), "damaged zstd data"),
    ],
)
def test_zboot_that_will_not_do(tmp_path: Path, data: bytes, says: str) -> None:
    """An EFI zboot kernel that cannot be unpacked says why."""
    (tmp_path / "kernel").write_bytes(data)
    with pytest.raises(ImageError, match=says):
        read_program(tmp_path / "kernel")


def test_a_whole_image() -> None:
    """An Image that ends where its PE sections do is loaded."""
    assert load(linux()) == "linux"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (linux()[:-1], "Image: truncated Linux Image: its header declares 4096 bytes, the file has 4095"),
        (linux()[:200], "Image: truncated Linux Image"),
        (linux(0xAA64, b"ARM\x64"), "Image: a kernel for AArch64, not for RISC-V"),
        (linux(0x8664, bytes(4)), "Image: a kernel for x86-64, not for RISC-V"),
        (linux(0x5032), "Image: a kernel for 32-bit RISC-V, not for RISC-V"),
        (linux(0x5064, bytes(4)), "Image: an EFI application, not a Linux Image"),
        (bytes(56) + b"ARM\x64" + bytes(600), "Image: a kernel for AArch64"),
        (bytes(0x202) + b"HdrS" + bytes(600), "Image: a kernel for x86"),
        (b"\x27\x05\x19\x56" + bytes(600), "Image: a U-Boot uImage"),
        (b"\x02\x21\x4c\x18" + bytes(600), "Image: a kernel packed with lz4"),
        (b"\x89LZO" + bytes(600), "Image: a kernel packed with lzo"),
        (b"\xd0\x0d\xfe\xed" + bytes(600), "Image: a device tree or FIT image"),
        (b"070701" + bytes(600), "Image: a cpio archive, .* --initrd"),
        (b"QFI\xfb" + bytes(600), "Image: a qcow2 disk image, .* --drive"),
        (b"!<arch>\n" + bytes(600), "Image: a static library or a Debian package"),
        (b"PK\x03\x04" + bytes(600), "Image: a zip archive"),
        (bytes(40) + b"_FVH" + bytes(600), "Image: an EDK2 firmware volume, .* no flash"),
        (b"\xff" * 0x3000 + bytes(40) + b"_FVH" + bytes(600), "Image: an EDK2 firmware volume"),
    ],
)
def test_images_that_will_not_do(data: bytes, says: str) -> None:
    """A kernel cut short or for another machine is one line, not a guest that dies of illegal instructions."""
    with pytest.raises(ImageError, match=says) as caught:
        load(data)
    assert "\n" not in str(caught.value)
