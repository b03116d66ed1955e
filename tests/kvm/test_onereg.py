"""ONE_REG: numbers, sizes, errors and effects of every register class."""

from __future__ import annotations

import pytest

from trapline.kvm.uapi import onereg as o
from trapline.kvm.uapi.isa_ext import ISA_EXTENSIONS
from trapline.kvm.uapi.numbers import EBUSY, EINVAL, ENOENT
from trapline.kvm.uapi.onereg import OneRegError, get_one_reg, reg_id, reg_list, set_one_reg
from trapline.kvm.vcpu import Vcpu
from trapline.kvm.vm import Vm
from trapline.privilege.isa_string import DEFAULT_ISA


def vcpu(policy: str = "linux-7.2", **options: object) -> Vcpu:
    return Vm(policy, engine="reference", **options).vcpus[0]  # type: ignore[arg-type]


def errno(action: object, *args: object) -> int | None:
    with pytest.raises(OneRegError) as caught:
        action(*args)  # type: ignore[operator]
    return caught.value.errno


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("a", 0),
        ("m", 6),
        ("svpbmt", 7),
        ("sstc", 8),
        ("v", 15),
        ("zawrs", 61),
        ("svadu", 65),
        ("zicbop", 71),
        ("zicfiss", 79),
    ],
)
def test_isa_extension_numbers(name: str, number: int) -> None:
    """Extensions have the numbers of KVM_RISCV_ISA_EXT_ID."""
    assert ISA_EXTENSIONS.index(name) == number


def test_ids_are_the_kernels() -> None:
    """An id is architecture, size, class and number as user space builds it."""
    assert reg_id(o.CORE, 0) == 0x8030_0000_0200_0000
    assert reg_id(o.FP_F, 32, size=o.U32) == 0x8020_0000_0500_0020
    assert reg_id(o.SBI_STATE, 2, subtype=o.SBI_FWFT) == 0x8030_0000_0A01_0002


def test_every_listed_register_can_be_read_and_written_back() -> None:
    """KVM_GET_REG_LIST names registers that exist, and their own values are accepted."""
    for policy in ("linux-5.16", "linux-6.12", "linux-7.3"):
        cpu = vcpu(policy, host_fwft=True)
        listed = reg_list(cpu)
        assert len(set(listed)) == len(listed)
        for reg in listed:
            value = get_one_reg(cpu, reg)
            if reg != reg_id(o.TIMER, 3):  # state 0 of a timer that is off is EINVAL in KVM too
                set_one_reg(cpu, reg, value)
            assert get_one_reg(cpu, reg) == value


def test_core_registers() -> None:
    """pc, x1 to x31 and the mode."""
    cpu = vcpu()
    for number, value in ((0, 0x8000_0000), (1, 5), (31, 7), (32, 0)):
        set_one_reg(cpu, reg_id(o.CORE, number), value)
        assert get_one_reg(cpu, reg_id(o.CORE, number)) == value
    assert (cpu.pc, int(cpu.hart.x[31])) == (0x8000_0000, 7)
    assert errno(get_one_reg, cpu, reg_id(o.CORE, 33)) == ENOENT


def test_csr_registers_reach_the_hart() -> None:
    """A general CSR that was set is in the hart once the vCPU is loaded; sip shifts into hvip."""
    cpu = vcpu()
    set_one_reg(cpu, reg_id(o.CSR, 2), 0x8000_1000)
    set_one_reg(cpu, reg_id(o.CSR, 7), 1 << 1)
    cpu.load()
    assert (int(cpu.hart.vstvec), int(cpu.hart.hvip)) == (0x8000_1000, 1 << 2)
    assert get_one_reg(cpu, reg_id(o.CSR, 7)) == 1 << 1
    assert errno(get_one_reg, cpu, reg_id(o.CSR, 7, subtype=o.CSR_AIA)) == ENOENT


def test_a_wrong_size_is_einval() -> None:
    """The size in the id must be the register's."""
    cpu = vcpu()
    assert errno(get_one_reg, cpu, reg_id(o.CORE, 0, size=o.U32)) == EINVAL
    assert errno(get_one_reg, cpu, reg_id(o.FP_F, 0)) == EINVAL


def test_unknown_registers_by_release() -> None:
    """An unknown register is ENOENT since 6.7 and EINVAL before."""
    for policy, expected in (("linux-6.6", EINVAL), ("linux-6.7", ENOENT)):
        assert errno(get_one_reg, vcpu(policy), reg_id(o.CONFIG, 99)) == expected
        assert errno(get_one_reg, vcpu(policy), reg_id(99 << 24, 0)) == expected


def test_classes_exist_from_their_release_on() -> None:
    """SBI_EXT came with 6.4; before, its ids do not exist."""
    reg = reg_id(o.SBI_EXT, 1)
    assert errno(get_one_reg, vcpu("linux-6.3"), reg) == EINVAL
    assert get_one_reg(vcpu("linux-6.4"), reg) == 1


def test_vector_registers_do_not_exist_without_v() -> None:
    """The vector class answers ENOENT."""
    assert errno(get_one_reg, vcpu(), reg_id(o.VECTOR, 0)) == ENOENT


def test_isa_extensions_can_be_taken_away_before_the_first_run() -> None:
    """Some extensions can be disabled, some cannot, and none after the vCPU has run."""
    cpu = vcpu()
    zicboz, a, h = (reg_id(o.ISA_EXT, ISA_EXTENSIONS.index(n)) for n in ("zicboz", "a", "h"))
    set_one_reg(cpu, zicboz, 0)
    assert get_one_reg(cpu, zicboz) == 0
    assert errno(set_one_reg, cpu, a, 0) == EINVAL
    assert get_one_reg(cpu, h) == 0
    assert errno(set_one_reg, cpu, h, 1) == EINVAL
    cpu.load()
    assert not cpu.config.henvcfg & 1 << 7
    assert errno(set_one_reg, cpu, zicboz, 1) == EBUSY


def test_a_guest_without_f_has_fs_off() -> None:
    """Disabling F turns sstatus.FS off and its registers away."""
    cpu = vcpu()
    set_one_reg(cpu, reg_id(o.ISA_EXT, ISA_EXTENSIONS.index("d")), 0)
    set_one_reg(cpu, reg_id(o.ISA_EXT, ISA_EXTENSIONS.index("f")), 0)
    assert int(cpu.hart.guest_sstatus) & 3 << 13 == 0
    assert errno(get_one_reg, cpu, reg_id(o.FP_F, 0, size=o.U32)) == ENOENT


def test_masks_of_extensions() -> None:
    """MULTI registers show and switch 64 at a time, ignoring those that refuse."""
    cpu = vcpu()
    mask = get_one_reg(cpu, reg_id(o.ISA_EXT, 0, subtype=o.MULTI_EN))
    assert mask & 1 and not mask >> ISA_EXTENSIONS.index("v") & 1
    assert get_one_reg(cpu, reg_id(o.ISA_EXT, 0, subtype=o.MULTI_DIS)) == ~mask & (1 << 64) - 1
    set_one_reg(cpu, reg_id(o.SBI_EXT, 0, subtype=o.MULTI_DIS), 1 << 1 | 1 << 2)
    assert get_one_reg(cpu, reg_id(o.SBI_EXT, 1)) == 0
    assert errno(get_one_reg, cpu, reg_id(o.ISA_EXT, 2, subtype=o.MULTI_EN)) == ENOENT


def test_sbi_extensions_are_off_or_on_as_kvm_has_them() -> None:
    """DBCN is there and off, TIME on, FWFT missing before 6.18."""
    cpu = vcpu("linux-6.12")
    values = {n: get_one_reg(cpu, reg_id(o.SBI_EXT, o.SBI_EXTENSIONS.index(n))) for n in ("DBCN", "TIME")}
    assert values == {"DBCN": 0, "TIME": 1}
    assert errno(get_one_reg, cpu, reg_id(o.SBI_EXT, o.SBI_EXTENSIONS.index("FWFT"))) == ENOENT
    assert errno(set_one_reg, cpu, reg_id(o.SBI_EXT, 1), 2) == EINVAL


def test_fwft_state() -> None:
    """The misaligned feature shows hedeleg bits 4 and 6, and exists only if the host delegates."""
    value = reg_id(o.SBI_STATE, 2, subtype=o.SBI_FWFT)
    assert errno(get_one_reg, vcpu(), value) == ENOENT
    cpu = vcpu(host_fwft=True)
    assert get_one_reg(cpu, value) == 0
    set_one_reg(cpu, value, 1)
    cpu.load()
    assert int(cpu.hart.hedeleg) & 0x50 == 0x50
    assert errno(set_one_reg, cpu, value, 2) == EINVAL


def test_timer_and_config() -> None:
    """Frequency is fixed, time can be set, block sizes are the hart's."""
    cpu = vcpu()
    assert get_one_reg(cpu, reg_id(o.TIMER, 0)) == cpu.vm.timebase
    assert errno(set_one_reg, cpu, reg_id(o.TIMER, 0), 1) == EINVAL
    set_one_reg(cpu, reg_id(o.TIMER, 1), 1_000_000)
    assert get_one_reg(cpu, reg_id(o.TIMER, 1)) == 1_000_000
    assert get_one_reg(cpu, reg_id(o.CONFIG, 1)) == int(cpu.hart.cache_block)
    set_one_reg(cpu, reg_id(o.CONFIG, 2), 0x123)
    assert get_one_reg(cpu, reg_id(o.CONFIG, 2)) == 0x123
    cpu.load()
    assert errno(set_one_reg, cpu, reg_id(o.CONFIG, 2), 0x124) == EBUSY


BLOCK_SIZES = {"zicbom": 1, "zicboz": 5, "zicbop": 7}


@pytest.mark.parametrize(
    ("policy", "taken_away", "absent"),
    [
        ("linux-6.17", ENOENT, ENOENT),
        ("linux-6.18", 64, ENOENT),
        ("linux-7.1", 64, ENOENT),
        ("linux-7.2", 64, 0),
        ("linux-7.3", 64, 0),
    ],
)
def test_block_sizes_by_release(policy: str, taken_away: int, absent: int) -> None:
    """Block sizes go with the guest's extension, since 6.18 with the host's, and are always there since 7.2."""
    for name, number in BLOCK_SIZES.items():
        register = reg_id(o.CONFIG, number)
        if name != "zicbop":  # which a VMM cannot take away, and which no KVM before 6.18 knows
            cpu = vcpu(policy)
            assert get_one_reg(cpu, register) == 64
            set_one_reg(cpu, reg_id(o.ISA_EXT, ISA_EXTENSIONS.index(name)), 0)
            _block_size_is(cpu, register, taken_away)
        without = "".join(part for part in DEFAULT_ISA.partition("_" + name) if part != "_" + name)
        expected = ENOENT if name == "zicbop" and policy == "linux-6.17" else absent
        _block_size_is(vcpu(policy, isa=without), register, expected)


def _block_size_is(cpu: Vcpu, register: int, expected: int) -> None:
    assert (register in reg_list(cpu)) == (expected != ENOENT)
    if expected == ENOENT:
        assert errno(get_one_reg, cpu, register) == errno(set_one_reg, cpu, register, 64) == ENOENT
    else:
        assert get_one_reg(cpu, register) == expected
        set_one_reg(cpu, register, expected)
        assert errno(set_one_reg, cpu, register, 128) == EINVAL


def test_isa_extensions_by_release() -> None:
    """A KVM knows the extensions of its release; others have no register and are not the guest's."""
    for name, before, since in (("zicboz", "linux-6.3", "linux-6.4"), ("zawrs", "linux-6.10", "linux-6.11")):
        reg = reg_id(o.ISA_EXT, ISA_EXTENSIONS.index(name))
        assert errno(get_one_reg, vcpu(before), reg) in (EINVAL, ENOENT)
        assert get_one_reg(vcpu(since), reg) == 1
        assert (vcpu(before).guest_has(name), vcpu(since).guest_has(name)) == (False, True)
    assert vcpu("linux-5.16").guest_has("d")


def test_sscofpmf_is_withheld_without_aia() -> None:
    """Its interrupt needs AIA's filter: the register is there, reads 0 and cannot be set."""
    cpu, reg = vcpu(), reg_id(o.ISA_EXT, ISA_EXTENSIONS.index("sscofpmf"))
    assert reg in reg_list(cpu)
    assert get_one_reg(cpu, reg) == 0
    assert errno(set_one_reg, cpu, reg, 1) == EINVAL


def test_hardware_updates_of_a_and_d_bits() -> None:
    """A guest with Svadu and without Svade has henvcfg.ADUE from the start; before 6.13 KVM knew neither."""
    for policy, isa, expected in (
        ("linux-7.2", DEFAULT_ISA, 1),
        ("linux-7.2", f"{DEFAULT_ISA}_svade", 0),
        ("linux-6.12", DEFAULT_ISA, 0),
    ):
        cpu = vcpu(policy, isa=isa)
        cpu.configure_once()
        assert cpu.config.henvcfg >> 61 & 1 == expected


def test_the_register_list_by_release() -> None:
    """Registers of CONFIG and CSR appear with the releases that brought them."""
    for policy, config, csrs in (
        ("linux-5.16", 1, 10),
        ("linux-6.5", 6, 10),
        ("linux-6.6", 7, 10),
        ("linux-6.7", 7, 11),
    ):
        listed = [reg & (o.TYPE_MASK | o.SUBTYPE_MASK) for reg in reg_list(vcpu(policy))]
        assert listed.count(o.CONFIG) == config, policy
        assert listed.count(o.CSR) == csrs, policy
