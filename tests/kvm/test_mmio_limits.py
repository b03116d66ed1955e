"""What KVM's MMIO decoder understands, and how it fails on the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
from guest import MMIO, run_event

ALL_ONES = (1 << 64) - 1

LOADS = [
    ("lb", 0xFFFF_FFFF_FFFF_FF80, 0x80), ("lbu", 0x80, 0x80), ("lh", 0xFFFF_FFFF_FFFF_8000, 0x8000),
    ("lhu", 0x8000, 0x8000), ("lw", 0xFFFF_FFFF_8000_0000, 0x8000_0000), ("lwu", 0x8000_0000, 0x8000_0000),
    ("ld", ALL_ONES, ALL_ONES), ("c.lw", 0xFFFF_FFFF_8000_0000, 0x8000_0000), ("c.ld", ALL_ONES, ALL_ONES),
]  # fmt: skip


@pytest.mark.parametrize("tinst", ["zero", "transformed"])
@pytest.mark.parametrize(("name", "value", "answer"), LOADS, ids=[x[0] for x in LOADS])
def test_loads_extend_as_the_instruction_says(tinst: str, name: str, value: int, answer: int) -> None:
    """Every integer load takes the VMM's answer, sign- or zero-extended, and goes on behind itself."""
    outcome = run_event("linux-7.2", f"li a5, {MMIO}\n {name} a2, 8(a5)", answer=answer, tinst=tinst)
    assert outcome.guest_sees is None
    assert outcome.x("a2") == value


@pytest.mark.parametrize("tinst", ["zero", "transformed"])
@pytest.mark.parametrize(("name", "length"), [("sb", 1), ("sh", 2), ("sw", 4), ("sd", 8), ("c.sw", 4), ("c.sd", 8)])
def test_stores_hand_over_their_bytes(tinst: str, name: str, length: int) -> None:
    """Every integer store hands the VMM its width and its low bytes."""
    outcome = run_event("linux-7.2", f"li a5, {MMIO}\n li a4, 0x1122334455667788\n {name} a4, 8(a5)", tinst=tinst)
    mmio = outcome.vcpu.kvm_run.mmio
    assert (mmio.phys_addr, mmio.length, mmio.is_write) == (MMIO + 8, length, True)
    assert mmio.data == 0x1122334455667788 & (1 << 8 * length) - 1
    assert outcome.vm.stats()["mmio_exit_user"] == 1


UNSUPPORTED = ["flw fa0, 0(a5)", "fld fa0, 0(a5)", "fsd fa0, 0(a5)", "c.fld fa0, 0(a5)", "amoswap.w a0, a1, (a5)",
               "lr.w a0, (a5)", "cbo.zero (a5)"]  # fmt: skip


@pytest.mark.parametrize("code", UNSUPPORTED)
def test_everything_else_kills_with_95(code: str) -> None:
    """Floating point, atomics and cache blocks at MMIO addresses end the VM with -EOPNOTSUPP."""
    enable = "li t0, 0x2000\n csrs sstatus, t0\n"
    assert run_event("linux-7.2", f"{enable} li a5, {MMIO}\n {code}").killed == 95


@pytest.mark.parametrize("code", ["lh a0, 1(a5)", "lw a0, 2(a5)", "ld a0, 4(a5)", "sd a0, 4(a5)"])
def test_a_misaligned_address_kills_with_5(code: str) -> None:
    """A guest physical address that is no multiple of the width is -EIO."""
    assert run_event("linux-7.2", f"li a5, {MMIO}\n {code}", misaligned="hardware").killed == 5


def test_stack_pointer_stores_with_zero_bits() -> None:
    """KVM's decoder takes bits 11:7 of c.sdsp for rd: c.sdsp at 0(sp) to MMIO kills, at 8(sp) it works."""
    code = "mv a3, sp\n li a5, {0}\n mv sp, a5\n c.sdsp a4, {1}(sp)"
    assert run_event("linux-7.2", code.format(MMIO, 0)).killed == 95
    assert run_event("linux-7.2", code.format(MMIO, 8)).killed == 0
    assert run_event("bao", code.format(MMIO, 0)).killed == 0


def test_the_decoders_errors_are_the_policys(tmp_path: Path) -> None:
    """A policy may know other instructions and other errno values."""
    file = tmp_path / "p.toml"
    file.write_text(
        'default = "kill"\nextends = "linux-7.2"\n[mmio]\ninstructions = ["lw"]\nunsupported_errno = 38\n'
        "misaligned_errno = 14\n"
    )
    assert run_event(file, f"li a5, {MMIO}\n ld a0, 0(a5)").killed == 38
    assert run_event(file, f"li a5, {MMIO}\n lw a0, 2(a5)", misaligned="hardware").killed == 14


class Scratch:
    """A device of one register."""

    value = 7

    def load(self, hart: object, offset: int, size: int) -> int:
        return self.value

    def store(self, hart: object, offset: int, size: int, value: int) -> None:
        self.value = value


def test_in_kernel_devices_do_not_reach_the_vmm() -> None:
    """A device registered in KVM answers without KVM_EXIT_MMIO and moves mmio_exit_kernel."""
    from guest import BASE, START

    from trapline.isa.assemble import assemble
    from trapline.kvm.vm import Vm

    vm = Vm("linux-7.2", engine="reference")
    device = Scratch()
    vm.io_bus.register(MMIO, 0x1000, device)
    vm.add_memory(BASE, 0x10000)
    event = f"li a5, {MMIO}\n lw a2, 0(a5)\n addi a2, a2, 1\n sw a2, 4(a5)"
    vm.write_memory(BASE, assemble(START.format(enter="", event=event), BASE))
    vm.vcpus[0].set_pc(BASE)
    assert vm.run().reason == "exit"
    assert device.value == 8
    assert vm.stats()["mmio_exit_kernel"] == 2
    assert vm.stats()["mmio_exit_user"] == 0
    with pytest.raises(ValueError, match="overlaps"):
        vm.io_bus.register(MMIO + 0x800, 0x1000, device)
