"""`trapline demo`: the question of the 2024 thread, executed in ten seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trapline.firmware.models import DEFAULT_MODEL
from trapline.lab.probe.probe import Observation, ProbeVm
from trapline.lab.route import RouteTable, route, to_route
from trapline.lab.routes import Route
from trapline.lab.settings import settings

EVENT = "fetch-hole"
BEFORE, AFTER = "linux-6.12", "linux-6.14"


@dataclass(frozen=True, slots=True)
class Scene:
    """The same VU instruction under one policy."""

    policy: str
    route: Route
    seen: Observation


@dataclass(frozen=True, slots=True)
class Demo:
    """A kill, a survival, the matrix around them, and what delegation would save."""

    scenes: tuple[Scene, ...]
    table: RouteTable
    costs: tuple[tuple[str, str, Route], ...]  # how, under what, the route

    def as_data(self) -> dict[str, Any]:
        return {
            "event": EVENT,
            "scenes": [{"policy": s.policy, **s.route.as_data()} for s in self.scenes],
            "costs": [{"way": way, "under": under, **r.as_data()} for way, under, r in self.costs],
            **self.table.as_data(),
        }


def scene(policy: str, firmware: str = DEFAULT_MODEL, event: str = EVENT, mode: str = "VU") -> Scene:
    """Run one probe."""
    probes = ProbeVm(settings(policy, firmware), only=frozenset({event}))
    seen = probes.run(probes.image.entry(event, mode))
    return Scene(policy, to_route(seen), seen)


def demo() -> Demo:
    """Run the guided tour."""
    scenes = (scene(BEFORE), scene(AFTER))
    costs = (
        ("redirect by KVM", AFTER, scenes[1].route),
        ("hedeleg, honoured by firmware", "holland-1 on opensbi-1.6", scene("holland-1").route),
        ("hedeleg, in hardware", "holland-1 on delegates-all", scene("holland-1", "delegates-all").route),
    )
    return Demo(scenes, route(AFTER), costs)
