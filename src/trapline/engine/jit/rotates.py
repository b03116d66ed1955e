"""Rotations of 32 bits that a guest without Zbb spells as two shifts and an `or`: one operation of the host.

LLVM finds those of 64 bits by itself; the others hide behind sign extensions. The shifts keep their own text, which
goes where nothing uses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trapline.engine.llvm import Builder, Word
from trapline.engine.llvm_lines import READ_SLOT
from trapline.isa.lookup import written_x

if TYPE_CHECKING:
    from trapline.isa.decode import Decoded

ROTATE = "llvm.fshl.i32"


@dataclass(frozen=True, slots=True)
class Shift:
    """What a register holds: a value shifted to the left or right as 32 bits; which value (register and how often that
    had been written), its name in the text, and by how much.
    """

    left: bool
    of: tuple[int, int]
    name: str
    by: int


class Rotates:
    """Looks at the instructions of a block one after the other."""

    def __init__(self) -> None:
        self.shifts: dict[int, Shift] = {}
        self.written: dict[int, int] = {}

    def text(self, place: int, found: Decoded, text: str) -> str:
        """The text of an instruction, or that of a rotation with the same result."""
        made = self.rotation(place, found)
        shift = self.shift(found, text)
        target = written_x(found)
        if target is not None:
            self.written[target] = self.written.get(target, 0) + 1
            self.shifts.pop(target, None)
            if shift is not None:
                self.shifts[target] = shift
        return made or text

    def shift(self, found: Decoded, text: str) -> Shift | None:
        """The shift that an instruction is."""
        if found.instruction.name not in ("slliw", "srliw"):
            return None
        source, read = found.operands["rs1"], READ_SLOT.search(text)
        if read is None or int(read[2]) != source:
            return None
        left = found.instruction.name == "slliw"
        return Shift(left, (source, self.written.get(source, 0)), read[1], found.operands["shamt"])

    def rotation(self, place: int, found: Decoded) -> str:
        """The text of an `or` of two shifts that are a rotation."""
        if found.instruction.name != "or" or found.operands["rd"] == 0:
            return ""
        a, b = (self.shifts.get(found.operands[name]) for name in ("rs1", "rs2"))
        if a is None or b is None or a.left == b.left or a.of != b.of or a.by + b.by != 32:
            return ""
        left, by = a if a.left else b, Builder(f"%i{place:x}-")
        by.begin(f"i{place:x}.0")
        half = by.narrow(Word(left.name), "i32")
        turned = by.call(f"@{ROTATE}", "i32", f"i32 {half}, i32 {half}, i32 {left.by}", convention="")
        by.write(by.widen(turned, "i32", "sext"), f"%x{found.operands['rd']}")
        by.goto(f"on{place:x}")
        return by.taken()
