"""What hosted software writes into a guest's code is what the guest runs next (Ziccid)."""

from __future__ import annotations

import pytest
from guest import BASE, run_event

CODE = BASE + 0x2000
CALL_TWICE = f"""
    li t0, {CODE}
    li t1, 0x00500513
    sw t1, 0(t0)
    li t1, 0x00008067
    sw t1, 4(t0)
    jalr ra, 0(t0)
    mv s8, a0
    {{write}}
    jalr ra, 0(t0)
    mv s9, a0
"""
STEAL_TIME = f"""
    li a7, 0x535441
    li a6, 0
    li a0, {CODE}
    li a1, 0
    li a2, 0
    ecall
"""
MISALIGNED = """
    li t1, 0x80670090
    sw t1, 2(t0)
"""


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_kvm_writes_to_code(engine: str) -> None:
    """Shared memory of an SBI extension in a page of code: the zeros that KVM writes there are no instruction."""
    outcome = run_event("linux-7.2", CALL_TWICE.format(write=STEAL_TIME), engine=engine)
    assert outcome.vcpu.hart.x[24] == 5
    assert (outcome.guest_sees, outcome.x("s3")) == (2, CODE)


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_firmware_stores_to_code_for_the_guest(engine: str) -> None:
    """A misaligned store that firmware emulates changes a half of one instruction and a half of the next."""
    outcome = run_event("linux-7.2", CALL_TWICE.format(write=MISALIGNED), engine=engine, misaligned="trap")
    assert (outcome.vcpu.hart.x[24], outcome.vcpu.hart.x[25]) == (5, 9)


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_the_vmm_writes_to_code(engine: str) -> None:
    """Guest memory that the VMM writes while it handles an exit."""
    event = CALL_TWICE.format(write="li t2, 0x10000000\n sw zero, 0(t2)")
    outcome = run_event("linux-7.2", event, engine=engine, written=(CODE, (0x00700513).to_bytes(4, "little")))
    assert (outcome.vcpu.hart.x[24], outcome.vcpu.hart.x[25]) == (5, 7)
