"""What an entry into M-mode costs, in instructions of real firmware. Always an estimate: hosted firmware retires none.

Two sets of numbers were measured: OpenSBI 1.1 (every event, by rdinstret around it in VS- and HS-mode on
Spike, less the handler's own five instructions) and OpenSBI 1.6 (two events, 10,000 round trips under
Debian's kernel 6.12 on QEMU 7.2). The two events that both have differ by the same factor, 1.16, which
stands in for every other event of newer firmware.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from trapline.privilege import causes

MEASURED_1_1 = "measured: OpenSBI 1.1 (Debian), Spike"
MEASURED_1_6 = "measured: OpenSBI 1.6, Debian kernel 6.12, QEMU 7.2"
SCALE = 1.16

ILLEGAL, CSR_TRIED, CSR_READ = "illegal", "illegal csr", "counter read"
ATOMIC, ACCESS, PLAIN, MTIMER = "misaligned atomic", "access fault", "other redirect", "m-timer"
SBI = "sbi"

OPENSBI_1_1: dict[str, int] = {
    ILLEGAL: 326,
    CSR_TRIED: 422,
    ATOMIC: 407,
    ACCESS: 283,
    PLAIN: 252,
    "lh": 360,
    "lhu": 363,
    "lw": 404,
    "ld": 524,
    "sh": 346,
    "sw": 397,
    "sd": 520,
    "sbi base": 244,
    "sbi time": 317,
    "sbi ipi": 380,
    "sbi hsm": 303,
    SBI: 226,
}
OPENSBI_1_6: dict[str, int] = {ILLEGAL: 377, ATOMIC: 474}

# Events without a number of their own, and the one that stands in for them.
LIKE = {
    "lwu": "lw",
    "flw": "lw",
    "fld": "ld",
    "fsw": "sw",
    "fsd": "sd",
    CSR_READ: CSR_TRIED,
    MTIMER: PLAIN,
    "sbi rfence": "sbi ipi",
    "sbi v01": "sbi base",
}


@dataclass(frozen=True, slots=True)
class Cost:
    """Instructions in M-mode, and where the number comes from. `measured` is about this very event."""

    instructions: int
    source: str
    measured: bool = False
    estimated: bool = True


NOTHING = Cost(0, "the hart never comes back")


@cache
def cost_of(event: str, measured_on: str) -> Cost:
    """Return the cost of an event on firmware whose own measurements are `measured_on` ("1.1" or "1.6")."""
    own = event if event in OPENSBI_1_1 else LIKE.get(event, SBI if event.startswith(SBI) else "")
    if own not in OPENSBI_1_1:
        raise ValueError(f"no estimate for {event!r}")
    stand_in = "" if own == event else f", of {own}"
    if measured_on == "1.1":
        return Cost(OPENSBI_1_1[own], MEASURED_1_1 + stand_in, measured=not stand_in)
    if own in OPENSBI_1_6:
        return Cost(OPENSBI_1_6[own], MEASURED_1_6 + stand_in, measured=not stand_in)
    return Cost(round(OPENSBI_1_1[own] * SCALE), f"{MEASURED_1_1}{stand_in}, times {SCALE}")


def redirect_event(cause: int) -> str:
    """Return the event that a redirect of an exception is."""
    if cause == causes.ILLEGAL_INST:
        return ILLEGAL
    if cause in (causes.LOAD_MISALIGNED, causes.STORE_MISALIGNED):
        return ATOMIC
    if cause in (causes.LOAD_ACCESS, causes.STORE_ACCESS):
        return ACCESS
    return PLAIN
