"""What an entry into M-mode costs, in instructions of real firmware. Always an estimate: hosted firmware retires none.

The numbers are in measured.json: what OpenSBI 1.1, 1.6 and 1.9 executed in M-mode for the events of `trapline route`,
raised in VS-mode under a real kernel on the board (`trapline conform --costs --record`). What no event of a guest
reaches was measured on OpenSBI 1.1 alone (by rdinstret in HS-mode on Spike); for other firmware it is scaled by
what the two have in common.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from trapline.dataclass import dataclass
from trapline.engine.decode_table import scalar_names

ILLEGAL, ILLEGAL_TO_VS, CSR_TRIED, CSR_READ = "illegal", "illegal to VS", "illegal csr", "counter read"
ATOMIC, AMO, ACCESS, PLAIN, MTIMER = "misaligned atomic", "misaligned amo", "access fault", "other redirect", "m-timer"
SBI = "sbi"

# Events here and the probe that raises each.
PROBES: dict[str, str] = {
    ILLEGAL: "illegal",
    ILLEGAL_TO_VS: "illegal-to-vs",
    CSR_TRIED: "csr-machine",
    ATOMIC: "misaligned-lr",
    AMO: "misaligned-amo",
    ACCESS: "load-hole",
    PLAIN: "fetch-hole",
    "lh": "misaligned-lh",
    "ld": "misaligned-load",
    "fld": "misaligned-fld",
    "sh": "misaligned-sh",
    "sd": "misaligned-store",
    "fsd": "misaligned-fsd",
}
SPIKE_1_1: dict[str, int] = {
    "lhu": 363,
    "lw": 404,
    "sw": 397,
    "sbi base": 244,
    "sbi time": 317,
    "sbi ipi": 380,
    "sbi hsm": 303,
    SBI: 226,
}
SPIKE = "measured: OpenSBI 1.1 (Debian), Spike"

# Events without a number of their own, and the one that stands in for them.
LIKE = {
    ILLEGAL_TO_VS: ILLEGAL,
    "lwu": "lw",
    "flw": "lw",
    "fsw": "sw",
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
def measurements() -> dict[str, Any]:
    """Return measured.json: `firmware` by version, and `kernels` by version."""
    data: dict[str, Any] = json.loads(Path(__file__).with_name("measured.json").read_text(encoding="utf-8"))
    return data


@cache
def cost_of(event: str, measured_on: str) -> Cost:
    """Return the cost of an event on firmware whose own measurements are `measured_on` (as "1.6")."""
    table = measurements()["firmware"][measured_on]
    if PROBES.get(event) in table["instructions"]:
        return Cost(table["instructions"][PROBES[event]], table["source"], measured=True)
    if event in SPIKE_1_1:
        if measured_on == "1.1":
            return Cost(SPIKE_1_1[event], SPIKE, measured=True)
        scale = _scale(measured_on)
        return Cost(round(SPIKE_1_1[event] * scale), f"{SPIKE}, times {scale:.2f}")
    own = LIKE.get(event, SBI if event.startswith(SBI) else "")
    if not own:
        raise ValueError(f"no estimate for {event!r}")
    like = cost_of(own, measured_on)
    return Cost(like.instructions, f"{like.source}, of {own}")


def is_known(event: str) -> bool:
    """Whether there is an estimate for an event."""
    return event in PROBES or event in SPIKE_1_1 or event in LIKE


def _scale(measured_on: str) -> float:
    """Return how much longer this firmware takes than 1.1, over the events that were measured on both."""
    here, there = (measurements()["firmware"][n]["instructions"] for n in (measured_on, "1.1"))
    both = [p for p in PROBES.values() if p in here and p in there]
    return float(sum(here[p] for p in both) / sum(there[p] for p in both))


def firmware_events() -> tuple[str, ...]:
    """What hart.fw_cost holds the prices of, by number of the event (firmware.handler): 0 is none."""
    return (ILLEGAL, ATOMIC, ACCESS, PLAIN, ILLEGAL_TO_VS, AMO, CSR_READ, *scalar_names())
