"""A hypervisor sees the same where H is real and where the hosted KVM emulates it."""

from __future__ import annotations

import hypervisors
import programs
import pytest
import random_h
from l1 import as_guest, difference, given_menvcfg, on_hart, on_spike, program

from trapline.privilege.isa_string import DEFAULT_ISA
from trapline.verify import spike

G39 = (*programs.g_stage(8), *programs.vs_stage())
CASES = {
    "csrs": (programs.csrs(), ()),
    "vu": (programs.user_of_the_hypervisor(), ()),
    "plain": (programs.every_instruction(0, 0, 0, 0), ()),
    "delegated": (programs.every_instruction(0, 0xB1FF, 7, 0x80), ()),
    "trapped": (programs.every_instruction(7 << 20, 0, 2, 0), ()),
    "sv39x4": (programs.page_faults(8), G39),
    "sv48x4": (programs.page_faults(9), (*programs.g_stage(9), *programs.vs_stage())),
    "sv57x4": (programs.page_faults(10), (*programs.g_stage(10), *programs.vs_stage())),
    "implicit": (programs.implicit_faults(), G39),
    "few": (programs.page_faults(8, 6), G39),
    "own traps": (programs.own_traps(), ()),
    "interrupts": (programs.interrupts(), ()),
    "probes": (hypervisors.probes(), ()),
    "counters": (hypervisors.counters(), ()),
    "floating point": (hypervisors.floating_point(), ()),
    "loads as guest": (hypervisors.loads_as_guest(), hypervisors.tables_of_guest()),
    "readable code": (hypervisors.readable_code(), hypervisors.tables_of_guest()),
    "fences": (hypervisors.fences(), hypervisors.pages_of_fences()),
    "vectors": (hypervisors.vectors(), ()),
    "cache blocks": (hypervisors.cache_blocks(), ()),
    "memory types": (hypervisors.memory_types(), hypervisors.odd_tables()),
}


SLOW = ("vu", "plain", "delegated", "trapped", "sv39x4", "sv48x4", "sv57x4", "implicit")  # for the reference engine
RUNS = [*((name, "native") for name in CASES), *((name, "reference") for name in CASES if name not in SLOW)]


@pytest.mark.parametrize(("name", "engine"), RUNS)
def test_as_on_a_hart_with_h(name: str, engine: str) -> None:
    """A guest hypervisor leaves the same notes as on a hart whose H is real."""
    body, tables = CASES[name]
    code = program(body)
    real = on_hart(code, tables, given_menvcfg(), DEFAULT_ISA, "native", 300_000)
    assert not difference(real, as_guest(code, tables, engine=engine, limit=300_000))


@pytest.mark.skipif(spike.find_spike() is None, reason="spike is not installed")
@pytest.mark.parametrize("name", CASES)
def test_as_on_spike(name: str) -> None:
    """A guest hypervisor leaves the same notes as on Spike."""
    body, tables = CASES[name]
    code = program(body)
    real = on_spike(code, tables, given_menvcfg(), DEFAULT_ISA)
    assert not difference(real, as_guest(code, tables, engine="native", limit=300_000))


def test_without_svadu() -> None:
    """Without Svadu a leaf whose A or D is clear faults, in the hypervisor's G-stage as on a hart."""
    isa = DEFAULT_ISA.replace("_svadu", "")
    code = program(programs.page_faults(8))
    real = on_hart(code, G39, given_menvcfg(isa), isa, "native", 300_000)
    assert not difference(real, as_guest(code, G39, engine="native", limit=300_000, isa=isa))


def test_misaligned() -> None:
    """Where the hart does misaligned accesses, those of the guest's guest fault where they fault there."""
    isa = DEFAULT_ISA + "_zicclsm"
    code = program(hypervisors.misaligned())
    real = on_hart(code, G39, given_menvcfg(isa), isa, "native", 300_000)
    assert not difference(real, as_guest(code, G39, engine="native", limit=300_000, isa=isa))


@pytest.mark.parametrize("seed", range(8))
def test_random_use_of_h(seed: int) -> None:
    """A hypervisor that writes all H CSRs at random and enters its guest so sees what a hart with H shows."""
    code = random_h.code(seed)
    real = on_hart(code, G39, given_menvcfg(), DEFAULT_ISA, "native", 60_000)
    assert not difference(real, as_guest(code, G39, engine="native", limit=60_000))


@pytest.mark.skipif(spike.find_spike() is None, reason="spike is not installed")
@pytest.mark.parametrize("seed", range(8))
def test_random_use_of_h_on_spike(seed: int) -> None:
    """The same with the timer of Sstc on leaves the same notes as on Spike."""
    code = random_h.code(seed, random_h.STCE)
    real = on_spike(code, G39, given_menvcfg(), DEFAULT_ISA)
    assert not difference(real, as_guest(code, G39, engine="native", limit=60_000))
