"""What hardware itself would have given the guest: the same probes as the kernel of a real machine.

The machine has no H extension and everything is delegated to S-mode; what is a slot in the VM is memory
there, what is MMIO is a device, and where a slot has a hole nothing answers. A hypervisor that is faithful
shows its guest the same cause, epc, tval and privilege.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache, partial

from trapline.engine.api import Engine, open_engine
from trapline.firmware.bare import run_bare
from trapline.firmware.firmware import Firmware
from trapline.firmware.outcome import HUNG, STOPPED
from trapline.lab.probe import image
from trapline.lab.probe.image import Entry, Image
from trapline.lab.probe.probe import read_log
from trapline.lab.routes import GuestSees
from trapline.lang.control import EXIT_HOSTED_M, EXIT_LIMIT, EXIT_STOP, EXIT_WFI, leave
from trapline.lang.state import Hart
from trapline.privilege.derived import update_derived
from trapline.privilege.interrupts import update_timers
from trapline.privilege.isa_string import DEFAULT_ISA, configure, extensions
from trapline.privilege.reset import reset
from trapline.session.regions import Regions

LIMIT = 4_000


class Nothing:
    """A device that reads as zero."""

    def load(self, hart: Hart, offset: int, size: int) -> int:
        """Return 0."""
        return 0

    def store(self, hart: Hart, offset: int, size: int, value: int) -> None:
        """Forget it."""


class _Finisher(Nothing):
    """Ends the run at END, and where something else than MARK is written: `ends` say what that means."""

    def __init__(self, ends: Mapping[int, str]) -> None:
        self.end: str | None = None
        self._ends = {image.END: "", **ends}

    def store(self, hart: Hart, offset: int, size: int, value: int) -> None:
        """Notice the end."""
        if value != image.MARK:
            self.end = self._ends.get(value, "lost")
            leave(hart, EXIT_STOP)


def without_hypervisor(isa: str) -> str:
    """Return an ISA string without H."""
    return re.sub(r"^(rv64[a-gi-z]*)h", r"\1", isa)


class ProbeMachine:
    """A machine with probes in it: `ends` say what a write to the finisher means beside END."""

    limit = LIMIT
    tinst = 0

    def __init__(
        self,
        isa: str,
        misaligned: str,
        events: Image,
        ends: Mapping[int, str],
    ) -> None:
        self.engine, self.hart = open_engine("native"), Hart()
        self.isa, self.misaligned, self.image = isa, misaligned, events
        self.regions, self.finisher = Regions(), _Finisher(ends)
        self.regions.device("finisher", image.FINISHER, 0x1000, self.finisher)
        self.regions.device("mmio", image.MMIO_PAGE, 0x1000, Nothing())
        self.regions.device("no slot", image.NO_SLOT_TABLE, 0x1000, Nothing())
        self.regions.rom("read-only", image.READ_ONLY, image.READ_ONLY_SIZE)
        self.regions.ram("RAM", image.RAM, image.RAM_SIZE)
        self.regions.write(image.RAM, self.image.data)
        self.regions.write(image.READ_ONLY_UNTOUCHED, image.UNTOUCHED)

    def log(self, start: int, a1: int = 0) -> tuple[GuestSees, ...]:
        """Run the code at `start` to its end; return what the probe's handler has noted."""
        hart, regions = self.hart, self.regions
        configure(hart, self.isa)
        reset(hart, 0, image.RAM)
        hart.time_ratio = 100
        hart.misaligned_hardware = int(self.misaligned == "hardware")
        hart.tinst_transformed = self.tinst
        regions.install(hart)
        self.engine.attach(hart)
        regions.write(image.LOG, bytes(image.RECORD * 8))
        self.finisher.end = None
        firmware = Firmware("delegates-all")
        firmware.setup(hart, start, a1)
        run_machine(self.engine, hart, firmware, self.limit, lambda: self.finisher.end is not None)
        return tuple(read_log(regions.read(image.LOG, image.RECORD * 8)))


class Oracle(ProbeMachine):
    """A machine without hypervisor for one ISA; `sees` runs a probe on it."""

    def __init__(self, isa: str = DEFAULT_ISA, misaligned: str = "trap", only: frozenset[str] | None = None) -> None:
        super().__init__(without_hypervisor(isa), misaligned, image.build(frozenset(extensions(isa)), only), {})

    def sees(self, entry: Entry) -> GuestSees | None:
        """Return the first exception that the probe's handler gets, or None."""
        return next(iter(self.log(entry.start)), None)


def run_machine(engine: Engine, hart: Hart, firmware: Firmware, limit: int, ended: Callable[[], bool]) -> None:
    """Run a machine whose firmware is hosted until it has ended, or for so many instructions."""
    end = int(hart.instret) + limit
    hart.on_run = partial(engine.run, hart)  # type: ignore[method-assign]
    firmware.write_model(hart)
    while not ended() and int(hart.instret) < end:
        reason = int(hart.call(run_bare, end - int(hart.instret)))
        if reason == EXIT_HOSTED_M:
            if firmware.handle(hart).destination in (HUNG, STOPPED):
                break
        elif reason == EXIT_WFI:
            hart.time_offset = int(hart.time_offset) + 100
            end = min(end, int(hart.instret) + 200)
        elif reason not in (EXIT_LIMIT, EXIT_STOP):
            break
        hart.call(update_timers)
        hart.call(update_derived)


class Expected:
    """What hardware may give for each probe of one ISA, with misaligned accesses trapping or done."""

    def __init__(self, isa: str, only: frozenset[str] | None) -> None:
        self._oracles = [Oracle(isa, misaligned, only=only) for misaligned in ("trap", "hardware")]
        self._seen: dict[tuple[str, str], frozenset[GuestSees | None]] = {}

    def __getitem__(self, probe: tuple[str, str]) -> frozenset[GuestSees | None]:
        """Return it for an event's id and the mode that raises it; KeyError if there is no such probe."""
        if probe not in self._seen:
            entry = self._oracles[0].image.entry(*probe)
            self._seen[probe] = frozenset(oracle.sees(entry) for oracle in self._oracles)
        return self._seen[probe]


@lru_cache(maxsize=8)
def expected(isa: str = DEFAULT_ISA, only: frozenset[str] | None = None) -> Expected:
    """Return what hardware may give for every probe, each computed when it is asked for."""
    return Expected(isa, only)
