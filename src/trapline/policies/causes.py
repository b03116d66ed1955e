"""Cause names in policy files, and which of them hedeleg can hold."""

from __future__ import annotations

import re

from trapline.policies.names import nearest, shown
from trapline.policies.schema import PolicyError
from trapline.privilege.causes import CAUSE_NAMES

NAMES: dict[int, str] = CAUSE_NAMES
NUMBERS = {name: number for number, name in NAMES.items()}

# Bits of hedeleg that the Hypervisor chapter makes read-only zero or keeps reserved.
READ_ONLY_ZERO = frozenset({9, 10, 11, 16, 20, 21, 22, 23})
DELEGABLE = sum(1 << n for n in NAMES if n not in READ_ONLY_ZERO)


def name(cause: int) -> str:
    """Return the name of an exception code, or its number in words."""
    return NAMES.get(cause, f"cause-{cause}")


def is_cause(text: str) -> bool:
    """Whether it is the name of an exception code, or a code from 0 to 63 in decimal digits."""
    return text in NUMBERS or bool(re.fullmatch(r"[0-9]|[1-5][0-9]|6[0-3]", text))


def number(text: str) -> int:
    """Return the exception code of a name (or of decimal digits)."""
    if not is_cause(text):
        raise PolicyError(f"unknown cause {shown(text)} {nearest(text, NUMBERS)}")
    return NUMBERS[text] if text in NUMBERS else int(text)


def hedeleg_mask(value: int | tuple[str, ...]) -> int:
    """Return a checked hedeleg mask, from a mask or from cause names."""
    mask = value if isinstance(value, int) else sum(1 << n for n in {number(t) for t in value})
    if mask < 0 or mask >> 64:
        raise PolicyError(f"hedeleg {mask:#x} is not a 64-bit value")
    refused = [n for n in range(64) if mask >> n & 1 and not DELEGABLE >> n & 1]
    if refused:
        bits = ", ".join(f"{n} ({name(n)})" for n in refused)
        why = "read-only zero" if all(n in READ_ONLY_ZERO for n in refused) else "read-only zero or reserved"
        raise PolicyError(f"hedeleg {mask:#x}: {why} in the Hypervisor chapter: bit {bits}")
    return mask


def unimplemented(hedeleg: int, writable: int) -> tuple[int, ...]:
    """Return the causes in `hedeleg` whose bit a hart with that writable mask does not keep."""
    lost = hedeleg & ~writable
    return tuple(n for n in range(64) if lost >> n & 1)
