"""Packages that are made to take all time or all memory are damaged packages."""

from __future__ import annotations

import gzip
import io
import tarfile
import time
from pathlib import Path

import pytest
from fake_archive import pack, tar

from trapline.cli.main import main
from trapline.fetch.deb import Deb
from trapline.lab.errors import UsageError
from trapline.machine.load.packed import PackedReader

MIB = 1 << 20


def member(name: str, data: bytes, size: str | None = None) -> bytes:
    """A member of an ar archive, whose header may say another size."""
    shown = str(len(data)) if size is None else size
    return f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{shown:<10}`\n".encode() + data + b"\n" * (len(data) % 2)


def archive(path: Path, *members: bytes) -> Deb:
    """Write an ar archive."""
    path.write_bytes(b"!<arch>\n" + b"".join(members))
    return Deb(path)


@pytest.mark.parametrize("size", ["-60", "-0", "+5", "1_0", "0x10", "", "9" * 10, "²", "1 2"])
def test_sizes_that_are_none(tmp_path: Path, size: str) -> None:
    """A member's size is decimal digits: none leads back, and none beyond the end."""
    with pytest.raises(UsageError, match=r"damaged: (a member without a size|it has no control.tar|it ends too early)"):
        archive(tmp_path / "x.deb", member("x", b"", size)).control()
    with pytest.raises(UsageError, match="damaged"):
        archive(tmp_path / "y.deb", member("control.tar", tar({"control": b"Package: x\n"}), size)).control()


@pytest.mark.parametrize("suffix", [".xz", ".gz", ".zst"])
def test_contents_that_never_end(tmp_path: Path, suffix: str) -> None:
    """What a package unpacks to is bounded by its own size, and a control file is small."""
    bomb = pack(tar({"control": bytes(2 * MIB)}), suffix)
    with pytest.raises(UsageError, match="damaged: control has 2097152 bytes"):
        archive(tmp_path / "x.deb", member(f"control.tar{suffix}", bomb)).control()
    head = tarfile.TarInfo("./lib/other")
    head.size = 9 * MIB
    archive(tmp_path / "y.deb", member(f"data.tar{suffix}", pack(head.tobuf() + bytes(head.size), suffix)))
    assert not list(Deb(tmp_path / "y.deb").files(lambda name: False))
    with pytest.raises(UsageError, match=r"damaged: .*unpacks to more than 8388608 bytes"):
        list(Deb(tmp_path / "y.deb", least=8 * MIB).files(lambda name: False))


@pytest.mark.parametrize("suffix", [".xz", ".gz", ".zst"])
def test_reading_in_small_pieces(suffix: str) -> None:
    """What unpacks to megabytes at once is handed out in kilobytes without being copied each time."""
    packed = pack(bytes(16 * MIB), suffix)
    kind = {".xz": "xz", ".gz": "gzip", ".zst": "zstd"}[suffix]
    reader, started, count = PackedReader(io.BytesIO(packed), kind), time.process_time(), 0
    while piece := reader.read(10_240):
        count += len(piece)
    assert count == 16 * MIB and time.process_time() - started < 3


def test_a_sparse_file_of_a_terabyte(tmp_path: Path) -> None:
    """A file of holes is larger than its package: none of a kernel's is that."""
    head = tarfile.TarInfo("./lib/hole")
    head.type, head.size = tarfile.GNUTYPE_SPARSE, 0
    block = bytearray(head.tobuf(tarfile.GNU_FORMAT))
    block[483:495] = b"%011o\0" % (1 << 32)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    data = bytes(block) + bytes(1024)
    with pytest.raises(UsageError, match="damaged"):
        list(archive(tmp_path / "x.deb", member("data.tar", data)).files(lambda name: True))


@pytest.mark.no_cover  # no stack is left for whoever measures
def test_a_name_of_names(tmp_path: Path) -> None:
    """Long names that are followed by long names, without end, are no recursion without end."""
    head = tarfile.TarInfo("././@LongLink")
    head.type, head.size = tarfile.GNUTYPE_LONGNAME, 5
    data = (head.tobuf() + b"name".ljust(512, b"\0")) * 5000
    with pytest.raises(UsageError, match="damaged"):
        list(archive(tmp_path / "x.deb", member("data.tar", data)).files(lambda name: True))


def test_fetch_says_it_in_one_line(tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`fetch --from` of such a package ends with exit code 2."""
    archive(tmp_path / "loop.deb", member("x", b"", "-60"))
    assert main(["fetch", "busybox", "--from", str(tmp_path / "loop.deb")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_index_that_never_ends() -> None:
    """An index is unpacked as far as the largest ones go."""
    from trapline.fetch import archive as module

    packed = gzip.compress(bytes(3 * MIB))
    assert len(module._unpacked(packed, "gzip")) == 3 * MIB
    assert module._unpacked(b"plain", "") == b"plain"
    assert 100 * MIB < module._MOST < 1 << 30
    assert io.BytesIO(packed).read(2) == b"\x1f\x8b"
