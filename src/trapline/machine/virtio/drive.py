"""`--drive FILE[,ro][,snapshot][,format=raw|qcow2][,serial=TEXT]`: reading it, and opening the image."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from trapline.machine.virtio.disk import SECTOR, Disk, GuardedDisk, Overlay, RawDisk
from trapline.machine.virtio.qcow2 import MAGIC as QCOW2_MAGIC
from trapline.machine.virtio.qcow2 import Qcow2Disk
from trapline.machine.virtio.words import split_words

FORMATS = ("raw", "qcow2")
_QCOW2_NAMES = (".qcow2", ".qcow")
_OTHERS = {b"KDMV": "VMDK", b"# Disk DescriptorFile": "VMDK", b"vhdxfile": "VHDX", b"conectix": "VHD", b"<<< ": "VDI"}
_USAGE = "write FILE[,ro][,snapshot][,format=raw|qcow2][,serial=TEXT]"


@dataclass(frozen=True, slots=True)
class DriveArgument:
    """A disk that the user asked for. `snapshot`: writes stay in memory, the image does not change."""

    file: Path
    read_only: bool = False
    snapshot: bool = False
    format: str | None = None  # None: by the name and the first bytes, which must agree
    serial: str = "trapline"


def parse_drive(text: str) -> DriveArgument:
    """Read the option; a comma in the file's name is written twice."""
    name, *words = split_words(text)
    name = name.removeprefix("file=")
    if not name:
        raise ValueError(f"drive {text!r} names no file: {_USAGE}")
    found: dict[str, str] = {}
    for word in words:
        key, _, value = word.partition("=")
        if word in ("ro", "snapshot"):
            found[word] = word
        elif key in ("format", "serial") and value:
            found[key] = value
        else:
            raise ValueError(f"drive {text!r}: {word!r} is not known ({_USAGE})")
    kind = found.get("format")
    if kind is not None and kind not in FORMATS:
        raise ValueError(f"drive {text!r}: format {kind!r} is not supported (raw and qcow2 are)")
    return DriveArgument(Path(name), "ro" in found, "snapshot" in found, kind, found.get("serial", "trapline"))


def open_drive(drive: DriveArgument) -> Disk:
    """Open the image; ValueError says in one line what is wrong with it."""
    path = drive.file
    try:
        _require_file(path)
        kind = drive.format or _probe(path)
        if kind == "qcow2":
            return _open_qcow2(drive)
        disk = _open_raw(drive)
    except PermissionError:
        hint = "" if drive.read_only or not os.access(path, os.R_OK) else " for writing (add ,ro or ,snapshot)"
        raise ValueError(f"{path}: no permission to open this disk image{hint}") from None
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from None
    if disk.size == 0 or disk.size % SECTOR:
        disk.close()
        raise ValueError(f"{path}: a raw disk image of {disk.size} bytes, which is not a multiple of {SECTOR}")
    return Overlay(disk) if drive.snapshot else disk


def _require_file(path: Path) -> None:
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
        raise ValueError(f"{path}: a disk image must be a file or a block device")


def _open_raw(drive: DriveArgument) -> RawDisk:
    if drive.read_only or drive.snapshot:
        return RawDisk(drive.file, read_only=True)
    if drive.format is None:
        return GuardedDisk(drive.file, (QCOW2_MAGIC, *_OTHERS))
    return RawDisk(drive.file, read_only=False)


def _probe(path: Path) -> str:
    """Return the format of an image whose user named none.

    The first bytes alone do not decide: the guest of a raw disk writes them, and as qcow2 they could name any data.
    """
    with path.open("rb") as file:
        head = file.read(SECTOR)
    called = path.suffix.lower() in _QCOW2_NAMES
    if head[:4] == QCOW2_MAGIC:
        if not called and len(head) == SECTOR:
            raise ValueError(f"{path}: begins like qcow2: add format=qcow2, or format=raw if a guest wrote that")
        return "qcow2"
    if called:
        raise ValueError(f"{path}: not a qcow2 image (no header): add format=raw if it is none")
    for mark, name in _OTHERS.items():
        if head.startswith(mark):
            raise ValueError(f"{path}: a {name} image, which is not supported (qemu-img convert -O raw; or format=raw)")
    return "raw"


def _open_qcow2(drive: DriveArgument) -> Disk:
    if not drive.read_only and not drive.snapshot:
        raise ValueError(
            f"{drive.file}: qcow2 images are read only here (add ,ro, or ,snapshot to keep writes in memory)"
        )
    disk = Qcow2Disk(drive.file)
    if disk.size == 0 or disk.size % SECTOR:
        disk.close()
        raise ValueError(f"{drive.file}: a qcow2 image of {disk.size} bytes, which is not a multiple of {SECTOR}")
    return Overlay(disk) if drive.snapshot else disk
