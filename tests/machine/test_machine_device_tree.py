"""The flattened device tree, read back by the device tree compiler."""

from __future__ import annotations

import shutil
import struct
import subprocess

import pytest

from trapline.machine.aia import Aia
from trapline.machine.tree.device_tree import BoardTree, board_blob, board_tree, isa_extensions, isa_string
from trapline.machine.tree.fdt import Node, cells64, write_fdt


def _decompile(blob: bytes) -> tuple[str, str]:
    dtc = shutil.which("dtc")
    assert dtc, "the device tree compiler (dtc) is needed"
    done = subprocess.run([dtc, "-I", "dtb", "-O", "dts"], input=blob, capture_output=True, check=True)
    return done.stdout.decode(), done.stderr.decode()


def test_values_round_trip_through_dtc() -> None:
    """Cells, strings, lists, bytes and empty properties come back as written."""
    root = Node("", one=1, text="a", words=["a", "bc"], many=cells64(1 << 40), flag=None)
    root.set("raw", b"\x01\x02\x03")
    root.add(Node("child@1", reg=1))
    text, _ = _decompile(write_fdt(root))
    for line in ("one = <0x01>", 'text = "a"', 'words = "a\\0bc"', "many = <0x100 0x00>", "flag;", "raw = [01 02 03]"):
        assert line in text
    assert "child@1 {" in text


def test_header_has_the_size_and_version() -> None:
    """totalsize counts the padding; version is 17, compatible with 16."""
    blob = write_fdt(Node("", a=1), padding=512)
    magic, total = struct.unpack_from(">II", blob)
    assert (magic, total) == (0xD00DFEED, len(blob))
    assert struct.unpack_from(">II", blob, 20) == (17, 16)


def test_find_walks_paths() -> None:
    """A node is found by its path, and a missing one is a KeyError."""
    tree = board_tree(BoardTree("rv64gc", [(0x8000_0000, 1 << 28)]))
    assert tree.find("/cpus/cpu@0").properties["reg"] == 0
    with pytest.raises(KeyError):
        tree.find("/nothing")


@pytest.mark.parametrize("harts", [1, 3])
@pytest.mark.parametrize("machine_mode", [True, False])
def test_the_board_satisfies_dtc(harts: int, machine_mode: bool) -> None:
    """The compiler's checks (cells, interrupts, names, phandles) find nothing to warn about."""
    board = BoardTree(
        "rv64imafdch_zicboz",
        [(0x8000_0000, 1 << 28)],
        harts,
        bootargs="console=ttyS0",
        initrd=(0x8400_0000, 0x8500_0000),
        machine_mode=machine_mode,
        clint=machine_mode,
        finisher=machine_mode,
    )
    text, warnings = _decompile(board_blob(board))
    assert warnings == ""
    assert 'bootargs = "console=ttyS0"' in text
    assert text.count("cpu@") == harts
    assert ("clint@2000000" in text) == machine_mode


@pytest.mark.parametrize("aia", [Aia("aplic"), Aia("aplic-imsic", 3)])
@pytest.mark.parametrize("machine_mode", [True, False])
def test_the_aia_satisfies_dtc(aia: Aia, machine_mode: bool) -> None:
    """The nodes of APLIC and IMSICs satisfy the compiler."""
    board = BoardTree("rv64gc", [(0x8000_0000, 1 << 28)], 2, machine_mode=machine_mode, clint=machine_mode, aia=aia)
    text, warnings = _decompile(board_blob(board))
    assert warnings == ""
    assert text.count("aplic@") == (2 if machine_mode else 1)
    assert text.count("imsics@") == (int(aia.imsic) * (2 if machine_mode else 1))


def test_isa_words() -> None:
    """An ISA string becomes the words of riscv,isa-extensions, g written out."""
    assert isa_extensions("rv64imac_zba_zbb") == ["i", "m", "a", "c", "zba", "zbb"]
    assert isa_string("rv64gc_sv39_zba") == "rv64imafdc_zicsr_zifencei_zba"
    assert isa_extensions("RV64GC") == ["i", "m", "a", "f", "d", "c", "zicsr", "zifencei"]


def test_the_clock_has_an_interrupt() -> None:
    """Linux's goldfish driver refuses a clock without one."""
    rtc = board_tree(BoardTree("rv64gc", [(0x8000_0000, 1 << 28)])).find("/soc/rtc@101000").properties
    assert (rtc["interrupts"], rtc["interrupt-parent"]) == (11, 2)


def test_the_seed_is_the_same_in_every_run() -> None:
    """A kernel gets randomness at once, and the same each time, so that its run replays."""
    blobs = {board_blob(BoardTree("rv64gc", [(0x8000_0000, 1 << 28)])) for _ in range(2)}
    assert len(blobs) == 1
    seed = board_tree(BoardTree("rv64gc", [(0x8000_0000, 1 << 28)])).find("/chosen").properties["rng-seed"]
    assert isinstance(seed, bytes)
    assert len(seed) == 32
