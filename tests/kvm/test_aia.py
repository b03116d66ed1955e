"""KVM's AIA device: attributes and errors, interrupts in both kinds of file, emulated CSRs, ONE_REG."""

from __future__ import annotations

from pathlib import Path

import pytest
from guest import BASE

from trapline.isa.assemble import assemble
from trapline.kvm.aia import aia_device as d
from trapline.kvm.aia.aia_device import AiaDevice
from trapline.kvm.uapi import onereg as o
from trapline.kvm.uapi.numbers import EBUSY, EINVAL, ENODEV, ENOENT, ENXIO, Exit
from trapline.kvm.uapi.onereg import OneRegError, get_one_reg, reg_id, reg_list, set_one_reg
from trapline.kvm.vcpu import Vcpu
from trapline.kvm.vm import Vm
from trapline.machine.aia import Aia
from trapline.machine.devices import aplic as a
from trapline.privilege.isa_string import DEFAULT_ISA

APLIC, IMSIC, SOURCE = 0x0D00_0000, 0x2800_0000, 10
SHUTDOWN = """
    li a7, 0x53525354
    li a6, 0
    li a0, 0
    li a1, 0
    ecall
"""
# Takes external interrupts from its IMSIC: s2 the cause, s3 stopi, s4 the identity and priority that it claimed.
GUEST = f"""
    la t0, handler
    csrw stvec, t0
    li t0, 0x70
    csrw siselect, t0
    li t1, 1
    csrw sireg, t1
    li t0, 0xc0
    csrw siselect, t0
    li t1, -1
    csrw sireg, t1
    csrr s5, sireg
    li t0, 0x200
    csrs sie, t0
    csrsi sstatus, 2
{{event}}
wait:
    wfi
    j wait
.align 2
handler:
    csrr s2, scause
    csrr s3, stopi
    csrrw s4, stopei, x0
    csrr s6, stopi
    {SHUTDOWN}
"""
SEND_TO_ITSELF = f"""
    li t0, {IMSIC:#x}
    li t1, 5
    sw t1, 0(t0)
"""


def vm(guests: int = 1, vcpus: int = 1, engine: str = "reference", policy: str = "linux-7.2") -> Vm:
    return Vm(policy, engine=engine, vcpus=vcpus, host_aia=Aia("aplic-imsic", guests))


def device(machine: Vm, mode: int | None = None) -> AiaDevice:
    made = machine.create_aia()
    if mode is not None:
        assert made.set_attr(d.GRP_CONFIG, d.CONFIG_MODE, mode) == 0
    made.set_attr(d.GRP_CONFIG, d.CONFIG_SRCS, 96)
    made.set_attr(d.GRP_CONFIG, d.CONFIG_HART_BITS, 1)
    made.set_attr(d.GRP_ADDR, d.ADDR_APLIC, APLIC)
    for n in range(len(machine.vcpus)):
        assert made.set_attr(d.GRP_ADDR, d.addr_imsic(n), IMSIC + n * 0x1000) == 0
    assert made.set_attr(d.GRP_CTRL, d.CTRL_INIT) == 0
    return made


def load(machine: Vm, event: str) -> None:
    machine.add_memory(BASE, 0x10000)
    machine.write_memory(BASE, assemble(GUEST.format(event=event), BASE))
    machine.vcpus[0].set_pc(BASE)


def run(machine: Vm) -> Vcpu:
    result = machine.run(None, max_instructions=20_000)
    assert result.reason == "exit"
    assert machine.vcpus[0].kvm_run.exit_reason == Exit.SYSTEM_EVENT
    return machine.vcpus[0]


@pytest.mark.parametrize("engine", ["reference", "native"])
@pytest.mark.parametrize("mode", [d.MODE_EMUL, d.MODE_HWACCEL])
def test_msi_from_the_guest_to_itself(engine: str, mode: int) -> None:
    """A store to the IMSIC's page interrupts the guest; with a guest file nothing but the page and WFI leaves it."""
    machine = vm(engine=engine)
    device(machine, mode)
    load(machine, SEND_TO_ITSELF)
    cpu = run(machine)
    x = cpu.hart.x
    assert [int(x[n]) for n in (18, 20, 22)] == [1 << 63 | 9, 5 << 16 | 5, 0]
    assert int(x[19]) == 9 << 16 | 1
    assert int(x[21]) == (1 << 64) - 2
    emulated = cpu.stats.snapshot(cpu.hart)
    assert (emulated["csr_exit_kernel"], emulated["mmio_exit_kernel"]) == ((4, 1) if mode == d.MODE_EMUL else (0, 0))


@pytest.mark.parametrize("mode", [d.MODE_EMUL, d.MODE_AUTO])
def test_wire_through_the_aplic(mode: int) -> None:
    """KVM_IRQ_LINE reaches a vCPU that sleeps, as the MSI that the APLIC's target register names."""
    machine = vm()
    made = device(machine, mode)
    load(machine, "")
    assert machine.run(None, max_instructions=5_000).reason in ("halted", "limit")
    for register, value in (
        (a.SOURCECFG + 4 * (SOURCE - 1), a.LEVEL1),
        (a.TARGET + 4 * (SOURCE - 1), 33),
        (a.SETIENUM, SOURCE),
        (a.DOMAINCFG, a.DOMAINCFG_IE),
    ):
        assert made.set_attr(d.GRP_APLIC, register, value) == 0
    assert made.inject_irq(SOURCE, level=True) == 0
    cpu = run(machine)
    assert int(cpu.hart.x[20]) == 33 << 16 | 33
    assert made.get_attr(d.GRP_APLIC, a.IN_CLRIP) == 1 << SOURCE
    assert made.get_attr(d.GRP_APLIC, a.MSIADDRCFG) == 0


def test_configuration_and_its_errors() -> None:
    """CONFIG, ADDR and CTRL answer as KVM does; after CTRL_INIT nothing changes any more."""
    machine = vm(0, 2)
    made = machine.create_aia()
    with pytest.raises(ValueError, match="exists already"):
        machine.create_aia()
    assert made.get_attr(d.GRP_CONFIG, d.CONFIG_MODE) == d.MODE_EMUL
    assert made.get_attr(d.GRP_CONFIG, d.CONFIG_IDS) == 255
    for attribute, value in (
        (d.CONFIG_MODE, d.MODE_AUTO), (d.CONFIG_MODE, d.MODE_HWACCEL), (d.CONFIG_MODE, 3), (d.CONFIG_IDS, 62),
        (d.CONFIG_IDS, 100), (d.CONFIG_IDS, 319), (d.CONFIG_SRCS, 256), (d.CONFIG_GROUP_BITS, 8),
        (d.CONFIG_GROUP_SHIFT, 23), (d.CONFIG_GROUP_SHIFT, 56), (d.CONFIG_HART_BITS, 16), (d.CONFIG_GUEST_BITS, 8),
    ):  # fmt: skip
        assert made.set_attr(d.GRP_CONFIG, attribute, value) == -EINVAL, (attribute, value)
    assert made.set_attr(d.GRP_CONFIG, 7, 0) == -ENXIO
    assert made.set_attr(d.GRP_CTRL, 1) == -ENXIO
    assert made.set_attr(d.GRP_ADDR, 3, 0) == -ENXIO
    assert made.set_attr(d.GRP_ADDR, 1, 0x800) == -EINVAL
    assert made.set_attr(d.GRP_APLIC, 0, 0) == -ENODEV
    assert made.set_attr(d.GRP_IMSIC, d.imsic_attr(0, 0x70), 1) == -ENODEV
    assert made.set_attr(d.GRP_CTRL, d.CTRL_INIT) == -EINVAL
    assert made.inject_msi(IMSIC, 1) == made.inject_irq(1, level=True) == -EBUSY
    made.set_attr(d.GRP_CONFIG, d.CONFIG_SRCS, 96)
    for n, address in enumerate((IMSIC, IMSIC + 0x1000)):
        made.set_attr(d.GRP_ADDR, d.addr_imsic(n), address)
    assert made.set_attr(d.GRP_CTRL, d.CTRL_INIT) == -EINVAL  # no APLIC address, and different bases
    made.set_attr(d.GRP_ADDR, d.ADDR_APLIC, APLIC)
    assert made.set_attr(d.GRP_CTRL, d.CTRL_INIT) == -EINVAL
    made.set_attr(d.GRP_CONFIG, d.CONFIG_HART_BITS, 1)
    assert made.set_attr(d.GRP_CTRL, d.CTRL_INIT) == 0
    assert made.set_attr(d.GRP_CTRL, d.CTRL_INIT) == -EBUSY
    assert made.set_attr(d.GRP_CONFIG, d.CONFIG_SRCS, 1) == -EBUSY
    assert made.set_attr(d.GRP_ADDR, d.ADDR_APLIC, APLIC) == -EBUSY
    assert made.get_attr(d.GRP_ADDR, d.addr_imsic(1)) == IMSIC + 0x1000
    assert [made.has_attr(*at) for at in ((d.GRP_CONFIG, 6), (d.GRP_CONFIG, 7), (d.GRP_APLIC, 0x4000))] == [
        0,
        -ENXIO,
        -ENXIO,
    ]


@pytest.mark.parametrize("mode", [d.MODE_EMUL, d.MODE_AUTO])
def test_interrupt_files_for_the_vmm(mode: int) -> None:
    """GRP_IMSIC reads and writes a vCPU's file, wherever it is; a reset empties it and gives the guest file back."""
    machine = vm(1, 2)
    made = device(machine, mode)
    cpu = machine.vcpus[1]
    for loaded in (False, True):
        if loaded:
            cpu.load()
            assert cpu.aia.imsic is not None
            assert cpu.aia.imsic.vsfile == (0 if mode == d.MODE_EMUL else 1)
        for register, value in ((0x70, 1), (0x72, 70), (0xC0, 1 << 5), (0xC2, 1 << 3)):
            assert made.set_attr(d.GRP_IMSIC, d.imsic_attr(1, register), value) == 0
            assert made.get_attr(d.GRP_IMSIC, d.imsic_attr(1, register)) == value
        assert made.inject_msi(IMSIC + 0x1000, 67) == 0
        assert made.get_attr(d.GRP_IMSIC, d.imsic_attr(1, 0x82)) == 1 << 3
        cpu.csrs.vsie = 1 << 9
        assert cpu.runnable()
    assert made.inject_msi(IMSIC + 0x1000, 256) == -EINVAL
    assert made.inject_msi(IMSIC + 0x1008, 6) == -ENODEV
    assert made.set_attr(d.GRP_IMSIC, d.imsic_attr(1, 0x81), 1) == -EINVAL
    assert made.set_attr(d.GRP_IMSIC, d.imsic_attr(1, 0x71), 1) == -ENOENT
    assert made.set_attr(d.GRP_IMSIC, d.imsic_attr(2, 0x70), 1) == -ENODEV
    cpu.reset(0, 0)
    assert made.get_attr(d.GRP_IMSIC, d.imsic_attr(1, 0x82)) == 0
    assert not cpu.runnable()


def test_a_file_moves_with_its_state() -> None:
    """Taking and giving back a guest file carries delivery, threshold, enables and what is pending."""
    machine = vm(1)
    made = device(machine)
    cpu = machine.vcpus[0]
    values = {0x70: 1, 0x72: 9, 0x80: 1 << 4 | 1 << 8, 0xC0: 1 << 4 | 1 << 6}
    for register, value in values.items():
        made.set_attr(d.GRP_IMSIC, d.imsic_attr(0, register), value)
    imsic = cpu.aia.imsic
    assert imsic is not None
    for place in (1, 0, 1):
        if place:
            cpu.put()
            cpu.load()
        else:
            imsic.release()
        assert imsic.vsfile == place
        assert {r: made.get_attr(d.GRP_IMSIC, d.imsic_attr(0, r)) for r in values} == values
        assert cpu.irqs_pending >> 10 & 1 == 1 - place


def test_priorities_that_kvm_emulates() -> None:
    """sireg from 0x30 to 0x3f traps: even numbers read and write hviprio1 and hviprio2, odd ones are illegal."""
    machine = vm(0)
    device(machine)
    cpu = machine.vcpus[0]
    cpu.load()
    aia, ones = cpu.aia, (1 << 64) - 1
    for select, value in ((0x30, 0x4400_0000_3300), (0x32, 0x7766_5500_0000_0000), (0x34, ones), (0x36, 0)):
        cpu.hart.vsiselect = select
        assert aia.rmw(0x151, ones & ~0xFF if select == 0x34 else value, ones) == 0
    cpu.hart.vsiselect = 0x30
    assert aia.rmw(0x151, 0, 0) == 0x4400_0000_3300
    assert int(cpu.hart.hviprio1) == 0x7766_5500_4400_3300
    assert int(cpu.hart.hviprio2) == ones & ~0xFF
    cpu.hart.vsiselect = 0x31
    assert aia.rmw(0x151, 0, 0) == -1
    cpu.hart.vsiselect = 0x100
    assert aia.rmw(0x151, 0, 0) == -2


def test_one_reg() -> None:
    """The AIA's CSRs are a class of seven registers, with SSAIA among the extensions; without, none exists."""
    ids = [reg_id(o.CSR, n, subtype=o.CSR_AIA) for n in range(7)]
    cpu = vm().vcpus[0]
    assert [r for r in reg_list(cpu) if r in ids] == ids
    set_one_reg(cpu, ids[0], 0x70)
    cpu.load()
    assert int(cpu.hart.vsiselect) == 0x70
    assert get_one_reg(cpu, ids[0]) == 0x70
    with pytest.raises(OneRegError):
        get_one_reg(cpu, reg_id(o.CSR, 7, subtype=o.CSR_AIA))
    assert not set(ids) & set(reg_list(Vm("linux-7.2", engine="reference").vcpus[0]))
    assert not set(ids) & set(reg_list(vm(policy="linux-6.2").vcpus[0]))


@pytest.mark.parametrize("mode", [d.MODE_EMUL, d.MODE_AUTO])
def test_snapshot(tmp_path: Path, mode: int) -> None:
    """A restored VM has the device, its files and what is pending in them."""
    machine = vm(1)
    made = device(machine, mode)
    load(machine, "")
    assert machine.run(None, max_instructions=300).reason in ("halted", "limit")
    made.inject_msi(IMSIC, 44)
    machine.vcpus[0].put()
    machine.snapshot(tmp_path / "at")
    again = Vm.restore(tmp_path / "at", engine="reference")
    for end in (run(machine), run(again)):
        assert int(end.hart.x[20]) == 44 << 16 | 44


def test_policies_without_it() -> None:
    """Linux before 6.5 has no such device, and a hart without Ssaia gets none: the error says so."""
    for policy in ("linux-6.3", "linux-6.4"):
        with pytest.raises(ValueError, match=policy):
            vm(policy=policy).create_aia()
    with pytest.raises(ValueError, match="Ssaia"):
        Vm("linux-7.2", engine="reference", isa=DEFAULT_ISA).create_aia()
