"""The hart list parameter (chapter "Binary Encoding")."""

from __future__ import annotations

from trapline.sbi.host import SbiHost

ALL_HARTS = (1 << 64) - 1


def select_harts(host: SbiHost, mask: int, base: int, extension: str) -> tuple[int, ...] | None:
    """Return the harts that hart_mask and hart_mask_base name, or None if one of them is invalid.

    A base of -1 ignores the mask and means every hart. Any other base needs to be a hart's only if bit 0
    of the mask names it (clarified in SBI v3.0).
    """
    available, profile = host.hartids(), host.profile
    if base == ALL_HARTS:
        return tuple(available)
    if profile.checks_hart_mask_base and base > max(available, default=-1):
        return None
    named = [base + n for n in range(64) if mask >> n & 1]
    if extension in profile.lenient_hart_masks:
        return tuple(n for n in named if n in available)
    return tuple(named) if all(n in available for n in named) else None
