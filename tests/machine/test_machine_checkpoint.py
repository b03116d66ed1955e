"""Checkpoints of boards: every run from one is the same, on both engines, with devices, changed code and harts."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from machine_fakes import make_elf
from test_machine_snapshot import PROGRAM, every_board, parts_of, picture

from trapline.isa.assemble import assemble
from trapline.machine.machine import Machine
from trapline.machine.virtio.options import VirtioOptions
from trapline.session.state.checkpoint import CheckpointError
from trapline.session.terminal.console import Console
from trapline.session.terminal.sources import Replay, Script

BASE = 0x8000_0000
ENGINES = pytest.mark.parametrize("engine", ["native", "reference"])


def board(engine: str, harts: int = 1, console: Console | None = None, program: str = PROGRAM) -> Machine:
    """A board with a program."""
    made = Machine(engine=engine, memory=1 << 20, harts=harts, console=console)
    symbols = {"tohost": 0x80070000} if program is PROGRAM else {}
    made.load_elf(make_elf(assemble(program, BASE), symbols=symbols, memory_size=0x1000))
    return made


@ENGINES
@pytest.mark.parametrize("harts", [1, 3])
def test_every_run_from_a_checkpoint_is_the_same(engine: str, harts: int) -> None:
    """Memory, all words of harts, devices and output of three runs agree with those of one that never stopped."""
    out = bytearray()
    through = board(engine, harts, Console(out.extend))
    first, length = (3_001, 4_003) if engine == "reference" else (70_001, 300_003)
    through.run(first)
    at = len(out)
    through.run(length)
    wanted = picture(through, bytes(out[at:]))
    out.clear()
    made = board(engine, harts, Console(out.extend))
    made.run(first)
    made.checkpoint()
    for _ in range(3):
        out.clear()
        made.run(length)
        assert picture(made, bytes(out)) == wanted
        made.rewind()


@ENGINES
def test_how_a_run_is_cut_changes_nothing_after_a_rewind(engine: str) -> None:
    """A rewound run in pieces ends as one in a whole."""
    made = board(engine, 2)
    made.run(1_500)
    made.checkpoint()
    made.run(3_000)
    wanted = picture(made, b"")
    made.rewind()
    for piece in (1, 7, 500, 1_200, 1_292):
        made.run(piece)
    assert picture(made, b"") == wanted


CHANGING = """
    li s0, 0
    la s1, patch
    la s2, new
1:  call patched
    addi s0, s0, 1
    li t0, 2000
    bne s0, t0, 1b
    lw t1, 0(s2)
    sw t1, 0(s1)
    li t0, 1
    sw t0, 0x400(s1)
    li s0, 0
    j 1b
patched:
patch: addi a0, a0, 1
    ret
new: addi a1, a1, 1
"""


@pytest.mark.parametrize("jit", ["off", "on", "force"])
def test_code_that_changed_after_a_checkpoint_is_what_it_was(jit: str) -> None:
    """Decoded instructions and compiled regions of patched code are forgotten at the way back, others stay."""
    from trapline.engine.native import NativeEngine

    made = Machine(engine=NativeEngine(jit=jit), memory=1 << 20)
    made.regions.write(BASE, assemble(CHANGING, BASE))
    hart = made.harts[0]
    hart.pc = BASE
    made.run(5_000)
    assert hart.x[11] == 0
    made.checkpoint()
    for _ in range(3):
        before = int(hart.x[10])
        made.run(30_000)
        assert (hart.x[10], hart.x[11] > 2_000) == (2_000, True)
        made.rewind()
        assert (int(hart.x[10]), int(hart.x[11])) == (before, 0)
        made.run(100)
        assert hart.x[10] > before
        made.rewind()


def test_checkpoints_are_a_stack() -> None:
    """Rewinding to an earlier one undoes all that came later, and drops the later ones; dropping one keeps the rest."""
    made = board("native")
    pictures, points = [], []
    for _ in range(4):
        made.run(20_000)
        pictures.append(picture(made, b""))
        points.append(made.checkpoint())
    made.run(20_000)
    points[2].drop()
    made.rewind(points[3])
    assert picture(made, b"") == pictures[3]
    made.rewind(points[1])
    assert picture(made, b"") == pictures[1]
    for gone in points[2:]:
        with pytest.raises(CheckpointError, match=r"dropped> is not one of this machine's"):
            made.rewind(gone)
    made.run(20_000)
    assert picture(made, b"") == pictures[2]
    points[1].drop()
    made.rewind()
    assert picture(made, b"") == pictures[0]
    points[0].drop()
    with pytest.raises(CheckpointError, match="there is no checkpoint to rewind to"):
        made.rewind()
    made.run(20_000)
    assert picture(made, b"") == pictures[1]


def test_what_a_loader_writes_is_undone() -> None:
    """Writes of the host between checkpoint and rewind go, too."""
    made = board("native")
    made.checkpoint()
    made.regions.write(BASE + 0x2FFE, b"1234")
    made.regions.write(0x1000, b"rom")
    made.rewind()
    assert made.regions.read(BASE + 0x2FFE, 4) == bytes(4)
    assert made.regions.read(0x1000, 3) != b"rom"


def test_a_page_is_kept_once() -> None:
    """`pages` says how many pages were written since."""
    made = board("native", program="li t0, 0x80010000; 1: sd t0, 0(t0); li t1, 0x1000; add t0, t0, t1; j 1b")
    made.run(10)
    point = made.checkpoint()
    made.run(4 * 90)
    assert point.pages == 90
    assert repr(point) == "<Checkpoint at 10 instructions, 90 pages written since>"
    made.rewind()
    assert point.pages == 0


def test_every_device_goes_back(tmp_path: Path) -> None:
    """Whatever is on a board is at a rewind what it was; what leaves the machine is refused by name."""
    for chosen in every_board(tmp_path):
        options = chosen.get("virtio")
        with contextlib.closing(Machine(engine="native", memory=1 << 20, **chosen)) as made:
            made.load_elf(make_elf(assemble(PROGRAM, BASE), memory_size=0x1000))
            made.run(3_000)
            if options is not None and options.cannot_go_back():
                with pytest.raises(
                    CheckpointError, match=r"no checkpoint of a machine with (the drive '.*raw|a network)"
                ):
                    made.checkpoint()
                continue
            wanted = parts_of(made)
            made.checkpoint()
            made.run(20_000)
            ended = parts_of(made)
            made.rewind()
            assert parts_of(made) == wanted
            made.run(20_000)
            assert parts_of(made) == ended


def test_writes_of_a_disk_with_snapshot_are_undone(tmp_path: Path) -> None:
    """Each checkpoint of a stack has the disk's bytes of then, and none of them changes the image."""
    image = tmp_path / "disk.img"
    image.write_bytes(b"base" * 0x8000)
    options = VirtioOptions(drive=(f"file={image},snapshot",))
    with contextlib.closing(Machine(engine="native", memory=1 << 20, virtio=options)) as made:
        disk = made.virtio.slots[0].device.disk  # type: ignore[union-attr]

        def content() -> bytes:
            data = bytearray(disk.size)
            disk.read(0, [memoryview(data)])
            return bytes(data)

        disk.write(0x1000, [memoryview(b"before" * 3000)])
        seen, points = [content()], [made.checkpoint()]
        for step, name in enumerate((b"one", b"two", b"six")):
            disk.write(0x1800 * step + 5, [memoryview(name * 2000)])
            disk.zero(0x4000 * step, 0x2800, unmap=True)
            seen.append(content())
            points.append(made.checkpoint())
        points[2].drop()
        disk.write(0, [memoryview(b"last" * 0x8000)])
        made.rewind(points[3])
        assert content() == seen[3]
        made.rewind(points[1])
        assert content() == seen[1]
        made.rewind(points[0])
        assert content() == seen[0]
    assert image.read_bytes() == b"base" * 0x8000


ECHO = (
    "li s0, 0x10000000; 1: lbu t0, 5(s0); andi t0, t0, 1; beqz t0, 1b; "
    "lbu t1, 0(s0); addi t1, t1, 1; sb t1, 0(s0); j 1b"
)


def test_input_comes_again_at_the_same_places() -> None:
    """A script goes on from where it was at the checkpoint, and so does a recording."""
    for source in (Script([(b"b", b"cd"), (b"d", b"yz")]), Replay([((0, 0), b"a"), ((9000, 90), b"cd")])):
        out = bytearray()
        console = Console(out.extend, source)
        made = board("native", console=console, program=ECHO)
        made.checkpoint()
        if isinstance(source, Script):
            made.uart.receive(b"a")
        made.run(30_000)
        wanted, log = bytes(out), list(console.log)
        assert wanted.startswith(b"bde")
        made.rewind()
        out.clear()
        if isinstance(source, Script):
            made.uart.receive(b"a")
        made.run(30_000)
        assert (bytes(out), list(console.log)) == (wanted, log)


def test_a_pipe_is_read_again_from_the_log() -> None:
    """Bytes that came from outside after a checkpoint come again at the same instruction."""
    import os

    from trapline.session.terminal.sources import FileInput

    reading, writing = os.pipe()
    out = bytearray()
    made = board("native", console=Console(out.extend, FileInput(reading)), program=ECHO)
    made.checkpoint()
    os.write(writing, b"hello")
    made.run(10_000)
    made.run(90_000)
    wanted = picture(made, bytes(out))
    assert out == b"ifmmp"
    for _ in range(2):
        made.rewind()
        out.clear()
        made.run(100_000)
        assert picture(made, bytes(out)) == wanted
    made.rewind(quiet=True)
    out.clear()
    os.write(writing, b"a")
    made.run(200_000)
    made.run(100_000)
    assert out == b"b"
    os.close(writing)
    os.close(reading)


def test_no_checkpoint_while_the_machine_runs() -> None:
    """Python that a run calls is told in one line."""
    made = board("native")
    seen = []

    def look() -> None:
        for call in (made.checkpoint, made.rewind):
            try:
                call()
            except CheckpointError as error:
                seen.append(str(error))

    made.on_round = look
    made.run(1_000)
    assert seen[0] == "a checkpoint is made between two runs, not while one is under way"


def test_memory_that_was_added_is_said() -> None:
    """A machine whose memory is another than at the checkpoint is not put back."""
    made = board("native")
    made.checkpoint()
    made.regions.ram("more", 0x9000_0000, 0x1000)
    with pytest.raises(CheckpointError, match="memory or policy has changed since"):
        made.rewind()
