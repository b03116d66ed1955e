"""Every CSR number in every mode, and what stays of what is written: as on Spike."""

from __future__ import annotations

from collections.abc import Iterator

import csr_sweep
import pytest

from trapline.privilege.csr_numbers import CSR_BY_NAME
from trapline.privilege.isa_string import DEFAULT_ISA
from trapline.verify import lockstep, spike
from trapline.verify.stream_csrs import EXCLUDED, NOT_IN_M, UNIMPLEMENTED

_NEVER = {CSR_BY_NAME[name] for name in EXCLUDED} | UNIMPLEMENTED
_NEVER_IN_M = {CSR_BY_NAME[name] for name in NOT_IN_M}

# What both sides must have of a CSR whose other bits each may choose.
_AIA_BITS = {
    **dict.fromkeys(("miselect", "siselect", "vsiselect"), 0xFFF),
    **dict.fromkeys(("mvien", "mvip", "hvien", "hvip"), 0x1FFF),
    **dict.fromkeys(("hviprio1", "hviprio2"), 0),
}
# Sscsrind's sireg2 and so on, which Spike has with Smaia; what a reserved vsiselect raises; mireg in VU is illegal.
_NOT_OF_AIA = {base + n for base in (0x152, 0x252, 0x352) for n in range(6)}
_AIA_OPEN = {("VS", 0x151), ("VU", 0x351)}


def _accepted(place: str) -> bool:
    """Whether a difference there stands in accepted.toml."""
    mode, verb, rest = place.split(" ", 2)
    if verb != "reads":
        return False
    number = int(rest.split(",")[0], 16)
    return number in _NEVER or (mode == "M" and number in _NEVER_IN_M)


def _accepted_of_aia(place: str) -> bool:
    mode, verb, rest = place.split(" ", 2)
    number = int(rest.split(",")[0], 16) if verb == "reads" else 0
    return number in _NOT_OF_AIA or (mode, number) in _AIA_OPEN


@pytest.mark.skipif(spike.find_spike() is None, reason="spike is not installed")
def test_csrs_are_those_of_spike() -> None:
    """Each number reads or traps alike in five modes under five settings; each pattern leaves the same bits."""
    differing = [f"{p}: here {here:#x}, there {there:#x}" for p, here, there in _sweep(DEFAULT_ISA) if not _accepted(p)]
    assert not differing, "\n".join(differing[:40])


@pytest.mark.skipif(spike.find_spike() is None, reason="spike is not installed")
def test_csrs_of_the_aia_are_those_of_spike() -> None:
    """The same with Smaia, but for bits that the specification leaves open and CSRs of other extensions."""
    differing = []
    for place, here, there in _sweep(f"{DEFAULT_ISA}_smaia_ssaia"):
        name = place.split()[0]
        if name in _AIA_BITS and (here ^ there) & _AIA_BITS[name] == 0:
            continue
        if not _accepted(place) and not _accepted_of_aia(place):
            differing.append(f"{place}: here {here:#x}, there {there:#x}")
    assert not differing, "\n".join(differing[:40])


def _sweep(isa: str) -> Iterator[tuple[str, int, int]]:
    """Yield what differs: where, the value here, the value on Spike."""
    elf = csr_sweep.program()
    machine = lockstep.make_machine(elf, isa, "native", htif=True)
    assert machine.run(max_instructions=50_000_000).reason == "exit"
    ours = memoryview(bytes(machine.regions.read(csr_sweep.RESULTS, csr_sweep.size()))).cast("Q")
    theirs = memoryview(spike.signature(elf, isa)).cast("Q")
    for place, here, there in zip(csr_sweep.places(), ours, theirs, strict=False):
        if here != there:
            yield place, here, there
