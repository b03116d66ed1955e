"""Cause names in policy files, and which of them hedeleg can hold."""

from __future__ import annotations

from trapline.policies.schema import PolicyError

# The kernel's EXC_ names in lower case with dashes.
NAMES: dict[int, str] = {
    0: "inst-misaligned",
    1: "inst-access",
    2: "inst-illegal",
    3: "breakpoint",
    4: "load-misaligned",
    5: "load-access",
    6: "store-misaligned",
    7: "store-access",
    8: "syscall",
    9: "hypervisor-syscall",
    10: "supervisor-syscall",
    11: "machine-syscall",
    12: "inst-page-fault",
    13: "load-page-fault",
    15: "store-page-fault",
    16: "double-trap",
    18: "software-check",
    19: "hardware-error",
    20: "inst-guest-page-fault",
    21: "load-guest-page-fault",
    22: "virtual-inst-fault",
    23: "store-guest-page-fault",
}
NUMBERS = {name: number for number, name in NAMES.items()}

# Bits of hedeleg that the Hypervisor chapter makes read-only zero or keeps reserved.
READ_ONLY_ZERO = frozenset({9, 10, 11, 16, 20, 21, 22, 23})
DELEGABLE = sum(1 << n for n in NAMES if n not in READ_ONLY_ZERO)


def name(cause: int) -> str:
    """Return the name of an exception code, or its number in words."""
    return NAMES.get(cause, f"cause-{cause}")


def number(text: str) -> int:
    """Return the exception code of a name (or of decimal digits)."""
    if text in NUMBERS:
        return NUMBERS[text]
    if text.isdigit() and int(text) < 64:
        return int(text)
    raise PolicyError(f"unknown cause {text!r} (known: {', '.join(NUMBERS)})")


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
