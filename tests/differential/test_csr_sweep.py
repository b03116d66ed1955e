"""Every CSR number in every mode, and what stays of what is written: as on Spike."""

from __future__ import annotations

import csr_sweep
import pytest

from trapline.lab import lockstep, spike
from trapline.lab.stream_csrs import EXCLUDED, NOT_IN_M, UNIMPLEMENTED
from trapline.privilege.csr_numbers import CSR_BY_NAME
from trapline.privilege.isa_string import DEFAULT_ISA

_NEVER = {CSR_BY_NAME[name] for name in EXCLUDED} | UNIMPLEMENTED
_NEVER_IN_M = {CSR_BY_NAME[name] for name in NOT_IN_M}


def _accepted(place: str) -> bool:
    """Whether a difference there stands in accepted.toml."""
    mode, verb, rest = place.split(" ", 2)
    if verb != "reads":
        return False
    number = int(rest.split(",")[0], 16)
    return number in _NEVER or (mode == "M" and number in _NEVER_IN_M)


@pytest.mark.skipif(spike.find_spike() is None, reason="spike is not installed")
def test_csrs_are_those_of_spike() -> None:
    """Each number reads or traps alike in five modes under five settings; each pattern leaves the same bits."""
    elf = csr_sweep.program()
    machine = lockstep.make_machine(elf, DEFAULT_ISA, "native", htif=True)
    assert machine.run(max_instructions=50_000_000).reason == "exit"
    ours = memoryview(bytes(machine.regions.read(csr_sweep.RESULTS, csr_sweep.size()))).cast("Q")
    theirs = memoryview(spike.signature(elf, DEFAULT_ISA)).cast("Q")
    places = csr_sweep.places()
    differing = [
        f"{place}: here {here:#x}, there {there:#x}"
        for place, here, there in zip(places, ours, theirs, strict=False)
        if here != there and not _accepted(place)
    ]
    assert not differing, "\n".join(differing[:40])
