"""Names of registers, as assembly text and people spell them."""

from __future__ import annotations

X_NAMES = (
    *("zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1"),
    *(f"a{i}" for i in range(8)),
    *(f"s{i}" for i in range(2, 12)),
    *("t3", "t4", "t5", "t6"),
)
F_NAMES = (
    *(f"ft{i}" for i in range(8)),
    *("fs0", "fs1"),
    *(f"fa{i}" for i in range(8)),
    *(f"fs{i}" for i in range(2, 12)),
    *("ft8", "ft9", "ft10", "ft11"),
)
X_NUMBERS = {name: i for i, name in enumerate(X_NAMES)} | {f"x{i}": i for i in range(32)} | {"fp": 8}
F_NUMBERS = {name: i for i, name in enumerate(F_NAMES)} | {f"f{i}": i for i in range(32)}


def checked(name: str, value: object) -> int:
    """Return a value that a 64-bit register takes; ValueError for another."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 64:
        raise ValueError(f"{name} = {value!r}: a register holds 0 to 2**64 - 1")
    return int(value)
