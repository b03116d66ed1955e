"""Snapshots that somebody has changed: each is refused in one line, or its guest alone comes to harm."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest
from snapshot_mutations import change_word, go_on, mutations, packed, word_places, words_of, write
from test_machine_snapshot import BASE, PROGRAM, board

from trapline.isa.assemble import assemble
from trapline.machine.machine import Machine
from trapline.machine.virtio.options import VirtioOptions
from trapline.privilege.fields import ATP_MODE_SHIFT, HSTATUS_VGEIN_SHIFT
from trapline.session.state.snapshot import load_hart, save_hart
from trapline.session.state.snapshot_file import SnapshotError, read
from trapline.vmm.guest import Guest

GUEST = "1: addi s0, s0, 1\n li t0, 0x10000000\n sb s0, 0(t0)\n csrr t1, 0x5ff\n j 1b"


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A board's snapshot, in the middle of interrupts and floating point."""
    path = tmp_path_factory.mktemp("boards") / "board"
    made = board("native")
    made.run(5_000)
    made.snapshot(path)
    return path


@pytest.fixture(scope="module")
def guests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A guest's snapshot."""
    path = tmp_path_factory.mktemp("guests") / "guest"
    made = Guest("linux-6.12", memory=4 << 20)
    made.load_bytes(assemble(GUEST, 0x8020_0000))
    made.run(5_000)
    made.snapshot(path)
    return path


def test_every_word_of_a_hart(boards: Path) -> None:
    """Whatever value any word has, the hart cannot be made from it, or it runs; a word that is refused is named."""
    rng, machine = random.Random(1), Machine.restore(boards)
    head, refused, ran = read(boards)[0], 0, 0
    for name, place in word_places() * 2:
        changed = {"harts": head["harts"][:]}
        change_word(changed, place, rng)
        try:
            load_hart(machine.harts[0], changed["harts"][0])
        except ValueError as error:
            refused += 1
            assert "\n" not in str(error), name
            continue
        machine.run(200, 1)
        ran += 1
    assert refused > ran > 150


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("region_size", 1 << 40, "region_size is not that of this machine"),
        ("has_h", 0, "has_h is not that of this machine"),
        ("time_ratio", 0, "time_ratio is not that of this machine"),
        ("ctx_now", 1 << 40, "ctx_now is not what follows from the hart's registers"),
        ("pmp_high", 7, "pmp_high is not what follows from the hart's registers"),
        ("priv", 2, "priv is 2 with V=0, which is no mode of this hart"),
        ("virt", 1, "priv is 3 with V=1, which is no mode of this hart"),
        ("pc", 0x8000_0001, "pc is 0x80000001, which is not aligned"),
        ("satp", 5 << ATP_MODE_SHIFT, "satp is 0x5000000000000000, which this hart cannot hold"),
        ("hstatus", 63 << HSTATUS_VGEIN_SHIFT | 2 << 32, "hstatus is 0x20003f000, which this hart cannot hold"),
        ("mstatus", 1 << 63, "mstatus is 0x8000000000000000, which this hart cannot hold"),
        ("medeleg", 1 << 11, "medeleg is 0x800, which this hart cannot hold"),
        ("mip", 1 << 60, "mip is 0x1000000000000000, which this hart cannot hold"),
        ("imsic_eip", 2, r"imsic_eip\[0\] is 0x2, which this hart cannot hold"),
        ("instret", 1 << 62, "instret is 0x4000000000000000, at most 0x3fffffffffffffff is possible"),
    ],
)
def test_words_that_native_code_trusts(name: str, value: int, says: str) -> None:
    """An index, a size or a mode that no hart like this one can have is refused by name, and nothing has changed."""
    hart = board("native").harts[0]
    before = save_hart(hart)
    words, at = words_of(before), next(place for known, place in word_places() if known == f"{name}[0]")
    words[at] = value
    with pytest.raises(ValueError, match=says):
        load_hart(hart, packed(words))
    assert save_hart(hart) == before


@pytest.mark.parametrize(("word", "value"), [(1, 200 << 8), (1, 1 << 40), (5, 400)])
def test_exits_that_do_not_exist(word: int, value: int, guests: Path, tmp_path: Path) -> None:
    """Among the last traps is one of a kind that nobody handles: the file is refused."""
    head, payload = read(guests)
    last = head["state"]["guest"]["v"]["calls"]["v"]["_vm"]["v"]["_last"]["v"]
    next(row for row in last if row["$"] == "tuple")["v"][1]["v"][word] = value
    write(tmp_path / "changed", head, payload)
    with pytest.raises(SnapshotError, match=r"last traps: .* is no exit"):
        Guest.restore(tmp_path / "changed")


@pytest.mark.parametrize("kind", ["boot", "run"])
def test_anything_in_the_file(kind: str, boards: Path, guests: Path, tmp_path: Path) -> None:
    """Whatever value in the head or in memory is another one, the file is refused in one line, or the guest runs on."""
    ends = {"refused": 0, "ran": 0}
    every = mutations(boards if kind == "boot" else guests, 7)
    for _, save in random.Random(7).sample(every, 60):
        save(tmp_path / "changed")
        ends[go_on(tmp_path / "changed", kind)] += 1
    assert ends["refused"] > 25
    assert ends["ran"] > 5


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["boot", "run"])
def test_everything_in_the_file(kind: str, boards: Path, guests: Path, tmp_path: Path) -> None:
    """The same for each word and each value (benchmarks/snapshots does it for other snapshots and seeds)."""
    for name, save in mutations(boards if kind == "boot" else guests, 8):
        save(tmp_path / "changed")
        assert go_on(tmp_path / "changed", kind) in ("refused", "ran"), name


def test_a_bomb(boards: Path, tmp_path: Path) -> None:
    """A piece that would become more than a piece is refused before it does."""
    import zlib

    head, _ = read(boards)
    bomb = zlib.compress(bytes(64 << 20), 9)
    for row in head["memory"]:
        row["pieces"] = [[0, len(bomb)]] if "RAM" in row["name"] else []
    write(tmp_path / "bomb", head, bomb)
    with pytest.raises(SnapshotError, match=r"bomb: compressed data that is not 262144 bytes"):
        Machine.restore(tmp_path / "bomb")


def test_the_guest_cannot_reach_its_page_tables(guests: Path, tmp_path: Path) -> None:
    """A snapshot whose G-stage table maps the table itself, or is no tree, is refused."""
    again = Guest.restore(guests)
    vm = again.vm
    _, _, entry = vm.gstage.find(0x8020_0000)
    for wrong in (vm.gstage.root >> 2 | entry & 0x3FF, vm.gstage.root >> 2 | 1):
        address, level, good = vm.gstage.find(0x8020_0000)
        vm.gstage.memory.write(address, wrong)
        again.snapshot(tmp_path / "changed")
        vm.gstage.memory.write(address, good)
        assert level < vm.gstage.levels
        with pytest.raises(SnapshotError, match="page tables"):
            Guest.restore(tmp_path / "changed")


def devices(tmp_path: Path) -> VirtioOptions:
    """A disk, a network with a record, and a folder."""
    (tmp_path / "disk").write_bytes(bytes(64 << 10))
    (tmp_path / "folder").mkdir()
    return VirtioOptions(
        drive=(str(tmp_path / "disk"),),
        net=f"user,pcap={tmp_path / 'record'}",
        share=(str(tmp_path / "folder"),),
    )


def with_devices(tmp_path: Path) -> tuple[Path, VirtioOptions]:
    """A board's snapshot with all that it can have of the host."""
    wanted = devices(tmp_path)
    made = Machine(memory=1 << 20, virtio=wanted)
    made.regions.write(BASE, assemble(PROGRAM, BASE))
    made.snapshot(tmp_path / "s")
    made.close()
    (tmp_path / "record").write_text("the only copy")
    return tmp_path / "s", wanted


def test_a_snapshot_opens_nothing_by_itself(tmp_path: Path) -> None:
    """What it was made with of the host is listed as options, in one line, and nothing has been opened."""
    path, wanted = with_devices(tmp_path)
    with pytest.raises(SnapshotError) as caught:
        Machine.restore(path)
    said = str(caught.value)
    options = f"--drive {wanted.drive[0]} --net {wanted.net} --share {wanted.share[0]}"
    assert f"it was made with {options}: name here" in said
    assert "--trust-snapshot-files" in said
    assert (tmp_path / "record").read_text() == "the only copy"


def test_the_command_line_says_what_it_has_of_the_host(tmp_path: Path) -> None:
    """Each kind may be named anew; what is not named is listed, and there must be as many as there were."""
    path, wanted = with_devices(tmp_path)
    other = VirtioOptions(wanted.drive, "user", share=wanted.share)
    with contextlib.closing(Machine.restore(path, virtio=other)) as machine:
        assert len(machine.virtio.slots) == 3
    assert (tmp_path / "record").read_text() == "the only copy"
    with contextlib.closing(Machine.restore(path, trust_files=True)):
        pass
    assert (tmp_path / "record").read_bytes() != b"the only copy"
    with pytest.raises(SnapshotError, match=r"made with --share .*folder: name here"):
        Machine.restore(path, virtio=VirtioOptions(wanted.drive, "user"))
    with pytest.raises(SnapshotError, match=r"2 of --drive, but the machine was made with --drive .*disk"):
        Machine.restore(path, virtio=VirtioOptions(wanted.drive * 2, "user", share=wanted.share))
    with pytest.raises(SnapshotError, match=r"offered is not what it can be"):
        Machine.restore(path, virtio=VirtioOptions((f"{wanted.drive[0]},ro",), "user", share=wanted.share))


def test_nothing_is_opened_for_a_file_that_is_not_good(tmp_path: Path) -> None:
    """However much the file is trusted, it is looked at before any file of the host is."""
    path, _ = with_devices(tmp_path)
    head, payload = read(path)
    change_word(head, word_places()[-1][1] - 60, random.Random(0))
    words = words_of(head["harts"][0])
    words[next(place for name, place in word_places() if name == "priv[0]")] = 2
    head["harts"][0] = packed(words)
    write(path, head, bytes(payload))
    with pytest.raises(SnapshotError, match="no mode of this hart"):
        Machine.restore(path, trust_files=True)
    assert (tmp_path / "record").read_text() == "the only copy"


def test_a_policys_own_functions_are_files_of_the_host(tmp_path: Path) -> None:
    """A snapshot whose policy names Python files is refused; under another policy, or trusted, it goes on."""
    (tmp_path / "own.py").write_text(
        "from typing import Any\nfrom trapline.kvm.actions import action\nfrom trapline.lang.values import U64\n\n\n"
        "@action\ndef own(hart: Any) -> U64:\n    return U64(0)\n"
    )
    (tmp_path / "own.toml").write_text(
        'extends = "linux-7.2"\ndefault = "kill"\n[cause.breakpoint]\naction = "redirect"\nfunction = "own.py:own"\n'
    )
    made = Guest(tmp_path / "own.toml", engine="reference", memory=4 << 20)
    made.load_bytes(assemble(GUEST, 0x8020_0000))
    made.snapshot(tmp_path / "s")
    with pytest.raises(SnapshotError, match=r"--policy FILE.toml with a function in .*own\.py:own"):
        Guest.restore(tmp_path / "s", engine="reference")
    assert Guest.restore(tmp_path / "s", engine="reference", trust_files=True).vm.policy.name == "own"
    (tmp_path / "own.py").unlink()
    assert Guest.restore(tmp_path / "s", engine="reference", policy="linux-7.2").vm.policy.name == "linux-7.2"
