"""Every computational instruction on operands at the edges: the same results and flags as on Spike."""

from __future__ import annotations

from random import Random

import corners
import pytest

from trapline.isa.decode import enabled_extensions
from trapline.lang.state import Hart
from trapline.privilege.isa_string import DEFAULT_ISA, configure
from trapline.verify import lockstep, spike

ROWS = 400


@pytest.mark.skipif(spike.find_spike() is None, reason="spike is not installed")
def test_corner_operands() -> None:
    """Some two hundred instructions, with five rounding modes or six immediates, over rows of their operands."""
    rng, hart = Random(1), Hart()
    configure(hart, DEFAULT_ISA)
    found = corners.cases(enabled_extensions(hart), rng)
    assert len({i.name for i, _ in found}) > 180
    elf = corners.program(found, ROWS, rng)
    machine = lockstep.make_machine(elf, DEFAULT_ISA, "native", htif=True)
    assert machine.run(max_instructions=50_000_000).reason == "exit"
    ours = memoryview(bytes(machine.regions.read(corners.RESULTS, 8 * len(found)))).cast("Q")
    theirs = memoryview(spike.signature(elf, DEFAULT_ISA)).cast("Q")
    differing = [
        f"{i.name} {bits.hex()}" for (i, bits), here, there in zip(found, ours, theirs, strict=False) if here != there
    ]
    assert not differing
