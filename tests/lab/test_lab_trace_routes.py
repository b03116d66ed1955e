"""`run --trace FILE.jsonl`: records that are told of some at a time are those that are told of at once."""

from __future__ import annotations

import json

import pytest

from trapline.isa.assemble import assemble
from trapline.kvm.report.trace import TrapRecord
from trapline.lab.guest_run import trace_data, trace_line
from trapline.vmm.guest import Guest

OFF = "; li a7, 0x53525354; li a6, 0; li a0, 0; li a1, 0; ecall"
LOOPS = {
    "firmware": "li t0, 0x80400001; li s0, 1000; 1: ld a0, 0(t0); addi s0, s0, -1; bnez s0, 1b",
    "both": (
        "li s0, 300; li t0, 0x80400000; lui t1, 1; 1: sd s0, 1(t0); li a7, 0x10; li a6, 0; ecall; "
        "add t0, t0, t1; addi s0, s0, -1; bnez s0, 1b"
    ),
}


def records(code: str, late: bool) -> list[TrapRecord]:
    """What is told of a guest's traps."""
    with Guest("linux-6.12", memory=16 << 20) as guest:
        guest.load_bytes(assemble(code + OFF, 0x8020_0000), "traps")
        found: list[TrapRecord] = []
        guest.vm.on_trap = found.append
        guest.vm.told_late = late
        assert guest.run(max_instructions=100_000).reason == "exit"
        assert len(found) == sum(guest.vm.routes().values())
        return found


@pytest.mark.parametrize("name", list(LOOPS))
def test_late_records_are_all_of_them(name: str) -> None:
    """However many traps firmware and KVM handle in native code, each has its record, in order, and as at once."""
    at_once = records(LOOPS[name], False)
    assert len(at_once) > 900
    assert records(LOOPS[name], True) == at_once
    for record in (*at_once[:2], *at_once[-2:]):
        assert trace_line(record) == json.dumps(trace_data(record)) + "\n"
