"""What a board can be made of, and where its parts may lie."""

from __future__ import annotations

from trapline.machine.elf import ImageError

MISALIGNED = ("hardware", "trap")
TINST = ("zero", "transformed")


def require_apart(taken: list[tuple[int, int, str]], low: int, high: int, name: str) -> None:
    """Note that a part of memory is taken; ImageError if another one has some of it."""
    for other_low, other_high, other in taken:
        if low < other_high and other_low < high:
            raise ImageError(
                f"{name} [{low:#x}..{high - 1:#x}] overlaps {other} [{other_low:#x}..{other_high - 1:#x}]: "
                "more memory may help"
            )
    taken.append((low, high, name))


def check_options(isa: str, harts: int, timebase: int, ratio: int, misaligned: str, tinst: str) -> None:
    """ValueError names the first option that is not what it can be."""
    if not 1 <= harts <= 64:
        raise ValueError(f"harts: {harts} is not in 1..64")
    if not 0 < timebase < 1 << 32:
        raise ValueError(f"timebase: {timebase} Hz is not in 1..{(1 << 32) - 1}")
    if ratio <= 0:
        raise ValueError(f"ratio: {ratio} is not a positive number of instructions")
    if misaligned not in MISALIGNED:
        raise ValueError(f"misaligned: {misaligned!r} is not one of {', '.join(MISALIGNED)}")
    if tinst not in TINST:
        raise ValueError(f"tinst: {tinst!r} is not one of {', '.join(TINST)}")
    if not isa:
        raise ValueError("isa: the ISA string is empty")
