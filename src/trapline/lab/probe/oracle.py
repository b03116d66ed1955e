"""What hardware itself would have given the guest: the same probes as the kernel of a real machine.

The machine has no H extension and everything is delegated to S-mode; what is a slot in the VM is memory
there, what is MMIO is a device, and where a slot has a hole nothing answers. A hypervisor that is faithful
shows its guest the same cause, epc, tval and privilege.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache, partial

from trapline.engine.api import Engine, open_engine
from trapline.firmware.bare import run_bare
from trapline.firmware.firmware import Firmware
from trapline.firmware.outcome import HUNG, STOPPED
from trapline.lab.probe import image
from trapline.lab.probe.image import Entry
from trapline.lab.routes import GuestSees
from trapline.lang.control import EXIT_HOSTED_M, EXIT_LIMIT, EXIT_STOP, EXIT_WFI, leave
from trapline.lang.state import Hart
from trapline.privilege.derived import update_derived
from trapline.privilege.fields import MSTATUS_SPP
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
    """Ends the run at the END mark."""

    ended = False

    def store(self, hart: Hart, offset: int, size: int, value: int) -> None:
        """Notice the end."""
        if value == image.END:
            self.ended = True
            leave(hart, EXIT_STOP)


def without_hypervisor(isa: str) -> str:
    """Return an ISA string without H."""
    return re.sub(r"^(rv64[a-gi-z]*)h", r"\1", isa)


class Oracle:
    """A machine without hypervisor for one ISA; `sees` runs a probe on it."""

    def __init__(
        self,
        isa: str = DEFAULT_ISA,
        misaligned: str = "trap",
        engine: str | Engine = "native",
        only: frozenset[str] | None = None,
    ) -> None:
        self.engine = open_engine(engine)
        self.hart = Hart()
        self.isa, self.misaligned = without_hypervisor(isa), misaligned
        self.image = image.build(frozenset(extensions(isa)), only)
        self.regions = Regions()
        self.finisher = _Finisher()
        self.regions.device("finisher", image.FINISHER, 0x1000, self.finisher)
        self.regions.device("mmio", image.MMIO_PAGE, 0x1000, Nothing())
        self.regions.device("no slot", image.NO_SLOT_TABLE, 0x1000, Nothing())
        self.regions.rom("read-only", image.READ_ONLY, image.READ_ONLY_SIZE)
        self.regions.ram("RAM", image.RAM, image.RAM_SIZE)
        self.regions.write(image.RAM, self.image.data)
        self.regions.write(image.READ_ONLY_UNTOUCHED, image.UNTOUCHED)

    def sees(self, entry: Entry) -> GuestSees | None:
        """Return the first exception that the probe's handler gets, or None."""
        hart, regions = self.hart, self.regions
        configure(hart, self.isa)
        reset(hart, 0, image.RAM)
        hart.time_ratio = 100
        hart.misaligned_hardware = int(self.misaligned == "hardware")
        regions.install(hart)
        self.engine.attach(hart)
        regions.write(image.LOG, bytes(image.RECORD))
        self.finisher.ended = False
        firmware = Firmware("delegates-all")
        firmware.setup(hart, entry.start)
        run_machine(self.engine, hart, firmware, LIMIT, lambda: self.finisher.ended)
        cause, epc, tval, status = memoryview(regions.read(image.LOG, image.RECORD)).cast("Q")
        if epc == 0:
            return None
        return GuestSees(cause, epc, tval, "VS" if status & MSTATUS_SPP else "VU")


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
