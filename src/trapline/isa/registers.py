"""Names of registers, rounding modes and fence sets, as assembly text spells them."""

from __future__ import annotations

from trapline.lang.names import F_NAMES as F_NAMES
from trapline.lang.names import F_NUMBERS as F_NUMBERS
from trapline.lang.names import X_NAMES as X_NAMES
from trapline.lang.names import X_NUMBERS as X_NUMBERS

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
