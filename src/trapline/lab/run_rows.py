"""Rows of a run: all traps that took one route, with what they cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from trapline.dataclass import dataclass
from trapline.kvm.report.cost import estimate
from trapline.kvm.report.trace import outcome
from trapline.kvm.uapi.stats import Route
from trapline.lab.observe import HostedCost, Observation
from trapline.plain import plain
from trapline.privilege.causes import cause_name
from trapline.session.observe.observer import RoundTrips


@dataclass(frozen=True, slots=True)
class RunRow:
    """All traps of one cause and origin that took one route.

    `hs` and `m` are instructions of all of them together: estimates of what a real kernel and real firmware would
    have executed. What the guest's own handlers execute is not in a row (see --observe).
    """

    cause: int
    origin: str
    path: tuple[str, ...]
    how: tuple[str, ...]
    end: str
    errno: int
    count: int
    hs: int = 0
    m: int = 0

    def as_data(self, everything: int) -> dict[str, Any]:
        """Return plain data for JSON; `everything` is the instructions of the whole run."""
        return {
            **plain(self, "cause"),
            "name": cause_name(self.cause),
            **plain(self, "from=origin path how end"),
            "errno": self.errno or None,
            "count": self.count,
            "instructions": {"HS": self.hs, "M": self.m, "total": self.total},
            "share": round(self.total / everything, 6) if everything else 0.0,
            "mean": round(self.mean, 1),
        }

    @property
    def total(self) -> int:
        """Instructions of the hosted levels."""
        return self.hs + self.m

    @property
    def mean(self) -> float:
        """The same of one trap."""
        return self.total / self.count if self.count else 0.0

    def outcome(self) -> str:
        """Return the end, with the errno of a kill."""
        return outcome(self.end, self.errno)

    def key(self) -> tuple[Any, ...]:
        """Return what makes two rows the same route."""
        return self.cause, self.origin, self.path, self.how, self.end, self.errno


def left_guest(routes: Counter[Route], firmware: Mapping[Route, int], version: str) -> Iterator[RunRow]:
    """Yield a row for each route of traps that left the guest; `firmware` has the instructions in M-mode."""
    for route, count in routes.items():
        cause, origin, path, how, end, errno = route
        if count:
            hs = estimate(how[-1], end, version).hs * count if "HS" in path else 0
            yield RunRow(cause, origin, path, how, end, errno, count, hs, firmware.get(route, 0))


def delegated(traps: Counter[tuple[int, str, str]]) -> Iterator[RunRow]:
    """Yield the traps that hardware gave to the guest: only the compiled counters know them."""
    for (cause, origin, destination), n in traps.items():
        if destination == "VS" and n:
            yield RunRow(cause, origin, (origin, "VS"), ("hardware",), "guest", 0, n)


def add_hosted(seen: Observation, rows: Iterable[RunRow]) -> None:
    """Give round trips that passed through hosted levels what these are estimated to have executed.

    A round trip is known by cause, origin, first level, whether the guest got the trap, and where the return went;
    where several routes fit, their mean counts.
    """
    causes = {k.kind.cause for k in seen.kinds}
    known = [r for r in rows if len(r.path) > 1]
    # Firmware that emulates an access may hand on the access's own fault: its cause was not raised by the hart.
    other = [r for r in known if r.cause not in causes]
    for kind in seen.kinds:
        if kind.kind.destination in seen.hosted:
            own = [r for r in known if r.cause == kind.kind.cause]
            found = ((t.key, _cost(t, own) or _cost(t, other)) for t in kind.trips)
            kind.hosted = {key: cost for key, cost in found if cost is not None}


def _cost(trip: RoundTrips, rows: list[RunRow]) -> HostedCost | None:
    here = (trip.kind.origin, trip.kind.destination, trip.path[-1] == "VS" and len(trip.path) > 2)
    fits = [r for r in rows if (r.origin, r.path[1], r.end == "guest") == here]
    # A mapped page is tried again; what KVM or the VMM did for the guest is behind it.
    sure = [r for r in fits if (r.how[-1] == "gstage-map") == (trip.end == "same")]
    chosen = sure or fits
    count = sum(r.count for r in chosen)
    if not count:
        return None
    return HostedCost(sum(r.m for r in chosen) / count, sum(r.hs for r in chosen) / count)
