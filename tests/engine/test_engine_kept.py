"""What is kept beside the native image: the key of the sources, and the tables that follow from the instructions."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

import trapline.isa.all  # noqa: F401  (declares every instruction)
from trapline.engine import decode_table, kept_tables, stamps
from trapline.engine.compiler_names import step_index
from trapline.engine.native import NativeEngine
from trapline.isa.decode import Decoder, declare
from trapline.lang.functions import INSTRUCTIONS
from trapline.machine.machine import Machine


def settled(path: Path, text: str) -> str:
    """Write a file, and give it the time of an hour ago; its own change time is of now."""
    path.write_text(text)
    then = time.time() - 3600
    os.utime(path, (then, then))
    return str(path)


def test_every_kind_of_change_shows_in_a_stamp(tmp_path: Path) -> None:
    """Other contents of the same length, a longer file, another file in its place and none at all change a stamp."""
    file = tmp_path / "a"
    path = settled(file, "one")
    known = [stamps.stamp(path)]
    assert known[0] is not None
    assert stamps.unchanged(known)  # type: ignore[arg-type]
    time.sleep(0.02)
    settled(file, "two")  # with the old time of modification
    assert not stamps.unchanged(known)  # type: ignore[arg-type]
    file.unlink()
    assert not stamps.unchanged(known)  # type: ignore[arg-type]


def test_what_was_written_just_now_has_no_stamps(tmp_path: Path) -> None:
    """A file that may change again within one tick of the clock is not relied upon."""
    assert stamps.stamps([settled(tmp_path / "a", "one")]) is None
    assert stamps.stamps([str(tmp_path / "none")]) is None


@pytest.mark.parametrize("at", [0, 3, 4, 20, -1])
def test_damaged_bytes_are_nothing(at: int) -> None:
    """One changed bit anywhere, or a missing end, and what was packed is as not there."""
    data = bytearray(stamps.packed({"steps": {("beq", 4): 1}}))
    assert stamps.unpacked(bytes(data)) == {"steps": {("beq", 4): 1}}
    assert stamps.unpacked(bytes(data[:-1])) is stamps.unpacked(b"") is stamps.unpacked(None) is None
    data[at] ^= 1
    assert stamps.unpacked(bytes(data)) is None


@pytest.mark.parametrize("isa", ["rv64gc", "rv64gch_zba_zbb_zicbom", "rv64ima"])
def test_a_kept_table_is_the_one_that_is_made(isa: str) -> None:
    """The decoder's table from the cache has the words of one made from the instructions, and so have the steps."""
    machine = Machine(isa=isa, memory=1 << 20, engine=NativeEngine(jit="off"))
    decoder = Decoder(machine.harts[0])
    kept = kept_tables.known_words(" ".join(sorted(decoder.enabled)))
    declare()
    symbols = machine.engine.symbols
    assert kept == decode_table._Table(min(symbols.values())).made(Decoder(machine.harts[0]), symbols, step_index())
    names = [i.name for i in INSTRUCTIONS if i.expands is None and i.has_target]
    assert sorted({name for name, _ in step_index()}) == sorted(names)
