"""What hardware itself shows a hypervisor and its guest: the same L1 and L2 where H is real.

The machine gives HS-mode everything that it can: `sees` runs a nested probe on it. Without a hypervisor the probe is
the kernel in HS-mode itself. An L0 that is faithful leaves the same notes in L1's log and the same log in L2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trapline.engine.api import Engine, open_engine
from trapline.firmware.firmware import Firmware
from trapline.lab.nested import image as l1
from trapline.lab.nested.events import NESTED_EVENTS
from trapline.lab.nested.probe import ENDS, LIMIT, HypervisorSees, read_notes
from trapline.lab.probe import image
from trapline.lab.probe.image import Entry
from trapline.lab.probe.oracle import Nothing, run_machine
from trapline.lab.probe.probe import read_log
from trapline.lab.routes import GuestSees
from trapline.lang.control import EXIT_STOP, leave
from trapline.lang.state import Hart
from trapline.policies import Policy
from trapline.privilege.isa_string import DEFAULT_ISA, configure, extensions
from trapline.privilege.reset import reset
from trapline.session.regions import Regions


@dataclass(frozen=True, slots=True)
class Shown:
    """What one probe ends with, and what both levels were told."""

    end: str
    notes: tuple[HypervisorSees, ...]
    log: tuple[GuestSees, ...]


class _Finisher(Nothing):
    """Ends the run at END, and where L1 gives up."""

    end: str | None = None

    def store(self, hart: Hart, offset: int, size: int, value: int) -> None:
        """Notice the end."""
        if value != image.MARK:
            self.end = "" if value == image.END else ENDS.get(value, "lost")
            leave(hart, EXIT_STOP)


class NestedOracle:
    """A machine with a real H for one ISA and one L1."""

    def __init__(
        self, isa: str, hypervisor: Policy | None, misaligned: str, like: Hart, engine: str | Engine = "native",
        only: frozenset[str] | None = None,
    ) -> None:  # fmt: skip
        self.engine, self.hart = open_engine(engine), Hart()
        self.isa, self.misaligned, self.like = isa, misaligned, like
        extra = NESTED_EVENTS if hypervisor is not None else ()
        self.image = image.build(frozenset(extensions(isa)), only, extra)
        self.hypervisor = l1.hypervisor(hypervisor) if hypervisor is not None else None
        self.regions, self.finisher = Regions(), _Finisher()
        self.regions.device("finisher", image.FINISHER, 0x1000, self.finisher)
        self.regions.device("mmio", image.MMIO_PAGE, 0x1000, Nothing())
        self.regions.device("no slot", image.NO_SLOT_TABLE, 0x1000, Nothing())
        self.regions.rom("read-only", image.READ_ONLY, image.READ_ONLY_SIZE)
        self.regions.ram("RAM", image.RAM, image.RAM_SIZE)
        self.regions.ram("L1", l1.BASE, l1.SIZE)
        self.regions.write(image.RAM, self.image.data)
        if self.hypervisor is not None:
            self.regions.write(l1.BASE, self.hypervisor.data)

    def sees(self, entry: Entry) -> Shown:
        """Run a probe and return what it shows."""
        hart, regions = self.hart, self.regions
        configure(hart, self.isa)
        reset(hart, 0, image.RAM)
        hart.time_ratio = 100
        hart.misaligned_hardware = int(self.misaligned == "hardware")
        hart.tinst_transformed = self.like.tinst_transformed
        regions.install(hart)
        self.engine.attach(hart)
        regions.write(image.LOG, bytes(image.RECORD * 8))
        regions.write(l1.LOG, bytes(l1.LOG_SIZE))
        self.finisher.end = None
        firmware = Firmware("delegates-all")
        start = entry.start
        if self.hypervisor is not None:
            for at, data in self.hypervisor.tables:
                regions.write(at, data)
            start = self.hypervisor.start
        firmware.setup(hart, start, entry.start)
        run_machine(self.engine, hart, firmware, LIMIT, lambda: self.finisher.end is not None)
        end = "hung" if self.finisher.end is None else self.finisher.end
        notes = read_notes(regions.read(l1.LOG, l1.LOG_SIZE)) if self.hypervisor is not None else ()
        return Shown(end, notes, tuple(read_log(regions.read(image.LOG, image.RECORD * 8))))


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
