"""Names of registers, rounding modes and fence sets, as assembly text spells them."""

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

ROUNDING = {"rne": 0, "rtz": 1, "rdn": 2, "rup": 3, "rmm": 4, "dyn": 7}
ROUNDING_NAMES = {number: name for name, number in ROUNDING.items()}
DYNAMIC = 7

# Conversions that are always exact: assemblers leave rm out and encode rne.
EXACT_CONVERSIONS = frozenset({"fcvt.d.w", "fcvt.d.wu", "fcvt.d.s", "fcvt.s.h", "fcvt.d.h"})

FENCE_LETTERS = "iorw"


def default_rounding(mnemonic: str) -> int:
    """Return the rm that text leaves out."""
    return 0 if mnemonic in EXACT_CONVERSIONS else DYNAMIC


def fence_set(bits: int) -> str:
    """Return the letters of a fence's predecessor or successor set; 0 if it is empty."""
    return "".join(letter for i, letter in enumerate(FENCE_LETTERS) if bits >> (3 - i) & 1) or "0"


def fence_bits(text: str) -> int:
    """Return the four bits of a fence set (ValueError if it is none)."""
    if text == "0":
        return 0
    if not text or any(letter not in FENCE_LETTERS for letter in text):
        raise ValueError(f"not a fence set: {text!r}")
    return sum(8 >> FENCE_LETTERS.index(letter) for letter in set(text))
