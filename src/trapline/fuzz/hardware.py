"""What hardware gives the same programs: the kernel on a machine without hypervisor.

Where implementations may do misaligned accesses, trap, or leave them to firmware, each of the three is right, so there
are three machines.
"""

from __future__ import annotations

from collections.abc import Sequence

from trapline.engine.api import Engine, open_engine
from trapline.firmware.firmware import Firmware
from trapline.fuzz import image as layout
from trapline.fuzz.image import Image
from trapline.fuzz.target import LIMIT
from trapline.lab.firmware_names import firmware_named
from trapline.lab.probe import image as probe
from trapline.lab.probe.oracle import Nothing, run_machine, without_hypervisor
from trapline.lang.control import EXIT_STOP, leave
from trapline.lang.state import Hart
from trapline.privilege.csr import csr_write
from trapline.privilege.csr_numbers import MENVCFG, STIMECMP
from trapline.privilege.isa_string import configure
from trapline.privilege.reset import reset
from trapline.session.regions import Regions
from trapline.session.state.checkpoint import Checkpoints

NEVER = (1 << 64) - 1


class _Finisher(Nothing):
    """Ends the run at any store."""

    ended = False
    value = 0

    def store(self, hart: Hart, offset: int, size: int, value: int) -> None:
        """Notice the end."""
        self.ended, self.value = True, value
        leave(hart, EXIT_STOP)


class Hardware:
    """A machine without hypervisor. `firmware` leaves misaligned accesses to a model of firmware."""

    def __init__(
        self,
        image: Image,
        envcfg: int,
        *,
        isa: str,
        misaligned: str = "trap",
        firmware: str = "delegates-all",
        engine: str | Engine = "native",
    ) -> None:
        self.image = image
        self.engine = open_engine(engine)
        self.hart = hart = Hart()
        self.regions = regions = Regions()
        regions.written = self.engine.code_written
        self.finisher = _Finisher()
        regions.device("finisher", probe.FINISHER, 0x1000, self.finisher)
        regions.device("mmio", layout.MMIO, 0x1000, Nothing())
        regions.rom("read-only", probe.READ_ONLY, probe.READ_ONLY_SIZE)
        regions.ram("RAM", probe.RAM, probe.RAM_SIZE)
        for at, data in image.parts:
            regions.write(at, data)
        configure(hart, without_hypervisor(isa))
        reset(hart, 0, image.start)
        hart.time_ratio = 100
        hart.misaligned_hardware = int(misaligned == "hardware")
        regions.install(hart)
        self.engine.attach(hart)
        self.firmware = Firmware(firmware_named(firmware))
        self.firmware.setup(hart, image.start)
        hart.call(csr_write, MENVCFG, envcfg)
        hart.call(csr_write, STIMECMP, NEVER)  # as KVM starts a guest's: no timer is pending
        self._open()
        self._checkpoints = Checkpoints(self.engine, regions, lambda: [hart], list, (), ())
        self._checkpoints.make()

    def _open(self) -> None:
        """Change what differs before the checkpoint."""

    def _begin(self, programs: Sequence[bytes], zoo: int, begun: int = 0) -> None:
        self._checkpoints.rewind(quiet=True)
        for at, data in self.image.batch(programs, zoo, begun):
            self.regions.write(at, data)
        self.finisher.ended = False

    def log_of(self, programs: Sequence[bytes], zoo: int) -> bytes:
        """Run programs, anew behind each that ends the machine; return what the kernel noted."""
        ended, log = self.run(programs, zoo)
        begun = 0
        while not ended:
            index = int.from_bytes(self.regions.read(layout.INDEX, 8), "little")
            begun = max(begun + 1, min(index, len(programs)))
            if begun >= len(programs):
                break
            ended, rest = self.run(programs, zoo, begun)
            log = log[: begun * layout.STRIDE] + rest[begun * layout.STRIDE :]
        return log

    def run(self, programs: Sequence[bytes], zoo: int = 0, begun: int = 0) -> tuple[bool, bytes]:
        """Run programs but the first `begun`; return whether they came to the end, and what the kernel noted."""
        self._begin(programs, zoo, begun)
        limit = 5 * LIMIT + 600 * len(programs)
        run_machine(self.engine, self.hart, self.firmware, limit, lambda: self.finisher.ended)
        log = self.regions.read(layout.LOG, layout.STRIDE * len(programs))
        return self.came_to_the_end, bytes(log)

    @property
    def came_to_the_end(self) -> bool:
        """Whether the kernel has written that it is behind the last program."""
        return self.finisher.ended and self.finisher.value == layout.END
