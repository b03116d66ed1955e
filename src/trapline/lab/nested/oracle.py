"""What hardware itself shows a hypervisor and its guest: the same L1 and L2 where H is real.

The machine gives HS-mode everything that it can: `sees` runs a nested probe on it. Without a hypervisor the probe is
the kernel in HS-mode itself. An L0 that is faithful leaves the same notes in L1's log and the same log in L2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trapline.lab.nested import image as l1
from trapline.lab.nested.events import NESTED_EVENTS
from trapline.lab.nested.probe import ENDS, LIMIT, HypervisorSees, read_notes
from trapline.lab.probe import image
from trapline.lab.probe.image import Entry
from trapline.lab.probe.oracle import ProbeMachine
from trapline.lab.routes import GuestSees
from trapline.lang.state import Hart
from trapline.policies import Policy
from trapline.privilege.isa_string import DEFAULT_ISA, extensions


@dataclass(frozen=True, slots=True)
class Shown:
    """What one probe ends with, and what both levels were told."""

    end: str
    notes: tuple[HypervisorSees, ...]
    log: tuple[GuestSees, ...]


class NestedOracle(ProbeMachine):
    """A machine with a real H for one ISA and one L1."""

    limit = LIMIT

    def __init__(
        self, isa: str, hypervisor: Policy | None, misaligned: str, like: Hart, only: frozenset[str] | None = None
    ) -> None:
        extra = NESTED_EVENTS if hypervisor is not None else ()
        super().__init__(isa, misaligned, image.build(frozenset(extensions(isa)), only, extra), ENDS)
        self.tinst = int(like.tinst_transformed)
        self.hypervisor = l1.hypervisor(hypervisor) if hypervisor is not None else None
        self.regions.ram("L1", l1.BASE, l1.SIZE)
        if self.hypervisor is not None:
            self.regions.write(l1.BASE, self.hypervisor.data)

    def sees(self, entry: Entry) -> Shown:
        """Run a probe and return what it shows."""
        start, notes = entry.start, ()  # type: int, tuple[HypervisorSees, ...]
        if self.hypervisor is not None:
            self.regions.write(l1.LOG, bytes(l1.LOG_SIZE))
            for at, data in self.hypervisor.tables:
                self.regions.write(at, data)
            start = self.hypervisor.start
        log = self.log(start, entry.start)
        if self.hypervisor is not None:
            notes = read_notes(self.regions.read(l1.LOG, l1.LOG_SIZE))
        return Shown("hung" if self.finisher.end is None else self.finisher.end, notes, log)


_KEPT: dict[Any, dict[tuple[str, str], tuple[Shown, ...]]] = {}


def expected(
    hypervisor: Policy | None, like: Hart, isa: str = DEFAULT_ISA, only: frozenset[str] | None = None
) -> dict[tuple[str, str], tuple[Shown, ...]]:
    """Return what hardware may show, by event and mode: with misaligned accesses trapping, or done."""
    key = (hypervisor.name if hypervisor is not None else "", isa, only, int(like.tinst_transformed))
    if key not in _KEPT:
        found: dict[tuple[str, str], list[Shown]] = {}
        for misaligned in ("trap", "hardware"):
            oracle = NestedOracle(isa, hypervisor, misaligned, like, only=only)
            for entry in oracle.image.entries:
                found.setdefault((entry.event.id, entry.mode), []).append(oracle.sees(entry))
        _KEPT[key] = {name: tuple(shown) for name, shown in found.items()}
    return _KEPT[key]
