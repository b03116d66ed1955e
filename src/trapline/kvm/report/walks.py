"""Page walks for people: what each level of a table says about an address.

These read the tables as they are and change nothing; the hart's own walker (privilege.translation)
decides what happens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trapline.kvm.gstage import PAGE, PAGE_SHIFT
from trapline.privilege.pte import PPN_MASK, PPN_SHIFT, PTE_LEAF, PTE_V

if TYPE_CHECKING:
    from trapline.kvm.vcpu import Vcpu
    from trapline.kvm.vm import Vm

FLAGS = "VRWXUGAD"
VS_MODES = {8: ("sv39", 3), 9: ("sv48", 4), 10: ("sv57", 5)}


@dataclass(frozen=True, slots=True)
class WalkStep:
    """One table entry: where it is, what it holds."""

    level: int
    address: int
    entry: int
    leaf: bool

    @property
    def flags(self) -> str:
        """The entry's flag bits by letter, a dash for each that is clear."""
        return "".join(c if self.entry >> n & 1 else "-" for n, c in enumerate(FLAGS))


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
    steps: list[WalkStep] = []
    if gpa >> stage.gpa_bits:
        return Walk("G", gpa, (), None, f"beyond the {stage.gpa_bits} bits of guest physical addresses")
    table = stage.root
    for level in range(stage.levels - 1, -1, -1):
        address = table + 8 * stage.index(gpa, level)
        entry = vm.tables.read(address)
        leaf = bool(entry & PTE_V and entry & PTE_LEAF)
        steps.append(WalkStep(level, address, entry, leaf))
        if not entry & PTE_V:
            slot = vm.slots.find(gpa)
            why = f"not mapped yet: {slot.describe()}" if slot else "not mapped: no memory slot holds it"
            return Walk("G", gpa, tuple(steps), None, why)
        table = (entry >> PPN_SHIFT & PPN_MASK) << PAGE_SHIFT
        if leaf:
            hpa = table | gpa & (PAGE << 9 * level) - 1
            region = vm.regions.find(hpa)
            why = region.describe() if region else "nothing answers there: an access fault"
            return Walk("G", gpa, tuple(steps), hpa, why)
    return Walk("G", gpa, tuple(steps), None, "the last level is not a leaf")


def l1_gstage_walk(vcpu: Vcpu, gpa: int) -> Walk:
    """Walk the G-stage of a guest hypervisor for a physical address of its guest's; its entries are in VM memory."""
    assert vcpu.nested is not None
    hgatp = int(vcpu.nested.hart.hgatp)
    mode = hgatp >> 60
    if mode not in VS_MODES:
        return Walk("L1's G", gpa, (), gpa, "hgatp of L1 is Bare")
    levels, steps = VS_MODES[mode][1], list[WalkStep]()
    if gpa >> (PAGE_SHIFT + 9 * levels + 2):
        return Walk("L1's G", gpa, (), None, f"beyond the {PAGE_SHIFT + 9 * levels + 2} bits of {VS_MODES[mode][0]}x4")
    table = (hgatp & PPN_MASK) << PAGE_SHIFT
    for level in range(levels - 1, -1, -1):
        index = gpa >> (PAGE_SHIFT + 9 * level) & (2047 if level == levels - 1 else 511)
        address = table + 8 * index
        try:
            entry = int.from_bytes(vcpu.vm.read_memory(address, 8), "little")
        except ValueError:
            return Walk("L1's G", gpa, tuple(steps), None, f"no guest memory at {address:#x}, where the next table is")
        leaf = bool(entry & PTE_V and entry & PTE_LEAF)
        steps.append(WalkStep(level, address, entry, leaf))
        if not entry & PTE_V:
            return Walk("L1's G", gpa, tuple(steps), None, f"invalid entry at level {level}")
        table = (entry >> PPN_SHIFT & PPN_MASK) << PAGE_SHIFT
        if leaf:
            found = table | gpa & (PAGE << 9 * level) - 1
            return Walk("L1's G", gpa, tuple(steps), found, f"{VS_MODES[mode][0]}x4 leaf at level {level}")
    return Walk("L1's G", gpa, tuple(steps), None, "the last level is not a leaf")


def vs_walk(vcpu: Vcpu, va: int) -> Walk:
    """Walk the guest's own table for a guest virtual address; its entries lie behind the G-stage.

    Of the guest of a guest hypervisor it is L2's table, each entry of which lies behind L1's G-stage.
    """
    inner = vcpu.hart.kvm_world != 0
    vsatp = int(vcpu.hart.vsatp) if vcpu.loaded else vcpu.csrs.vsatp
    mode = vsatp >> 60
    if mode not in VS_MODES:
        return Walk("VS", va, (), va, "vsatp is Bare: a guest virtual address is a guest physical one")
    name, levels = VS_MODES[mode]
    bits = PAGE_SHIFT + 9 * levels
    if va >> (bits - 1) not in (0, (1 << 64 - bits + 1) - 1):
        return Walk("VS", va, (), None, f"not canonical for {name}")
    steps: list[WalkStep] = []
    table = (vsatp & PPN_MASK) << PAGE_SHIFT
    for level in range(levels - 1, -1, -1):
        address = table + 8 * (va >> (PAGE_SHIFT + 9 * level) & 511)
        at = l1_gstage_walk(vcpu, address).result if inner else address
        try:
            entry = int.from_bytes(vcpu.vm.read_memory(-1 if at is None else at, 8), "little")
        except (ValueError, OverflowError):
            return Walk("VS", va, tuple(steps), None, f"no guest memory at {address:#x}, where the next table is")
        leaf = bool(entry & PTE_V and entry & PTE_LEAF)
        steps.append(WalkStep(level, address, entry, leaf))
        if not entry & PTE_V:
            return Walk("VS", va, tuple(steps), None, f"invalid entry at level {level}")
        table = (entry >> PPN_SHIFT & PPN_MASK) << PAGE_SHIFT
        if leaf:
            return Walk("VS", va, tuple(steps), table | va & (PAGE << 9 * level) - 1, f"{name} leaf at level {level}")
    return Walk("VS", va, tuple(steps), None, "the last level is not a leaf")
