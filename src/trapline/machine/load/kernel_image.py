"""What people hand over as a kernel: compressed in several ways, for another machine, or only part of the file.

Linux, Documentation/arch/riscv/boot-image-header.rst; EFI zboot: drivers/firmware/efi/libstub/zboot-header.S;
the PE header: Microsoft, PE Format.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from trapline.machine.load.content import MOST, Content, ImageError

# Two instructions, text_offset, image_size, flags, version, magics.
LINUX_HEADER = struct.Struct("<IIQQQIIQ8s4sI")
LINUX_MAGIC, LINUX_MAGIC2 = b"RISCV\0\0\0", b"RSC\x05"
_LZMA, _OPEN = struct.Struct("<BIQ"), (1 << 64) - 1  # the header of the lzma format: properties, dictionary, size
_SECTION = struct.Struct("<8sIIIIIIHHI")
_PE_RISCV64 = 0x5064
_PE_MACHINES = {
    0x014C: "x86", 0x8664: "x86-64", 0xAA64: "AArch64", 0x01C2: "ARM", 0x5032: "32-bit RISC-V", 0x6264: "LoongArch",
}  # fmt: skip
_FLASH_BLOCK, _FLASH_SEARCH = 0x1000, 4 << 20  # a firmware volume may stand behind padding
_PACKED = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\x5d\0\0": "lzma"}
_NO_PROGRAMS = {
    b"\x02\x21\x4c\x18": "a kernel packed with lz4: unpack it first",
    b"\x04\x22\x4d\x18": "a kernel packed with lz4: unpack it first",
    b"\x89LZO": "a kernel packed with lzo: unpack it first",
    b"\x27\x05\x19\x56": "a U-Boot uImage: give the Linux Image that it was made of",
    b"\xd0\x0d\xfe\xed": "a device tree or FIT image, not a program",
    b"070701": "a cpio archive, not a program: an initramfs is --initrd",
    b"070707": "a cpio archive, not a program: an initramfs is --initrd",
    b"QFI\xfb": "a qcow2 disk image, not a program: a disk is --drive",
    b"!<arch>\n": "a static library or a Debian package, not a program",
    b"PK\x03\x04": "a zip archive, not a program",
}
_ZBOOT = {"gzip": "gzip", "xz": "xz", "xzkern": "xz", "lzma": "lzma", "zstd": "zstd", "zstd22": "zstd"}


def unpacked(data: Content, name: str, most: int | Callable[[bytes], int] = MOST) -> Content:
    """Return the kernel in an EFI zboot image or a compressed file; other bytes as they are.

    It has at most `most` bytes; a function says it from the first ones that come out.
    """
    kind, start, end = _packing(data[: _LZMA.size]), 0, len(data)
    if data[:2] == b"MZ" and data[4:8] == b"zimg" and len(data) >= 64:
        _require_machine(data, name)
        offset, size = struct.unpack("<II", data[8:16])
        called = data[24:56].split(b"\0")[0].decode("latin-1")
        if called not in _ZBOOT:
            raise ImageError(f"{name}: EFI zboot kernel packed with {called!r}, which nothing here unpacks")
        if offset + size > len(data):
            raise ImageError(f"{name}: truncated EFI zboot kernel: {offset + size} bytes declared, {len(data)} there")
        kind, start, end = _ZBOOT[called], offset, offset + size
    if not kind:
        return data
    from trapline.machine.load.packed import DamagedError, MissingLibraryError, TooLargeError, unpack

    try:
        content = unpack(data, kind, most, start, end)
    except TooLargeError as error:
        raise ImageError(f"{name}: {error}: give more --memory if that is what it should be") from None
    except (DamagedError, MissingLibraryError) as error:
        raise ImageError(f"{name}: {error}") from None
    if not content:
        raise ImageError(f"{name}: {kind} data of nothing")
    if _packing(content[: _LZMA.size]):
        raise ImageError(f"{name}: {kind} data that is packed a second time: unpack it once")
    return content


def linux_header(data: Content) -> tuple[int, int, int] | None:
    """Return (text_offset, image_size, flags) if the bytes are a Linux Image for RISC-V."""
    if len(data) < LINUX_HEADER.size:
        return None
    fields = LINUX_HEADER.unpack(data[: LINUX_HEADER.size])
    if fields[8] != LINUX_MAGIC and fields[9] != LINUX_MAGIC2:
        return None
    return fields[2], fields[3], fields[4]


def require_kernel(data: Content, name: str) -> None:
    """Refuse what is a kernel, but not one that can run here, or not all of one; anything else passes."""
    _require_no_flash(data, name)
    head = data[:8]
    for magic, what in _NO_PROGRAMS.items():
        if head.startswith(magic):
            raise ImageError(f"{name}: {what}")
    _require_machine(data, name)
    if linux_header(data) is None:
        if _pe(data) is not None:
            raise ImageError(f"{name}: an EFI application, not a Linux Image: there is no EFI here")
        return
    end = _declared_end(data)
    if end > len(data):
        raise ImageError(f"{name}: truncated Linux Image: its header declares {end} bytes, the file has {len(data)}")


def _require_no_flash(data: Content, name: str) -> None:
    """Refuse a flash image (PI specification, volume 3, firmware volume header: _FVH at offset 40)."""
    if any(data[at + 40 : at + 44] == b"_FVH" for at in range(0, min(len(data), _FLASH_SEARCH), _FLASH_BLOCK)):
        raise ImageError(
            f"{name}: an EDK2 firmware volume, which runs from flash: there is no flash (QEMU's pflash) here; "
            "give OpenSBI with a Linux Image or U-Boot"
        )


def _require_machine(data: Content, name: str) -> None:
    pe = _pe(data)
    other = ""
    if pe is not None:
        machine = int.from_bytes(data[pe + 4 : pe + 6], "little")
        if machine != _PE_RISCV64:
            other = _PE_MACHINES.get(machine, f"another machine ({machine:#x})")
    elif data[56:60] == b"ARM\x64":
        other = "AArch64"
    elif data[0x202:0x206] == b"HdrS":
        other = "x86"
    if other:
        raise ImageError(f"{name}: a kernel for {other}, not for RISC-V (RV64)")


def _packing(head: bytes) -> str:
    """Return how a file that begins so is compressed, "" if it is not."""
    kind = next((kind for magic, kind in _PACKED.items() if head.startswith(magic)), "")
    if kind == "bzip2" and not head[3:4].isdigit():
        return ""
    if kind == "lzma":  # three bytes that code may begin with as well: the size that follows is open, or is one
        if len(head) < _LZMA.size:
            return ""
        _, dictionary, size = _LZMA.unpack(head)
        return kind if dictionary.bit_count() <= 2 and (size == _OPEN or size < 1 << 38) else ""
    return kind


def _pe(data: Content) -> int | None:
    """Return where the PE header is."""
    if data[:2] != b"MZ" or len(data) < 64:
        return None
    at = int.from_bytes(data[60:64], "little")
    return at if data[at : at + 4] == b"PE\0\0" else None


def _declared_end(data: Content) -> int:
    """Return where the file must end by its PE sections, 0 if it has none; image_size counts BSS and says nothing."""
    pe = _pe(data)
    if pe is None or pe + 24 > len(data):
        return 0
    count, optional = int.from_bytes(data[pe + 6 : pe + 8], "little"), int.from_bytes(data[pe + 20 : pe + 22], "little")
    table = pe + 24 + optional
    if table + count * _SECTION.size > len(data):
        return table + count * _SECTION.size
    end = 0
    for at in range(table, table + count * _SECTION.size, _SECTION.size):
        _, _, _, size, start, *_ = _SECTION.unpack(data[at : at + _SECTION.size])
        end = max(end, start + size)
    return end
