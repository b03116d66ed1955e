"""A route: what one event did on its way through the levels, as it was observed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from trapline.kvm.report.trace import outcome
from trapline.plain import plain
from trapline.shown import html_table

ENDS = ("guest", "emulated", "resumed", "vmm", "killed", "hung", "no-trap")


@dataclass(frozen=True, slots=True)
class GuestSees:
    """The first trap that the guest's own handler recorded."""

    cause: int
    epc: int
    tval: int
    privilege: str  # where the guest believes that it came from: VS or VU

    def as_data(self) -> dict[str, Any]:
        return plain(self, "cause epc tval privilege")


@dataclass(frozen=True, slots=True)
class Arrival:
    """The CSRs with which a trap arrived at a hosted level, M or HS."""

    level: str
    cause: int
    epc: int
    tval: int
    tval2: int
    tinst: int
    gva: bool
    origin: str
    delegated: bool = False  # the level is HS although hedeleg has the bit of this cause

    def as_data(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the matrix. Field names are those of the JSON (see docs/route.md)."""

    cause: int
    name: str
    event: str
    from_: str
    path: tuple[str, ...]
    how: tuple[str, ...]
    end: str
    errno: int | None = None
    guest_sees: GuestSees | None = None
    counters: dict[str, int] = field(default_factory=dict)
    instructions: dict[str, int] = field(default_factory=dict)
    estimated: bool = False
    source: str = ""
    arrivals: tuple[Arrival, ...] = ()
    event_id: str = ""

    def as_data(self) -> dict[str, Any]:
        return plain(
            self,
            "cause name event event_id from=from_ path how end errno guest_sees counters instructions estimated source "
            "arrivals",
        )

    def _repr_html_(self) -> str:
        sees = self.guest_sees
        rows = (
            ("cause", f"{self.cause} {self.name}"),
            ("event", self.event),
            ("route", self.arrow()),
            ("how", ", ".join(self.how)),
            ("outcome", self.outcome()),
            ("the guest sees", f"epc {sees.epc:#x}, tval {sees.tval:#x}, from {sees.privilege}" if sees else ""),
            ("instructions", ", ".join(f"{level} {n}" for level, n in self.instructions.items() if n)),
            ("estimates by", self.source),
            ("counters", ", ".join(f"{name} +{n}" for name, n in self.counters.items())),
        )
        return html_table(("Route", f"from {self.from_}"), [row for row in rows if row[1]])

    def arrow(self) -> str:
        """Return the path in one line."""
        return " > ".join(self.path)

    def outcome(self) -> str:
        """Return the end with its errno, or with the cause that the guest saw."""
        return outcome(self.end, self.errno, self.guest_sees)
