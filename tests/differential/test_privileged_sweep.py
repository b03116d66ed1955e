"""Privileged instructions in every mode, with one control bit changed at a time: as on Spike."""

from __future__ import annotations

import privileged_sweep as sweep
import pytest

from trapline.privilege.isa_string import DEFAULT_ISA
from trapline.verify import lockstep, spike


@pytest.mark.skipif(spike.find_spike() is None, reason="spike is not installed")
@pytest.mark.parametrize("stateen", [False, True], ids=["", "smstateen"])
def test_privileged_instructions_are_those_of_spike(stateen: bool) -> None:
    """Each instruction traps or runs alike, with the same cause, mtval, mtinst and previous mode."""
    elf, isa = sweep.program(stateen), DEFAULT_ISA + "_smstateen" * stateen
    machine = lockstep.make_machine(elf, isa, "native", htif=True)
    assert machine.run(max_instructions=5_000_000).reason == "exit"
    ours = memoryview(bytes(machine.regions.read(sweep.RESULTS, sweep.size(stateen)))).cast("Q").tolist()
    theirs = memoryview(spike.signature(elf, isa)).cast("Q").tolist()
    places = sweep.places(stateen)
    assert len(places) > 10_000
    rows = [(p, ours[n : n + 4], theirs[n : n + 4]) for n, p in zip(range(0, len(ours), 4), places, strict=True)]
    differing = [f"{' | '.join(p)}: here {a}, there {b}" for p, a, b in rows if a != b]
    assert not differing, "\n".join(differing[:40])
