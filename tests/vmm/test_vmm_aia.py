"""What `run --aia` gives a guest."""

from __future__ import annotations

from pathlib import Path

import pytest

from trapline.isa.assemble import assemble
from trapline.kvm.aia import aia_device as d
from trapline.machine import memory_map as mm
from trapline.machine.devices import aplic as a
from trapline.vmm.guest import Guest
from trapline.vmm.guest_tree import guest_isa, guest_tree

ENTRY = 0x8020_0000
# The UART interrupts through the APLIC and the IMSIC; the handler claims, counts and ends the third time.
PROGRAM = f"""
    la t0, handler
    csrw stvec, t0
    li t0, 0x70
    csrw siselect, t0
    li t1, 1
    csrw sireg, t1
    li t0, 0xc0
    csrw siselect, t0
    li t1, 0x200
    csrw sireg, t1
    csrs sie, t1
    li s8, {mm.APLIC_S.base:#x}
    li t1, {a.LEVEL1}
    sw t1, {4 * mm.UART_IRQ}(s8)
    li t0, {a.TARGET + 4 * (mm.UART_IRQ - 1):#x}
    add t0, t0, s8
    li t1, 9
    sw t1, 0(t0)
    li t0, {a.SETIENUM:#x}
    add t0, t0, s8
    li t1, {mm.UART_IRQ}
    sw t1, 0(t0)
    li t1, {a.DOMAINCFG_IE}
    sw t1, 0(s8)
    csrsi sstatus, 2
    li s9, {mm.UART.base:#x}
    li s1, 0
1:  li t1, 2
    sb t1, 1(s9)
    li t2, 200
2:  addi t2, t2, -1
    bnez t2, 2b
    sb x0, 1(s9)
    lbu t1, 2(s9)
    j 1b
.align 2
handler:
    csrrw s2, stopei, x0
    sb x0, 1(s9)
    addi s1, s1, 1
    li t3, 3
    beq s1, t3, 3f
    sret
3:  li a7, 0x53525354
    li a6, 0
    li a0, 0
    li a1, 0
    ecall
"""


def guest(aia: str, vcpus: int = 1, engine: str = "reference", policy: str = "linux-7.2") -> Guest:
    made = Guest(policy, memory=8 << 20, vcpus=vcpus, engine=engine, aia=aia)
    made.load_bytes(assemble(PROGRAM, ENTRY))
    return made


@pytest.mark.parametrize("aia", ["aplic-imsic,guests=1", "aplic-imsic,guests=2,mode=emul", "aplic-imsic"])
def test_a_device_interrupts_through_aplic_and_imsic(aia: str) -> None:
    """The UART's wire becomes the MSI that the guest asked for, whoever holds the interrupt file."""
    made = guest(aia)
    result = made.run(max_instructions=20_000)
    assert (result.reason, result.code) == ("exit", 0)
    assert int(made.vm.vcpus[0].hart.x[18]) == 9 << 16 | 9


def test_tree_and_isa() -> None:
    """The guest finds one APLIC, one IMSIC node without guest files, ssaia but not smaia, and no PLIC."""
    made = guest("aplic-imsic,guests=3", 2)
    cpu = made.vm.vcpus[0]
    assert "ssaia" in guest_isa(cpu).split("_")
    assert "smaia" not in guest_isa(cpu)
    blob = guest_tree(cpu, [(ENTRY, 1 << 20)], 2, 10_000_000, aia=made.aia)
    assert blob.count(b"aplic@") == blob.count(b"imsics@") == 1
    assert b"imsics@28000000" in blob
    assert b"guest-index-bits" not in blob
    assert b"plic@c000000" not in blob
    device = made.vm.aia
    assert device is not None
    assert device.get_attr(d.GRP_CONFIG, d.CONFIG_MODE) == d.MODE_AUTO
    assert device.get_attr(d.GRP_ADDR, d.addr_imsic(1)) == mm.IMSIC_S_BASE + 0x1000


@pytest.mark.parametrize(
    ("aia", "policy", "message"),
    [
        ("aplic-imsic,mode=hwaccel", "linux-7.2", "guests=N"),
        ("aplic-imsic,mode=fast", "linux-7.2", "emul, hwaccel, auto"),
        ("aplic-imsic", "linux-6.4", "linux-6.4"),
        ("gic", "linux-7.2", "aplic-imsic"),
    ],
)
def test_errors(aia: str, policy: str, message: str) -> None:
    """What cannot be had is one line that says why."""
    with pytest.raises(ValueError, match=message):
        guest(aia, policy=policy)


@pytest.mark.parametrize("aia", ["aplic-imsic,guests=1", "aplic-imsic,guests=1,mode=emul"])
def test_snapshot(tmp_path: Path, aia: str) -> None:
    """A restored guest has its interrupt files and its APLIC, and ends as the one that went on."""
    made = guest(aia)
    made.run(max_instructions=700)
    made.snapshot(tmp_path / "at")
    restored = Guest.restore(tmp_path / "at", engine="reference")
    ends = [g.run(max_instructions=20_000) for g in (made, restored)]
    assert ends[0] == ends[1]
    assert made.vm.stats() == restored.vm.stats()
