"""Hosted exits leave the same in native code and under the reference engine, which runs the same functions."""

from __future__ import annotations

from typing import Any

import pytest

from trapline.engine.api import Before
from trapline.firmware.exit_log import (
    FIRMWARE_EMULATE,
    FIRMWARE_TO_VS,
    KINDS,
    KVM_EMULATE,
    KVM_REDIRECT,
    MMIO_USER,
    SBI_CALL,
    VIA_FIRMWARE,
)
from trapline.isa.assemble import assemble
from trapline.kvm.uapi.slots import SlotKind
from trapline.kvm.vm import LAST_TRAPS
from trapline.session.terminal.console import Console
from trapline.vmm.arguments import SlotArgument
from trapline.vmm.guest import Guest

ENTRY, HOLE = 0x8020_0000, 0xC000_0000

# A handler for all that the guest gets: it steps over the instruction, or quiets the interrupt.
GUEST = """
    la t0, handler
    csrw stvec, t0
    li t0, 0x222
    csrs sie, t0
    csrsi sstatus, 2
    li s0, {rounds}
    la s2, data
    li s3, 0x10000000
    li s4, 0xC0000000
    {enter}
again:
    {body}
    addi s0, s0, -1
    bnez s0, again
    li a7, 0x53525354
    li a6, 0
    li a0, 0
    li a1, 0
    ecall
end: j end
.align 2
handler:
    csrr t0, scause
    bltz t0, interrupt
    addi s10, s10, 1
    li t1, 8
    beq t0, t1, off
    csrr t1, sepc
    lhu t2, 0(t1)
    andi t2, t2, 3
    addi t1, t1, 2
    addi t2, t2, -3
    bnez t2, 1f
    addi t1, t1, 2
1:  csrw sepc, t1
    sret
interrupt:
    addi s11, s11, 1
    csrci sip, 2
    li t0, -1
    csrw stimecmp, t0
    sret
off:
    li a7, 0x53525354
    li a0, 0
    li a1, 0
    ecall
.align 12
data:
    .dword 0x8877665544332211
    .dword 0xffeeddccbbaa9988
"""
TO_VU = """
    la t0, again
    csrw sepc, t0
    li t0, 0x100
    csrc sstatus, t0
    sret
"""
MISALIGNED = """
    lh a0, 1(s2)
    lhu a1, 3(s2)
    lw a2, 1(s2)
    lwu a3, 3(s2)
    ld a4, 1(s2)
    add s5, s5, a0
    add s5, s5, a2
    add s5, s5, a4
    sh a0, 17(s2)
    sw a2, 21(s2)
    sd a4, 33(s2)
    ld zero, 5(s2)
    addi a5, s2, 1
    c.ld a4, 8(a5)
    c.sd a4, 16(a5)
    li t3, 4093
    add t3, t3, s2
    sd s5, 0(t3)
    ld a5, 0(t3)
    add s5, s5, a5
    fld fa0, 1(s2)
    amoadd.d a0, a1, (t3)
"""
DEVICES = """
    lbu a0, 5(s3)
    lb a1, 5(s3)
    sb s0, 7(s3)
    lbu a2, 7(s3)
    mv a5, s3
    c.lbu a4, 2(a5)
    lbu a3, 1(s3)
    li t3, 0x0c000000
    lw a3, 4(t3)
    li t3, 7
    li t4, 0x0c000028
    sw t3, 0(t4)
    lw a4, 0(t4)
    li t4, 0x101000
    lwu a4, 0(t4)
    add s5, s5, a4
"""
FAULTS = """
    .insn 0x0000000b
    .insn 0x0000
    ld a0, 0(s4)
    sd a0, 0(s4)
    ld a0, 1(s4)
    csrr a0, 0x5c0
    csrr a0, mscratch
    lr.d a0, (s4)
    ebreak
"""
CALLS = """
    li a7, 0x54494d45
    li a6, 0
    csrr a0, time
    addi a0, a0, 40
    ecall
    add s5, s5, a0
    li a7, 0x735049
    li a0, 1
    li a1, 0
    ecall
    li a0, 2
    ecall
    add s5, s5, a0
    csrci sstatus, 2
    li a0, 1
    ecall
    wfi
    csrsi sstatus, 2
    li a7, 0x52464e43
    li a0, 1
    ecall
    li a6, 1
    li a0, -1
    li a1, -1
    li a2, 0
    li a3, -1
    ecall
    li a6, 5
    ecall
    add s5, s5, a0
    li a7, 0x10
    li a6, 0
    ecall
    li a7, 0x54494d45
    csrr a0, time
    addi a0, a0, 200
    ecall
    wfi
"""


def picture(engine: str, body: str, mode: str, options: dict[str, Any], rounds: int = 30) -> dict[str, Any]:
    """Everything that a run leaves."""
    out = bytearray()
    options = {"memslots": [SlotArgument(HOLE, 0x10000, SlotKind.HOLE)], "memory": 4 << 20, **options}
    made = Guest(options.pop("policy", "linux-7.2"), console=Console(out.extend), engine=engine, **options)
    source = GUEST.format(rounds=rounds, body=body, enter=TO_VU if mode == "VU" else "")
    made.load_bytes(assemble(source, ENTRY))
    result = made.run(max_instructions=200_000)
    vm = made.vm
    return {
        "result": (result.reason, result.code, result.message, result.instructions),
        "output": bytes(out),
        "position": made.position(),
        "statistics": vm.stats(),
        "routes": dict(vm.routes()),
        "last traps": list(vm.last_traps),
        "firmware": (dict(vm.firmware.stats), vm.firmware.estimated_instructions),
        "log": vm.log_lines,
        "harts": [
            [[int(n) for n in v.hart.x][:32], [int(n) for n in v.hart.mode_instret], v.pc, v.irqs_pending, v.csrs.hvip]
            + [int(n) for n in (v.hart.vstimecmp, v.hart.time_offset, v.hart.kvm_unspent, v.hart.mstatus)]
            for v in vm.vcpus
        ],
        "memory": vm.read_memory(0x8020_0000, 0x4000),
        "leaves": list(vm.gstage.leaves),
        "hosted": sum(int(n) for v in vm.vcpus for n in v.hart.exit_count),
    }


PAGES = """
    li t3, 0x80300000
    slli t4, s0, 13
    add t3, t3, t4
    sd s0, 0(t3)
    ld a0, 8(t3)
    add s5, s5, a0
    li t4, 0x1000
    add t3, t3, t4
    ld a0, 0(t3)
    sd s0, 0(t3)
"""


CASES: list[tuple[str, str, dict[str, Any]]] = [
    (MISALIGNED, "VS", {}),
    (MISALIGNED, "VU", {"firmware": "opensbi-1.1"}),
    (MISALIGNED, "VS", {"tinst": "transformed"}),
    (MISALIGNED, "VS", {"firmware": "delegates-all"}),
    (DEVICES, "VS", {}),
    (DEVICES, "VU", {"tinst": "transformed", "policy": "linux-6.12"}),
    (FAULTS, "VS", {}),
    (FAULTS, "VU", {"policy": "linux-6.1", "firmware": "opensbi-1.0"}),
    (FAULTS, "VU", {"policy": "linux-7.2", "firmware": "ignores-hedeleg"}),
    (FAULTS, "VU", {"policy": "linux-6.12", "firmware": "hard-wired"}),
    (FAULTS, "VU", {"policy": "holland-2"}),
    (PAGES, "VS", {"policy": "linux-6.1"}),
    (PAGES, "VU", {"memory": 8 << 20}),
    (PAGES, "VS", {"policy": "linux-5.16", "vcpus": 2}),
    (CALLS, "VS", {}),
    (CALLS, "VS", {"policy": "linux-6.1"}),
    (MISALIGNED + DEVICES + FAULTS + CALLS, "VS", {"vcpus": 2}),
]


@pytest.mark.parametrize(("body", "mode", "options"), CASES)
def test_engines_agree(body: str, mode: str, options: dict[str, Any]) -> None:
    """Registers, memory, time, statistics, routes, records and console are the same either way."""
    native, reference = (picture(engine, body, mode, options, rounds=5) for engine in ("native", "reference"))
    assert native == reference


def test_these_exits_stay_in_native_code() -> None:
    """The cases above are handled natively where they should be: emulation, redirects by either, calls, devices."""
    seen = picture("native", MISALIGNED + DEVICES + FAULTS + CALLS, "VS", {})
    assert seen["hosted"] > 30 * 15
    hows = {how for (_, _, _, how, _, _) in seen["routes"]}
    handled = {KVM_EMULATE, MMIO_USER, SBI_CALL, KVM_REDIRECT + VIA_FIRMWARE, FIRMWARE_EMULATE, FIRMWARE_TO_VS}
    assert {KINDS[kind].how for kind in handled} <= hows
    made = picture("native", FAULTS, "VU", {"policy": "linux-7.2", "firmware": "ignores-hedeleg"})
    hows = {how for (_, _, _, how, _, _) in made["routes"]}
    assert KINDS[KVM_REDIRECT + VIA_FIRMWARE].how in hows


def test_a_hook_sees_every_trap() -> None:
    """With on_trap set every trap is told as it happens, and the result is the same."""
    records: list[Any] = []
    made = Guest("linux-7.2", memory=4 << 20, console=Console(lambda data: None))
    made.vm.on_trap = records.append
    made.load_bytes(assemble(GUEST.format(rounds=5, body=MISALIGNED, enter=""), ENTRY))
    made.run(max_instructions=100_000)
    assert len(records) == sum(made.vm.routes().values()) > 50
    assert records[-LAST_TRAPS:] == list(made.vm.last_traps)


class CountedEngine(Before):
    """An engine that counts how often it is entered."""

    def __init__(self, engine: Any) -> None:
        super().__init__(engine)
        self.runs = 0

    def run(self, hart: Any, limit: int) -> int:
        self.runs += 1
        return int(self.engine.run(hart, limit))


def test_a_limit_does_not_chop_the_turns_of_a_vcpu() -> None:
    """Native code is left at the ends of turns and at the limit, wherever in a turn the limit lies."""
    made = Guest("linux-6.14", memory=4 << 20, console=Console(lambda data: None))
    made.load_bytes(assemble(GUEST.format(rounds=1_000_000, body=".word 0x6b", enter=TO_VU), ENTRY))
    engine = made.vm.engine = CountedEngine(made.vm.engine)
    for _ in range(20):
        made.run(max_instructions=15_000)
    turns = int(made.vm.vcpus[0].hart.time_offset) * 100 // made.vm.engine.turn
    assert turns > 5
    assert engine.runs <= 20 + 2 * turns + 20
