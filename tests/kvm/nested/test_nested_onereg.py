"""ONE_REG and the death dump of a vCPU whose guest is a hypervisor."""

from __future__ import annotations

from l1 import G_ROOT, NOTES, RAM, VS_ROOT, enter, leave, nested_vm, note, program, words
from programs import g_stage, vs_stage

from trapline.kvm.nested.onereg import HEXT_CSRS
from trapline.kvm.uapi.onereg import (
    CORE,
    CORE_MODE,
    CORE_VIRT,
    CSR,
    CSR_HEXT,
    get_one_reg,
    reg_id,
    reg_list,
    set_one_reg,
)
from trapline.kvm.vm import Vm
from trapline.policies.load import parse_policy

SETUP = f"li t0, {8 << 60 | 5 << 44 | G_ROOT >> 12:#x}\ncsrw hgatp, t0\nli t0, 0x123\ncsrw vsscratch, t0\n"
TABLES = (*g_stage(8), *vs_stage())


def hext(name: str) -> int:
    """The id of a register of the H extension."""
    return reg_id(CSR, HEXT_CSRS.index(name), subtype=CSR_HEXT)


def test_a_guest_without_h_has_none() -> None:
    """A VM that does not nest has no register of subtype 3."""
    flat = Vm(engine="reference").vcpus[0]
    assert not {hext(name) for name in HEXT_CSRS} & set(reg_list(flat))


def test_read() -> None:
    """The registers hold what L1 wrote, and virt says whether its guest runs."""
    vm = nested_vm(program(f"{SETUP}{enter('inside')}inside:\nj inside\n"), TABLES)
    vcpu = vm.vcpus[0]
    assert {hext(name) for name in HEXT_CSRS} <= set(reg_list(vcpu))
    vm.run(None, max_instructions=2_000)
    assert get_one_reg(vcpu, hext("hgatp")) == 8 << 60 | 5 << 44 | G_ROOT >> 12
    assert get_one_reg(vcpu, hext("vsscratch")) == 0x123
    assert get_one_reg(vcpu, hext("henvcfgh")) == 0
    assert get_one_reg(vcpu, reg_id(CORE, CORE_VIRT)) == 1
    assert get_one_reg(vcpu, reg_id(CORE, CORE_MODE)) == 1


def test_moved_while_l2_runs() -> None:
    """A vCPU whose registers are read while L2 runs goes on in a new VM where they are written."""
    body = f"{SETUP}{enter('inside')}inside:\nli t0, 2000\n1:\naddi t0, t0, -1\nbnez t0, 1b\ncsrr s4, sscratch\n"
    code = program(f"{body}sd s4, 0(s11)\naddi s11, s11, 8\n{leave('out')}out:\n{note('hgatp')}")
    old, new = nested_vm(code, TABLES), nested_vm(code, TABLES)
    old.run(None, max_instructions=1_500)
    for reg in reg_list(old.vcpus[0]):
        value = get_one_reg(old.vcpus[0], reg)
        if value != get_one_reg(new.vcpus[0], reg):
            set_one_reg(new.vcpus[0], reg, value)
    new.write_memory(RAM, old.read_memory(RAM, 0x40_0000))
    result = new.run(None, max_instructions=50_000)
    noted = words(new.read_memory(NOTES, 0x1000))
    assert result.reason == "exit"
    assert noted[0] == 0x123
    assert noted[1:3] == [0x1111, 10]
    assert noted[-1] == 8 << 60 | 5 << 44 | G_ROOT >> 12


def test_death_shows_three_walks() -> None:
    """A death in L2 shows L2's table, L1's G-stage and L0's."""
    policy = parse_policy(
        'extends = "linux-7.2"\ndefault = "kill"\n[nested]\n[[bug]]\nname = "nested-undelegated-kill"\n'
    )
    body = f"{SETUP}li t0, {8 << 60 | VS_ROOT >> 12:#x}\ncsrw vsatp, t0\n{enter('inside')}inside:\n"
    vm = nested_vm(program(f"{body}li t0, {4 << 30:#x}\nld t1, 0(t0)\n"), TABLES, policy=policy)
    death = vm.run(None, max_instructions=20_000).death
    assert death is not None
    assert [w.stage for w in death.walks] == ["VS", "L1's G", "G"]
    assert [w.result is not None for w in death.walks] == [True, True, True]
    assert death.walks[0].result == death.walks[1].address == death.walks[1].result == RAM
