"""What an entry into M-mode costs, in instructions of real firmware: a model, always marked as estimated.

The measured rows are OpenSBI's share of one round trip (10,000 iterations on QEMU 7.2); the others are
those numbers with the parts that differ added or taken away, and say so.
"""

from __future__ import annotations

from dataclasses import dataclass

from trapline.privilege import causes

GROUND_TRUTH = "measured: OpenSBI 1.6 under Debian 6.12, one hart, QEMU 7.2 (docs: ground truth)"


@dataclass(frozen=True, slots=True)
class Cost:
    """Instructions in M-mode, and where the number comes from. `measured` is about this very event."""

    instructions: int
    source: str
    measured: bool = False
    estimated: bool = True


ILLEGAL_REDIRECT = Cost(377, f"{GROUND_TRUTH}: illegal instruction in VS", measured=True)
MISALIGNED_REDIRECT = Cost(474, f"{GROUND_TRUTH}: misaligned lr and amo in VS", measured=True)
# A misaligned redirect fetches and decodes the instruction; without that a plain redirect remains.
PLAIN_REDIRECT = Cost(350, "model: the illegal-instruction redirect (377) without its decoding")
ACCESS_REDIRECT = Cost(474, "model: as the misaligned redirect, which also fetches and decodes (474)")
CSR_EMULATION = Cost(320, "model: the illegal-instruction redirect (377) without the redirect's CSR writes")
SBI_CALL = Cost(300, "model: trap entry and exit of the redirect (about 250) and a short handler")
MTIMER = Cost(270, "model: trap entry and exit of the redirect and a CSR write")
HANG = Cost(0, "the hart never comes back")

BYTE_ACCESS = 17  # MPRV on, access, MPRV off, and the loop around them
EMULATION_BASE = 400


def misaligned_emulation(size: int) -> Cost:
    """Return the cost of emulating an access of `size` bytes."""
    return Cost(
        EMULATION_BASE + BYTE_ACCESS * size,
        f"model: fetch and decode ({EMULATION_BASE}) and {BYTE_ACCESS} for each byte",
    )


def redirect_cost(cause: int, fetches: bool) -> Cost:
    """Return the cost of redirecting an exception; `fetches` if access faults are decoded first."""
    if cause == causes.ILLEGAL_INST:
        return ILLEGAL_REDIRECT
    if cause in (causes.LOAD_MISALIGNED, causes.STORE_MISALIGNED):
        return MISALIGNED_REDIRECT
    if cause in (causes.LOAD_ACCESS, causes.STORE_ACCESS) and fetches:
        return ACCESS_REDIRECT
    return PLAIN_REDIRECT
