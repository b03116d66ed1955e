"""Remapped, protected and rewritten pages: both engines and Spike see the same after the narrowest fences."""

from __future__ import annotations

import pytest
from remap_program import Program

from trapline.machine.machine import Machine
from trapline.verify import spike

ISA = "rv64imafdch_zicsr_zifencei_zicclsm_svinval_svnapot_svpbmt_svadu"


def records(program: Program, engine: str) -> list[int]:
    """What the program recorded."""
    board = Machine(isa=ISA, engine=engine, memory=64 << 20)
    board.load_elf(program.elf())
    result = board.run(max_instructions=2_000_000)
    assert (result.reason, result.code) == ("exit", 0)
    return [int(line, 16) for line in board.signature(8).split()]


def first_difference(program: Program, here: list[int], there: list[int]) -> str | None:
    """The first access whose outcome (loaded, cause, tval, tval2) differs."""
    for i, what in enumerate(program.description):
        a, b = here[4 * i : 4 * i + 4], there[4 * i : 4 * i + 4]
        if a != b:
            return f"access {i}, {what}: {[hex(x) for x in a]}, expected {[hex(x) for x in b]}"
    return None


@pytest.mark.parametrize("seed", range(4))
def test_native_code_sees_what_the_reference_sees(seed: int) -> None:
    """After the narrowest fence that covers a change, no stale translation, permission or code is used."""
    program = Program(seed, actions=250)
    assert first_difference(program, records(program, "native"), records(program, "reference")) is None


@pytest.mark.skipif(spike.find_spike() is None, reason="spike is not installed")
@pytest.mark.parametrize("seed", range(8))
def test_native_code_sees_what_spike_sees(seed: int) -> None:
    """Every access loads, stores or traps as on Spike, with the same cause, tval and tval2."""
    program = Program(seed)
    data = spike.signature(program.elf(), ISA)
    there = [int.from_bytes(data[i : i + 8], "little") for i in range(0, len(data), 8)]
    assert first_difference(program, records(program, "native"), there) is None
