"""Snapshots of boards: exact continuation in another process and on another engine, and files that are no good."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from machine_fakes import make_elf
from snapshot_mutations import write

from trapline.isa.assemble import assemble
from trapline.lang.layout import Kind
from trapline.machine.machine import Machine
from trapline.machine.virtio.options import VirtioOptions
from trapline.session.state.plain_state import Loader, Saver, StateError
from trapline.session.state.snapshot import SAVED
from trapline.session.state.snapshot_file import MAGIC, SnapshotError, read
from trapline.session.terminal.console import Console

BASE = 0x8000_0000
# Each hart takes timer interrupts and illegal instructions, prints, stores, uses floating point and LR/SC.
PROGRAM = """
    la t0, handler
    csrw mtvec, t0
    csrr s11, mhartid
    slli t1, s11, 3
    li s10, 0x2004000
    add s10, s10, t1
    li t1, 300
    sd t1, 0(s10)
    li t1, 0x80
    csrw mie, t1
    li t1, 0x6008
    csrs mstatus, t1
    li s9, 0x80040000
    slli t1, s11, 16
    add s9, s9, t1
    li s8, 0x10000000
    li s0, 0
1:  addi s0, s0, 1
    fcvt.d.l fa0, s0
    fadd.d fa1, fa1, fa0
    slli t2, s0, 3
    li t3, 0xfff8
    and t2, t2, t3
    add t2, t2, s9
    sd s0, 0(t2)
    andi t3, s0, 63
    bnez t3, 2f
    csrr t4, 0x5ff
2:  lr.d t5, (s9)
    addi t5, t5, 1
    sc.d t6, t5, (s9)
    andi t3, s0, 511
    bnez t3, 1b
    andi t4, s0, 15
    addi t4, t4, 'a'
    sb t4, 0(s8)
    j 1b
.align 2
handler:
    csrr t0, mcause
    bltz t0, 3f
    addi s1, s1, 1
    csrr t0, mepc
    addi t0, t0, 4
    csrw mepc, t0
    mret
3:  addi s2, s2, 1
    li t0, 0x200bff8
    ld t0, 0(t0)
    addi t0, t0, 37
    sd t0, 0(s10)
    mret
"""


# Of an access or an exit that is over: which these are is the only thing that caches change.
MEANT = tuple(f for f in SAVED if f.kind is not Kind.PASSING)


def board(engine: str, harts: int = 1, console: Console | None = None) -> Machine:
    """A board with the program above."""
    made = Machine(engine=engine, memory=1 << 20, harts=harts, console=console)
    made.load_elf(make_elf(assemble(PROGRAM, BASE), symbols={"tohost": 0x80070000}, memory_size=0x1000))
    return made


def picture(machine: Machine, output: bytes) -> dict[str, object]:
    """Everything that a program could ever see of a board, and the counters."""
    memory = hashlib.sha256()
    for region in machine.regions:
        if region.backing is not None:
            memory.update(region.backing.view)
    harts = [
        {f.name: machine.harts[n].mem[f.index : f.index + f.count].tolist() for f in MEANT}
        for n in range(len(machine.harts))
    ]
    for words in harts:
        words["x"][32] = 0  # where native code puts writes to x0
    devices = Saver((Console, type(machine.engine))).save(
        [machine.uart, machine.plic, machine.clint, machine.schedule.asleep], "devices"
    )
    return {"memory": memory.hexdigest(), "harts": harts, "devices": devices, "output": output.decode("latin-1")}


CONTINUE = """
import json, sys
from test_machine_snapshot import picture
from trapline.session.terminal.console import Console
from trapline.machine.machine import Machine
path, engine, instructions = sys.argv[1:]
out = bytearray()
machine = Machine.restore(path, engine=engine, console=Console(out.extend))
machine.run(int(instructions))
print(json.dumps(picture(machine, bytes(out))))
"""


def run_python(program: str, *arguments: str) -> str:
    """Run a program in a process of its own that can import this file."""
    here = Path(__file__).resolve().parent
    source = Path(sys.modules["trapline"].__file__ or "").parent.parent
    environment = {**os.environ, "PYTHONPATH": f"{source}:{here}"}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("first", "then", "harts"),
    [("native", "native", 1), ("native", "native", 3), ("reference", "reference", 1), ("native", "reference", 2)],
)
def test_a_restored_board_goes_on_as_if_nothing_had_been(tmp_path: Path, first: str, then: str, harts: int) -> None:
    """Run N, snapshot, restore in a new process, run M: everything is as after N + M in one go."""
    before, after = (30_007, 40_013) if then == "native" else (3_007 + 9_000 * (harts - 1), 4_013 + 9_000 * (harts - 1))
    whole, out = bytearray(), bytearray()
    straight = board(then, harts, Console(whole.extend))
    straight.run(before + after)
    saved = board(first, harts, Console(out.extend))
    saved.run(before)
    file = tmp_path / "board.snapshot"
    assert saved.snapshot(file) == file.stat().st_size
    found = json.loads(run_python(CONTINUE, str(file), then, str(after)))
    wanted = json.loads(json.dumps(picture(straight, bytes(whole))))
    found["output"] = out.decode("latin-1") + found["output"]
    assert found == wanted
    saved.run(after)
    assert json.loads(json.dumps(picture(saved, bytes(out)), default=str))["memory"] == wanted["memory"]


def test_cutting_a_run_changes_nothing() -> None:
    """Many short runs of several harts end where one long run ends."""
    one, many = board("native", 3), board("native", 3)
    one.run(60_000)
    for _ in range(60):
        many.run(1_000)
    assert picture(one, b"") == picture(many, b"")


def test_htif_works_after_a_restore(tmp_path: Path) -> None:
    """A store to tohost ends a restored run too."""
    source = "li s0, 2000\n1: addi s0, s0, -1\n bnez s0, 1b\n li t0, 0x80000100\n li t1, 7\n sd t1, 0(t0)\n2: j 2b"
    made = Machine(engine="native", memory=1 << 20)
    made.load_elf(make_elf(assemble(source, BASE), symbols={"tohost": BASE + 0x100}, memory_size=0x8000))
    made.run(1000)
    made.snapshot(tmp_path / "s")
    result = Machine.restore(tmp_path / "s").run(100_000)
    assert (result.reason, result.code) == ("exit", 3)


def test_damaged_files_are_refused_by_name(tmp_path: Path) -> None:
    """Whatever byte is missing or changed, the message names the file and what is wrong."""
    made = board("native")
    made.run(5000)
    good = tmp_path / "good"
    made.snapshot(good)
    data = good.read_bytes()
    head = len(MAGIC) + 40
    cases = {
        "truncated": [data[:n] for n in (head - 8, head + 100, len(data) - 1)],
        "not a snapshot": [b"", b"\x7fELF" + data, data[1:]],
        "damaged": [data[: head + 9] + b"!" + data[head + 10 :], data[:-9] + b"!" + data[-8:]],
        "overlong": [data + b"!"],
        "another format": [data.replace(b"snapshot 1", b"snapshot 9", 1)],
    }
    bad = tmp_path / "bad"
    for words, contents in cases.items():
        for content in contents:
            bad.write_bytes(content)
            with pytest.raises(SnapshotError, match=words) as caught:
                Machine.restore(bad)
            assert str(bad) in str(caught.value)
            assert "\n" not in str(caught.value)
    with pytest.raises(SnapshotError, match="No such file"):
        Machine.restore(tmp_path / "none")


def test_a_snapshot_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error on the way to the disk is reported, and neither harms the old file nor leaves a part of the new one."""
    made = board("native")
    file = tmp_path / "s"
    made.snapshot(file)
    before = file.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("trapline.session.state.snapshot_file.os.fsync", full)
    with pytest.raises(SnapshotError, match="No space left"):
        made.snapshot(file)
    assert file.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["s"]
    with pytest.raises(SnapshotError, match="cannot write"):
        made.snapshot(tmp_path / "no" / "such" / "directory")


KILLED = """
import sys
from trapline.machine.machine import Machine
machine = Machine(engine="reference", memory=64 << 20)
machine.regions.write(0x8000_0000, __import__("random").Random(1).randbytes(8 << 20))
print("ready", flush=True)
while True:
    machine.snapshot(sys.argv[1])
"""


def test_kill_9_leaves_an_old_or_a_new_snapshot_whole(tmp_path: Path) -> None:
    """However far the writing had come, the file is absent or complete, and the next snapshot removes the rest."""
    file = tmp_path / "s"
    source = str(Path(sys.modules["trapline"].__file__ or "").parent.parent)
    parts = 0
    for delay in (0.15, 0.31, 0.47, 0.62):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(file)],
            env={**os.environ, "PYTHONPATH": source},
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        parts += len(list(tmp_path.glob(".s.*.part")))
        if file.exists():
            read(file)
    board("native").snapshot(file)
    read(file)
    assert [p.name for p in tmp_path.iterdir()] == ["s"], f"{parts} parts were seen"


class _Socket:
    """Something that is not of this package."""


def test_an_attribute_that_nobody_can_save_is_named(tmp_path: Path) -> None:
    """A device with an attribute that is no plain state makes the snapshot fail with the attribute's name."""
    made = board("native")
    made.uart.socket = _Socket()  # type: ignore[attr-defined]
    with pytest.raises(SnapshotError, match=r"machine\.uart\.socket is a _Socket"):
        made.snapshot(tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_saved_state_names_no_classes() -> None:
    """A name in a snapshot makes the loader import, make or call nothing: it goes where there is such an object."""
    for kind in ("os:system", "subprocess:Popen", "trapline.machine.machine:Machine", "trapline.nothing:X"):
        with pytest.raises(StateError):
            Loader().load({"$": kind, "v": {}}, None, "place")


def test_saved_state_outlives_the_rooms_of_its_classes(tmp_path: Path) -> None:
    """A snapshot whose tags name modules that are no more, as older versions wrote them, is restored."""
    made = board("native")
    made.snapshot(tmp_path / "new")
    made.close()
    head, payload = read(tmp_path / "new")
    old = json.loads(re.sub(r'("\$": ?)":(\w)', r'\1"trapline.attic.thing:\2', json.dumps(head)))
    assert "trapline.attic" in json.dumps(old["state"])
    write(tmp_path / "old", old, bytes(payload))
    Machine.restore(tmp_path / "old").close()


def every_board(tmp_path: Path) -> list[dict[str, Any]]:
    """Options that together put every device of this package on a board; the next device belongs here too."""
    raw, lost = tmp_path / "raw.img", tmp_path / "lost.img"
    for image in (raw, lost):
        image.write_bytes(bytes(64 << 10))
    drives = (f"file={raw}", f"file={lost},snapshot")
    return [
        {},
        {"aia": "aplic"},
        {"aia": "aplic-imsic,guests=2", "harts": 2},
        {"virtio": VirtioOptions(drive=drives, rng=True, console="virtio")},
        {"virtio": VirtioOptions(net=f"user,pcap={tmp_path / 'pcap'}", share=(str(tmp_path), f"{tmp_path}:ro,ro"))},
    ]


def test_every_device_can_be_saved_and_restored(tmp_path: Path) -> None:
    """Whatever is on a board goes into the file and comes back; a new device that cannot fails here, by name."""
    options = every_board(tmp_path)
    for number, chosen in enumerate(options):
        made = Machine(engine="native", memory=1 << 20, **chosen)
        made.load_elf(make_elf(assemble(PROGRAM, BASE), memory_size=0x1000))
        made.run(3000)
        file = tmp_path / f"{number}.snapshot"
        made.snapshot(file)
        made.run(20_000)
        with contextlib.closing(made):
            wanted = parts_of(made)
        with contextlib.closing(Machine.restore(file, trust_files=True)) as again:
            again.run(20_000)
            assert parts_of(again) == wanted


def parts_of(machine: Machine) -> Any:
    """What a snapshot would hold of a board's objects."""
    saver = Saver((Console, type(machine.engine)))
    return [saver.save(machine, "machine"), saver.save([r.device for r in machine.regions], "devices")]


def test_a_disk_image_that_has_changed_is_refused(tmp_path: Path) -> None:
    """A snapshot does not hold disks: whoever writes the image afterwards is told so."""
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(4096))
    made = Machine(engine="native", memory=1 << 20, virtio=VirtioOptions(drive=(f"file={image}",)))
    made.snapshot(tmp_path / "s")
    made.close()
    image.write_bytes(bytes(8192))
    with pytest.raises(SnapshotError, match=r"disk\.img: the disk image has changed"):
        Machine.restore(tmp_path / "s", virtio=VirtioOptions(drive=(str(image),)))
