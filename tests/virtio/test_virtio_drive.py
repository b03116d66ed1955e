"""`--drive`: what users write, and what can be wrong with an image."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from qcow2_image import CLUSTER, qcow2

from trapline.machine.virtio.drive import DriveArgument, open_drive, parse_drive

TWO = {0: b"first", 3: b"fourth"}


def test_options_are_read() -> None:
    """File, ro, snapshot, format and serial; a comma in a name is doubled; file= may stand before it."""
    assert parse_drive("a.img") == DriveArgument(Path("a.img"))
    assert parse_drive("file=a,,b.img,ro,format=raw,serial=X1") == DriveArgument(
        Path("a,b.img"), read_only=True, format="raw", serial="X1"
    )
    assert parse_drive("a,snapshot").snapshot


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no file"),
        (",ro", "names no file"),
        ("a,rw", "'rw' is not known"),
        ("a,format=", "'format=' is not known"),
        ("a,format=vmdk", "format 'vmdk' is not supported"),
    ],
)
def test_wrong_options_are_named(text: str, message: str) -> None:
    """The message names the word that is wrong."""
    with pytest.raises(ValueError, match=message):
        parse_drive(text)


def failure(drive: DriveArgument) -> str:
    """What opening says, in one line."""
    with pytest.raises(ValueError) as caught:
        open_drive(drive)
    assert "\n" not in str(caught.value) and str(drive.file) in str(caught.value)
    return str(caught.value)


def test_missing_and_odd_files(tmp_path: Path) -> None:
    """No file, a folder, an empty file and one that is not whole sectors are refused."""
    odd = tmp_path / "odd.img"
    odd.write_bytes(bytes(1000))
    empty = tmp_path / "empty.img"
    empty.write_bytes(b"")
    assert "No such file" in failure(DriveArgument(tmp_path / "none.img"))
    assert "must be a file" in failure(DriveArgument(tmp_path))
    assert "1000 bytes, which is not a multiple of 512" in failure(DriveArgument(odd))
    assert "0 bytes" in failure(DriveArgument(empty))


@pytest.mark.parametrize(("head", "name"), [(b"KDMV", "VMDK"), (b"vhdxfile", "VHDX"), (b"<<< Oracle", "VDI")])
def test_other_formats_are_named(tmp_path: Path, head: bytes, name: str) -> None:
    """An image of another format is recognised, unless the user insists on raw."""
    path = tmp_path / "disk"
    path.write_bytes(head.ljust(4096, b"\0"))
    assert f"a {name} image" in failure(DriveArgument(path))
    open_drive(DriveArgument(path, format="raw")).close()


def test_an_image_is_used_by_one_machine(tmp_path: Path) -> None:
    """Two writers of one image are refused; readers may share it."""
    path = tmp_path / "disk"
    path.write_bytes(bytes(512))
    disk = open_drive(DriveArgument(path))
    assert "another machine" in failure(DriveArgument(path))
    disk.close()
    disks = [open_drive(DriveArgument(path, read_only=True)) for _ in range(2)]
    assert "another machine" in failure(DriveArgument(path))
    for disk in disks:
        disk.close()


def test_permissions(tmp_path: Path) -> None:
    """Without write permission the message says what would work."""
    path = tmp_path / "disk"
    path.write_bytes(bytes(512))
    path.chmod(0o444)
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from trapline.machine.virtio.drive import *\n"
        "os.chdir(sys.argv[1])\n"
        "os.getuid() or (os.setgid(65534), os.setuid(65534))\n"
        "try: open_drive(DriveArgument(Path('disk')))\n"
        "except ValueError as error: print(error)\n"
    )
    tmp_path.chmod(0o755)
    environment = {"PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "disk: no permission to open this disk image for writing (add ,ro or ,snapshot)\n"


def test_qcow2_is_read(tmp_path: Path) -> None:
    """Allocated clusters give their bytes, others zero; snapshot makes the disk writable."""
    pytest.importorskip("pyqcow")
    path = tmp_path / "disk.qcow2"
    path.write_bytes(qcow2(TWO, 5 * CLUSTER))
    assert "read only here" in failure(DriveArgument(path))
    disk = open_drive(DriveArgument(path, read_only=True))
    assert disk.size == 5 * CLUSTER and disk.read_only
    data = bytearray(5 * CLUSTER)
    disk.read(0, [memoryview(data)])
    assert data[:5] == b"first" and data[3 * CLUSTER :][:6] == b"fourth" and data.count(0) == len(data) - 11
    disk.close()
    disk = open_drive(DriveArgument(path, snapshot=True))
    disk.write(CLUSTER, [memoryview(b"new" + bytes(509))])
    disk.read(0, [memoryview(data)])
    assert data[:5] == b"first" and data[CLUSTER:][:3] == b"new"
    disk.close()


@pytest.mark.parametrize("length", [2 * CLUSTER, 4 * CLUSTER + 100, 5 * CLUSTER + 512, 6 * CLUSTER])
def test_a_truncated_qcow2_is_refused(tmp_path: Path, length: int) -> None:
    """An image that ends before its tables or its data do is named as truncated."""
    path = tmp_path / "disk.qcow2"
    path.write_bytes(qcow2(TWO, 5 * CLUSTER)[:length])
    assert "truncated" in failure(DriveArgument(path, read_only=True))


def test_odd_qcow2_images_are_refused(tmp_path: Path) -> None:
    """A header cut short, an unknown version, a backing file: each is named."""
    path = tmp_path / "disk.qcow2"
    for data, message in (
        (b"QFI\xfb" + bytes(20), "no header"),
        (qcow2({}, CLUSTER, version=4), "version 4"),
        (qcow2({}, CLUSTER, backing=512), "backing file"),
    ):
        path.write_bytes(data)
        assert message in failure(DriveArgument(path, read_only=True))
    compressed = bytearray(qcow2(TWO, 5 * CLUSTER))
    compressed[4 * CLUSTER] |= 0x40
    path.write_bytes(compressed)
    assert "compressed clusters" in failure(DriveArgument(path, read_only=True))
    path.write_bytes(bytes(4096))
    assert "no header" in failure(DriveArgument(path, read_only=True, format="qcow2"))
