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


def vs_walk(vcpu: Vcpu, va: int) -> Walk:
    """Walk the guest's own table for a guest virtual address; its entries lie behind the G-stage."""
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
        try:
            entry = int.from_bytes(vcpu.vm.read_memory(address, 8), "little")
        except ValueError:
            return Walk("VS", va, tuple(steps), None, f"no guest memory at {address:#x}, where the next table is")
        leaf = bool(entry & PTE_V and entry & PTE_LEAF)
        steps.append(WalkStep(level, address, entry, leaf))
        if not entry & PTE_V:
            return Walk("VS", va, tuple(steps), None, f"invalid entry at level {level}")
        table = (entry >> PPN_SHIFT & PPN_MASK) << PAGE_SHIFT
        if leaf:
            return Walk("VS", va, tuple(steps), table | va & (PAGE << 9 * level) - 1, f"{name} leaf at level {level}")
    return Walk("VS", va, tuple(steps), None, "the last level is not a leaf")
