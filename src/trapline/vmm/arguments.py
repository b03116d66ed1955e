"""Parsing what users write for memory: sizes, and `--memslot GPA:SIZE:ram|ro|hole|none|PATH`."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from trapline.dataclass import dataclass
from trapline.kvm.uapi.slots import PAGE, SlotKind
from trapline.machine.memory_map import RAM_BASE

if TYPE_CHECKING:
    from trapline.policies.names import NaclFeature

PHYSICAL_BITS = 56
_SIZE = re.compile(r"(0x[0-9a-fA-F_]+|[0-9][0-9_]*)\s*([kKmMgGtT]?)(i?[bB])?")
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
_KINDS = {kind.value: kind for kind in (SlotKind.RAM, SlotKind.READ_ONLY, SlotKind.HOLE, SlotKind.NONE)}


def parse_size(text: str) -> int:
    """Read a size: 0x1000, 65536, 64K, 256M, 4GiB."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or len(text) > 60:
        raise ValueError(f"size {text!r}: write a number, with K, M, G or T if you like")
    size = int(match[1], 0) << _UNITS[match[2].lower()]
    if size == 0:
        raise ValueError(f"size {text!r} is zero")
    return size


def parse_memory(text: str) -> int:
    """Read the size of a machine's memory: whole pages, at least 1 MiB, within the 56 bits of physical addresses."""
    try:
        size = parse_size(text)
    except ValueError as error:
        raise ValueError(f"memory: {error}") from None
    if size % PAGE or size < 1 << 20:
        raise ValueError(f"memory {text!r} must be whole pages ({PAGE} bytes), at least 1M")
    if size > (1 << PHYSICAL_BITS) - RAM_BASE:
        raise ValueError(f"memory {text!r} goes beyond the {PHYSICAL_BITS} bits of physical addresses")
    return size


@dataclass(frozen=True, slots=True)
class SlotArgument:
    """A memory slot that the user asked for. `file` is private: the guest's stores do not reach it."""

    gpa: int
    size: int
    kind: SlotKind
    file: Path | None = None

    def describe(self) -> str:
        """The slot for messages."""
        return f"[{self.gpa:#x}..{self.gpa + self.size - 1:#x}] {self.file or self.kind.value}"


def parse_slot(text: str) -> SlotArgument:
    """Read GPA:SIZE:KIND, where KIND is ram, ro, hole, none, or the path of a file that backs the slot."""
    parts = text.split(":", 2)
    if len(parts) != 3 or not parts[2]:
        raise ValueError(f"memslot {text!r}: write GPA:SIZE:ram, :ro, :hole, :none or :PATH")
    try:
        gpa = int(parts[0], 0) if parts[0].isascii() and len(parts[0]) < 60 else -1
    except ValueError:
        raise ValueError(f"memslot {text!r}: {parts[0]!r} is not an address") from None
    try:
        size = parse_size(parts[1])
    except ValueError as error:
        raise ValueError(f"memslot {text!r}: {error}") from None
    if gpa < 0 or gpa % PAGE or size % PAGE:
        raise ValueError(f"memslot {text!r}: address and size must be multiples of {PAGE:#x}")
    kind = _KINDS.get(parts[2])
    if kind is not None:
        return SlotArgument(gpa, size, kind)
    return SlotArgument(gpa, size, SlotKind.FILE, _file(text, Path(parts[2]), size))


def _file(text: str, path: Path, size: int) -> Path:
    try:
        length = path.stat().st_size
    except OSError as error:
        raise ValueError(f"memslot {text!r}: {path}: {error.strerror}") from None
    if not path.is_file():
        raise ValueError(f"memslot {text!r}: {path} is not a regular file")
    if length < size:
        raise ValueError(f"memslot {text!r}: {path} has {length:#x} bytes, the slot {size:#x}")
    return path


def require_no_overlap(slots: list[SlotArgument]) -> None:
    """Refuse slots that overlap, naming both."""
    ordered = sorted(slots, key=lambda s: s.gpa)
    for one, other in itertools.pairwise(ordered):
        if other.gpa < one.gpa + one.size:
            raise ValueError(f"memslots overlap: {one.describe()} and {other.describe()}")


def parse_nacl(text: str) -> tuple[NaclFeature, ...] | None:
    """Return the features of SBI NACL in `text` (off: none), None if it is empty; ValueError names a wrong one."""
    from trapline.policies.names import NaclFeature  # not for every boot

    if not text:
        return None
    known: tuple[NaclFeature, ...] = get_args(NaclFeature)
    words = [] if text == "off" else text.split(",")
    for word in words:
        if word not in known:
            raise ValueError(f"--nacl {text}: {word!r} is none of {', '.join(known)} (or off)")
    return tuple(name for name in known if name in words)
