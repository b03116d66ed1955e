"""Page walks for people: what each level of a table says about an address.

These read the tables as they are and change nothing; the hart's own walker (privilege.translation)
decides what happens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trapline.dataclass import dataclass, replace
from trapline.kvm.gstage import PAGE_SHIFT
from trapline.privilege.pte import PPN_MASK, PTE_V
from trapline.session.tables import MODES, NoTable, Read, WalkStep, walk

if TYPE_CHECKING:
    from trapline.kvm.vcpu import Vcpu
    from trapline.kvm.vm import Vm


@dataclass(frozen=True, slots=True)
class Walk:
    """The walk of one address through one stage."""

    stage: str
    address: int
    steps: tuple[WalkStep, ...]
    result: int | None
    why: str


def gstage_walk(vm: Vm, gpa: int) -> Walk:
    """Walk the G-stage for a guest physical address."""
    stage = vm.gstage
    if gpa >> stage.gpa_bits:
        return Walk("G", gpa, (), None, f"beyond the {stage.gpa_bits} bits of guest physical addresses")
    found = _walked("G", "", vm.tables.read, stage.root, stage.levels, gpa, stage2=True)
    if found.result is not None:
        region = vm.regions.find(found.result)
        return replace(found, why=region.describe() if region else "nothing answers there: an access fault")
    if not found.steps or found.steps[-1].entry & PTE_V:
        return found
    slot = vm.slots.find(gpa)
    return replace(found, why=f"not mapped yet: {slot.describe()}" if slot else "not mapped: no memory slot holds it")


def l1_gstage_walk(vcpu: Vcpu, gpa: int) -> Walk:
    """Walk the G-stage of a guest hypervisor for a physical address of its guest's; its entries are in VM memory."""
    assert vcpu.nested is not None
    hgatp = int(vcpu.nested.hart.hgatp)
    if hgatp >> 60 not in MODES:
        return Walk("L1's G", gpa, (), gpa, "hgatp of L1 is Bare")
    name, levels = MODES[hgatp >> 60]
    bits = PAGE_SHIFT + 9 * levels + 2
    if gpa >> bits:
        return Walk("L1's G", gpa, (), None, f"beyond the {bits} bits of {name}x4")
    root = (hgatp & PPN_MASK) << PAGE_SHIFT
    return _walked("L1's G", f"{name}x4", lambda at: _word(vcpu, at), root, levels, gpa, stage2=True)


def vs_walk(vcpu: Vcpu, va: int) -> Walk:
    """Walk the guest's own table for a guest virtual address; its entries lie behind the G-stage.

    Of the guest of a guest hypervisor it is L2's table, each entry of which lies behind L1's G-stage.
    """
    vsatp = int(vcpu.hart.vsatp) if vcpu.loaded else vcpu.csrs.vsatp
    if vsatp >> 60 not in MODES:
        return Walk("VS", va, (), va, "vsatp is Bare: a guest virtual address is a guest physical one")
    name, levels = MODES[vsatp >> 60]
    bits = PAGE_SHIFT + 9 * levels
    if va >> (bits - 1) not in (0, (1 << 64 - bits + 1) - 1):
        return Walk("VS", va, (), None, f"not canonical for {name}")

    def read(address: int) -> int:
        at = l1_gstage_walk(vcpu, address).result if vcpu.hart.kvm_world != 0 else address
        return _word(vcpu, -1 if at is None else at)

    return _walked("VS", name, read, (vsatp & PPN_MASK) << PAGE_SHIFT, levels, va)


def _word(vcpu: Vcpu, address: int) -> int:
    """A table entry in VM memory; ValueError where there is none."""
    try:
        return int.from_bytes(vcpu.vm.read_memory(address, 8), "little")
    except OverflowError as error:
        raise ValueError(str(error)) from error


def _walked(stage: str, table: str, read: Read, root: int, levels: int, address: int, *, stage2: bool = False) -> Walk:
    """The walk of an address from a root, and in a few words how it ends."""
    steps: list[WalkStep] = []
    try:
        for step in walk(read, root, levels, address, stage2=stage2):
            steps.append(step)
    except NoTable as error:
        why = f"no guest memory at {error.address:#x}, where the next table is"
        return Walk(stage, address, tuple(steps), None, why)
    last = steps[-1]
    if last.leaf:
        return Walk(stage, address, tuple(steps), last.result(address), f"{table} leaf at level {last.level}")
    why = "the last level is not a leaf" if last.entry & PTE_V else f"invalid entry at level {last.level}"
    return Walk(stage, address, tuple(steps), None, why)
