"""Memory slots as the guest and the VMM see them."""

from __future__ import annotations

from pathlib import Path

import pytest
from guest import BASE, MMIO, run_event

from trapline.isa.assemble import assemble
from trapline.kvm.uapi.numbers import Exit
from trapline.kvm.uapi.slots import SlotKind
from trapline.kvm.vm import Vm


def vm(policy: str = "linux-7.2", **options: object) -> Vm:
    return Vm(policy, engine="reference", **options)  # type: ignore[arg-type]


def run(machine: Vm, source: str) -> list[tuple[bool, int]]:
    machine.vcpus[0].complete()
    machine.write_memory(BASE, assemble(source, BASE))
    machine.vcpus[0].set_pc(BASE)
    accesses: list[tuple[bool, int]] = []

    def vmm(vcpu: object) -> bool:
        kvm_run = machine.vcpus[0].kvm_run
        if kvm_run.exit_reason is not Exit.MMIO:
            return False
        accesses.append((kvm_run.mmio.is_write, kvm_run.mmio.phys_addr))
        return kvm_run.mmio.phys_addr != MMIO

    machine.run(vmm, max_instructions=1000)
    return accesses


def test_pages_are_mapped_on_first_touch_only() -> None:
    """Each 4 KiB page costs one guest page fault, however often it is used."""
    machine = vm("linux-6.12")
    machine.add_memory(BASE, 0x10000)
    run(
        machine,
        f"li t0, {BASE + 0x4000}\n sd x0, 0(t0)\n ld x0, 8(t0)\n sd x0, 0x7f8(t0)\n li t1, {MMIO}\n sb x0, 0(t1)",
    )
    assert machine.gstage.mapped_pages == 2


def test_since_7_0_large_pages_are_used_where_alignment_allows() -> None:
    """7.2 maps 2 MiB at once; 6.12 maps 4 KiB; the VMM may overrule both."""
    for policy, huge, pages in (
        ("linux-7.2", "auto", 512), ("linux-6.12", "auto", 1), ("linux-6.12", "2M", 512), ("linux-7.2", "4K", 1),
    ):  # fmt: skip
        machine = vm(policy, backing=huge)
        machine.add_memory(BASE, 4 << 20)
        run(machine, f"li t1, {MMIO}\n sb x0, 0(t1)")
        assert machine.gstage.mapped_pages == pages


def test_a_store_to_a_read_only_slot_is_mmio() -> None:
    """A read-only slot reads as memory and writes as a device."""
    machine = vm()
    machine.add_memory(BASE, 0x10000)
    machine.add_memory(0x9000_0000, 0x1000, SlotKind.READ_ONLY)
    machine.write_memory(0x9000_0008, b"\x2a")
    accesses = run(machine, f"li t0, 0x90000000\n lbu t1, 8(t0)\n sb t1, 8(t0)\n li t1, {MMIO}\n sb x0, 0(t1)")
    assert accesses == [(True, 0x9000_0008), (True, MMIO)]
    assert machine.vcpus[0].hart.x[6] == MMIO


def test_a_file_behind_a_slot(tmp_path: Path) -> None:
    """The guest reads the file's bytes, and its writes stay its own."""
    file = tmp_path / "disk"
    file.write_bytes(b"\x11" * 4096)
    machine = vm()
    machine.add_memory(BASE, 0x10000)
    machine.add_memory(0x9000_0000, 0x1000, SlotKind.FILE, file=file)
    run(machine, f"li t0, 0x90000000\n lbu s2, 0(t0)\n sb x0, 0(t0)\n li t1, {MMIO}\n sb x0, 0(t1)")
    assert machine.vcpus[0].hart.x[18] == 0x11
    assert machine.read_memory(0x9000_0000, 1) == b"\0"
    assert file.read_bytes()[0] == 0x11


def test_holes_of_a_file_behind_a_slot_take_no_memory(tmp_path: Path) -> None:
    """Of a gigabyte in which little stands only that is read, and the rest is zero."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    file = tmp_path / "disk"
    with file.open("wb") as written:
        for at in (0x5000, 512 << 20, (1 << 30) - 8):
            written.seek(at)
            written.write(at.to_bytes(8, "little"))
    machine, before = vm(), resident()
    machine.add_memory(0x9000_0000, 1 << 30, SlotKind.FILE, file=file)
    assert resident() - before < 64 << 20
    for at in (0x5000, 512 << 20, (1 << 30) - 8):
        assert machine.read_memory(0x9000_0000 + at, 8) == at.to_bytes(8, "little")
    assert machine.read_memory(0x9000_0000 + (256 << 20), 8) == bytes(8)


def test_a_file_behind_a_slot_that_shrinks(tmp_path: Path) -> None:
    """What happens to the file after its slot was made does not reach the guest."""
    file = tmp_path / "disk"
    file.write_bytes(b"\x11" * 8192)
    machine = vm()
    machine.add_memory(BASE, 0x10000)
    machine.add_memory(0x9000_0000, 0x2000, SlotKind.FILE, file=file)
    file.write_bytes(b"")
    run(machine, f"li t0, 0x90001000\n lbu s2, 0(t0)\n li t1, {MMIO}\n sb x0, 0(t1)")
    assert machine.vcpus[0].hart.x[18] == 0x11


def test_removing_a_slot_unmaps_it() -> None:
    """After the slot is gone the same access is MMIO."""
    machine = vm()
    machine.add_memory(BASE, 0x10000)
    slot = machine.add_memory(0x9000_0000, 0x1000)
    code = f"li t0, 0x90000000\n sb x0, 0(t0)\n li t1, {MMIO}\n sb x0, 0(t1)"
    assert run(machine, code) == [(True, MMIO)]
    machine.remove_memory(slot)
    assert run(machine, code) == [(True, 0x9000_0000), (True, MMIO)]


def test_the_dirty_log_names_the_pages_written() -> None:
    """Only written pages are in the log, and reading it arms it again."""
    machine = vm()
    machine.add_memory(BASE, 0x10000)
    slot = machine.add_memory(0x9000_0000, 4 << 20)
    machine.log_dirty(slot, on=True)
    code = f"li t0, 0x90003000\n ld t2, 0(t0)\n sd x0, 0(t0)\n li t1, {MMIO}\n sb x0, 0(t1)"
    run(machine, code)
    assert machine.dirty_log(slot) == [3]
    assert machine.dirty_log(slot) == []
    run(machine, code)
    assert machine.dirty_log(slot) == [3]


@pytest.mark.parametrize(
    ("gpa", "size", "message"),
    [
        (0x8000_0800, 0x1000, "multiples of 0x1000"),
        (0x9000_0000, 0x800, "multiples of 0x1000"),
        (0x9000_0000, 0, "size not 0"),
        (0x8000_F000, 0x2000, "overlaps slot 0"),
        (1 << 60, 0x1000, "beyond the"),
    ],
)
def test_wrong_slots_are_refused(gpa: int, size: int, message: str) -> None:
    """A slot that overlaps, is not made of pages or lies too high is an error that says so."""
    machine = vm()
    machine.add_memory(BASE, 0x10000)
    with pytest.raises(ValueError, match=message):
        machine.add_memory(gpa, size)


@pytest.mark.parametrize("gstage", ["sv39x4", "sv48x4", "sv57x4"])
def test_every_gstage_mode_runs_a_guest(gstage: str) -> None:
    """The guest does not notice how deep its G-stage is."""
    assert run_event("linux-7.2", ".word 0xffffffff", gstage=gstage).guest_sees == 2


def test_wrong_options_are_refused_with_the_value() -> None:
    """Each option of a VM is checked when it is made."""
    for option in ({"gstage": "sv32"}, {"misaligned": "maybe"}, {"tinst": "x"}, {"vcpus": 0}, {"policy": "linux-9.9"}):
        with pytest.raises(ValueError, match=str(next(iter(option.values()))).removeprefix("linux-")):
            Vm(**{"engine": "reference", **option})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no H extension"):
        Vm(engine="reference", isa="rv64gc")


def test_a_gigabyte_is_one_leaf() -> None:
    """On 1 GiB hugetlbfs pages an aligned gigabyte is mapped at once, the rest in what fits."""
    machine = vm("linux-6.12", backing="1G")
    machine.add_memory(BASE, (1 << 30) + (2 << 20) + 0x1000)
    loads = f"li t0, {BASE + (1 << 30)}\n ld x0, 0(t0)\n li t1, 0x200000\n add t0, t0, t1\n ld x0, 0(t0)\n"
    run(machine, f"{loads} li t1, {MMIO}\n sb x0, 0(t1)")
    assert machine.gstage.leaves[:3] == [1, 1, 1]


def test_logging_splits_large_pages() -> None:
    """Logging protects a slot in 4 KiB pages; what is written is mapped writable, the rest stays protected."""
    machine = vm("linux-7.2")
    slot = machine.add_memory(BASE, 4 << 20)
    code = f"li t1, {MMIO}\n sb x0, 0(t1)"
    run(machine, code)
    assert machine.gstage.leaves[:2] == [0, 1]
    machine.log_dirty(slot, on=True)
    assert (machine.gstage.leaves[:2], machine.gstage.splits) == ([512, 0], 1)
    run(machine, f"li t0, {BASE + 0x5000}\n sd x0, 0(t0)\n {code}")
    assert machine.dirty_log(slot) == [5]
    machine.log_dirty(slot, on=False)
    with pytest.raises(ValueError, match="logs no dirty pages"):
        machine.dirty_log(slot)


def test_manual_clearing_of_the_dirty_log() -> None:
    """With manual protection reading the log changes nothing; clearing arms the pages that it names."""
    machine = vm("linux-7.2")
    machine.add_memory(BASE, 0x10000)
    slot = machine.add_memory(0x9000_0000, 200 * 4096)
    machine.dirty_logs.set_manual(1)
    machine.log_dirty(slot, on=True)
    code = f"li t0, 0x90041000\n sd x0, 0(t0)\n li t0, 0x90001000\n sd x0, 0(t0)\n li t1, {MMIO}\n sb x0, 0(t1)"
    run(machine, code)
    assert machine.dirty_log(slot) == machine.dirty_log(slot) == [1, 65]
    bitmap = machine.dirty_logs.bitmap(slot)
    assert len(bitmap) == 32
    assert bitmap[:9] == b"\x02" + bytes(7) + b"\x02"
    machine.dirty_logs.clear(slot, 64, b"\xff" * 8)
    assert machine.dirty_log(slot) == [1]
    run(machine, code)
    assert machine.dirty_log(slot) == [1, 65]
    for first, bits in ((1, bytes(8)), (0, bytes(3)), (256, bytes(8)), (192, b"\xff" * 8)):
        with pytest.raises(ValueError, match="page"):
            machine.dirty_logs.clear(slot, first, bits)


def test_a_log_that_starts_full() -> None:
    """Since 6.19 a log may start with all pages set and nothing protected."""
    machine = vm("linux-7.2")
    machine.dirty_logs.set_manual(3)
    slot = machine.add_memory(BASE, 0x10000)
    machine.log_dirty(slot, on=True)
    assert machine.dirty_log(slot) == list(range(16))
    with pytest.raises(ValueError, match="flags 0x3"):
        vm("linux-6.18").dirty_logs.set_manual(3)


def test_moving_a_slot_under_a_live_vcpu() -> None:
    """The memory is at the new address at once, and the old one is a device; a bad move changes nothing."""
    machine = vm()
    machine.add_memory(BASE, 0x10000)
    slot = machine.add_memory(0x9000_0000, 0x10000)
    store = "li t0, {}\n li t2, {}\n sd t2, 0(t0)\n ld s0, 0(t0)\n li t1, " + f"{MMIO}\n sb x0, 0(t1)"
    assert run(machine, store.format(0x9000_0000, 77)) == [(True, MMIO)]
    with pytest.raises(ValueError, match="overlaps slot 0"):
        machine.move_memory(slot, BASE + 0x8000)
    machine.move_memory(slot, 0xA000_0000)
    assert run(machine, store.format(0x9000_0000, 5))[0] == (True, 0x9000_0000)
    assert run(machine, f"li t0, 0xa0000000\n ld s0, 0(t0)\n li t1, {MMIO}\n sb x0, 0(t1)") == [(True, MMIO)]
    assert int(machine.vcpus[0].hart.x[8]) == 77


def test_what_kvm_writes_is_dirty() -> None:
    """Steal time and counter snapshots mark their pages."""
    machine = vm()
    slot = machine.add_memory(BASE, 0x10000)
    machine.log_dirty(slot, on=True)
    assert machine.vcpus[0].sbi.try_write(BASE + 0x2FF0, bytes(32))
    assert machine.dirty_log(slot) == [2, 3]
