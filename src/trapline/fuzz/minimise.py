"""Making what shows something small: fewer programs, fewer instructions, then plainer operands."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trapline.fuzz.make import units


def minimise(program: bytes, shows: Callable[[bytes], bool], tries: int = 200) -> bytes:
    """Return a program as short and plain as `tries` runs find it, that still shows what `shows` looks for."""
    left = [tries]

    def still(parts: list[bytes]) -> bool:
        left[0] -= 1
        return left[0] >= 0 and shows(b"".join(parts))

    parts = fewest(units(program), still)
    for at in range(len(parts)):
        for change in _CHANGES:
            plainer = change(parts[at])
            if plainer != parts[at] and still([*parts[:at], plainer, *parts[at + 1 :]]):
                parts[at] = plainer
    return b"".join(parts)


def fewest(parts: Sequence[bytes], still: Callable[[list[bytes]], bool]) -> list[bytes]:
    """Return as few of the parts, at least one, as show it still: halves are tried first, single parts last."""
    left = list(parts)
    size = max(1, len(left) // 2)
    while size:
        at = 0
        while at < len(left):
            fewer = left[:at] + left[at + size :]
            if fewer and still(fewer):
                left = fewer
            else:
                at += size
        size //= 2
    return left


def _without(mask: int, *opcodes: int) -> Callable[[bytes], bytes]:
    """Return what clears a field of 32-bit instructions of some major opcodes."""

    def change(unit: bytes) -> bytes:
        bits = int.from_bytes(unit, "little")
        return (bits & ~mask).to_bytes(4, "little") if len(unit) == 4 and bits & 0x7F in opcodes else unit

    return change


_CHANGES = (
    _without(0xFFF << 20, 0x03, 0x07, 0x67),  # the offset of a load or a jump
    _without(0x7F << 25 | 0x1F << 7, 0x23, 0x27),  # of a store
    _without(0x1F << 20, 0x23, 0x27),  # what is stored
    _without(3 << 25, 0x2F),  # aq and rl
    _without(0x1F << 7, 0x03, 0x13, 0x1B, 0x2F, 0x33, 0x3B, 0x67, 0x73),  # rd
)
