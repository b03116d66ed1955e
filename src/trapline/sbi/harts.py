"""The hart list parameter (chapter "Binary Encoding")."""

from __future__ import annotations

from trapline.sbi.host import SbiHost

ALL_HARTS = (1 << 64) - 1


def select_harts(host: SbiHost, mask: int, base: int, extension: str) -> tuple[int, ...] | None:
    """Return the harts that hart_mask and hart_mask_base name, or None if one of them is invalid.

    A base of -1 ignores the mask and means every hart. A base is valid if a hart of that number or a
    higher one exists.
    """
    available = host.hartids()
    if base == ALL_HARTS:
        return tuple(available)
    named = [base + n for n in range(64) if mask >> n & 1]
    if extension in host.profile.lenient_hart_masks:
        return tuple(n for n in named if n in available)
    if base > max(available, default=-1) or any(n not in available for n in named):
        return None
    return tuple(named)
