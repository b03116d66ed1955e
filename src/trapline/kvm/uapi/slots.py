"""Memory slots: which guest physical addresses there are, and what host memory backs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated, ClassVar

from trapline.dataclass import dataclass, field
from trapline.session.regions import Region
from trapline.session.state.plain_types import Limits

PAGE = 4096


class SlotKind(Enum):
    """What backs a slot."""

    RAM = "ram"
    READ_ONLY = "ro"
    FILE = "file"
    HOLE = "hole"  # host physical addresses where nothing answers: accesses take access faults
    NONE = "none"  # memory that the VMM itself may not touch (PROT_NONE): KVM cannot map it


@dataclass(slots=True)
class MemorySlot:
    """A range of guest physical addresses."""

    snapshot_skips: ClassVar = ("slot", "gpa", "size", "kind", "hpa", "file", "region")
    snapshot_types: ClassVar = {"dirty": lambda slot: set[Annotated[int, Limits(ge=0, lt=slot.size // PAGE)]] | None}

    slot: int
    gpa: int
    size: int
    kind: SlotKind
    hpa: int = 0
    file: Path | None = None
    region: Region | None = field(default=None, repr=False)
    dirty: set[int] | None = None  # page numbers written since the log was last read

    @property
    def end(self) -> int:
        """The first guest physical address behind the slot."""
        return self.gpa + self.size

    @property
    def writable(self) -> bool:
        """Whether the guest may store."""
        return self.kind is not SlotKind.READ_ONLY

    def mark_dirty(self, gpa: int, size: int) -> None:
        """Note pages of the slot as written, if it logs that."""
        if self.dirty is not None and size:
            self.dirty.update(range((gpa - self.gpa) // PAGE, (gpa + size - 1 - self.gpa) // PAGE + 1))

    def describe(self) -> str:
        """Range and kind for messages."""
        return f"slot {self.slot} [{self.gpa:#x}..{self.end - 1:#x}] {self.kind.value}"


class SlotTable:
    """The slots of a VM, without overlap."""

    snapshot_skips = ("gpa_bits",)

    def __init__(self, gpa_bits: int) -> None:
        self.gpa_bits = gpa_bits
        self._slots: list[MemorySlot] = []

    def __iter__(self) -> Iterator[MemorySlot]:
        return iter(self._slots)

    def __len__(self) -> int:
        return len(self._slots)

    def add(self, slot: MemorySlot) -> None:
        """Add a slot; ValueError names what is wrong with it."""
        self._check(slot)
        self._slots.append(slot)
        self._slots.sort(key=lambda s: s.gpa)

    def move(self, slot: MemorySlot, gpa: int, forget: Callable[[], None]) -> None:
        """Move a slot; `forget` is called before it leaves its old address. ValueError leaves it where it is."""
        old, others = slot.gpa, [s for s in self._slots if s is not slot]
        self._slots, kept = others, self._slots
        slot.gpa = gpa
        try:
            self._check(slot)
        finally:
            slot.gpa, self._slots = old, kept
        forget()
        slot.gpa = gpa
        self._slots.sort(key=lambda s: s.gpa)

    def _check(self, slot: MemorySlot) -> None:
        if slot.gpa % PAGE or slot.size % PAGE or slot.size <= 0 or slot.gpa < 0:
            raise ValueError(f"{slot.describe()}: address and size must be multiples of {PAGE:#x}, size not 0")
        if slot.end > 1 << self.gpa_bits:
            raise ValueError(f"{slot.describe()} lies beyond the {self.gpa_bits} bits of guest physical addresses")
        for other in self._slots:
            if slot.slot == other.slot:
                raise ValueError(f"{slot.describe()}: {other.describe()} has the same number")
            if slot.gpa < other.end and other.gpa < slot.end:
                raise ValueError(f"{slot.describe()} overlaps {other.describe()}")

    def remove(self, slot: MemorySlot) -> None:
        """Take a slot out."""
        self._slots.remove(slot)

    def find(self, gpa: int) -> MemorySlot | None:
        """Return the slot that holds a guest physical address (gfn_to_memslot)."""
        for slot in self._slots:
            if slot.gpa <= gpa < slot.end:
                return slot
        return None

    def number(self, slot: int) -> MemorySlot | None:
        """Return the slot of that number."""
        return next((s for s in self._slots if s.slot == slot), None)

    def free_number(self) -> int:
        """Return the lowest number that no slot has."""
        used = {s.slot for s in self._slots}
        return next(n for n in range(len(used) + 1) if n not in used)
