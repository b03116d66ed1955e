"""A hart under hosted firmware with 64 KiB of RAM, whose traps are raised by hand."""

from __future__ import annotations

import ctypes
from typing import Any

from trapline.engine.reference import ReferenceEngine
from trapline.firmware.firmware import Firmware
from trapline.firmware.models import FirmwareModel
from trapline.firmware.outcome import Outcome
from trapline.lang.state import Hart
from trapline.privilege import csr_numbers as csr
from trapline.privilege.csr import csr_write
from trapline.privilege.derived import update_derived
from trapline.privilege.isa_string import DEFAULT_ISA, configure
from trapline.privilege.modes import MACHINE, MODE_BY_NAME
from trapline.privilege.reset import reset
from trapline.privilege.trap import take_trap

RAM, SIZE = 0x8000_0000, 0x1_0000
CODE, DATA = RAM + 0x1000, RAM + 0x2000
STVEC, VSTVEC = RAM + 0x100, RAM + 0x200
HOSTED_HS = RAM
HOLE = 0x4000_0000


class Bench:
    """One hart, its firmware, its memory."""

    def __init__(self, model: str | FirmwareModel = "opensbi-1.9", isa: str = DEFAULT_ISA, **options: Any) -> None:
        self.hart = hart = Hart()
        configure(hart, isa)
        reset(hart, 0, RAM)
        self.memory = ctypes.create_string_buffer(SIZE)
        hart.region_count = 1
        hart.region_base[0], hart.region_size[0], hart.region_kind[0] = RAM, SIZE, 1
        hart.region_host[0] = ctypes.addressof(self.memory)
        hart.time_ratio = 10
        self.firmware = Firmware(model, **options)
        self.engine = ReferenceEngine()  # holds the table that the firmware looks instructions up in
        self.engine.attach(hart)
        self.firmware.setup(hart, HOSTED_HS)
        self.write(csr.STVEC, STVEC | 1)
        self.write(csr.VSTVEC, VSTVEC | 1)
        self.write(csr.HCOUNTEREN, 0xFFFF_FFFF)

    def write(self, number: int, value: int) -> None:
        """Write a CSR."""
        self.hart.call(csr_write, number, value)

    def put(self, address: int, data: bytes) -> None:
        """Write memory."""
        ctypes.memmove(ctypes.addressof(self.memory) + address - RAM, data, len(data))

    def get(self, address: int, size: int) -> bytes:
        """Read memory."""
        return self.memory.raw[address - RAM : address - RAM + size]

    def enter(self, mode: str) -> None:
        """Put the hart into a mode."""
        index = MODE_BY_NAME[mode]
        self.hart.priv, self.hart.virt = index & 3, index >> 2
        self.hart.call(update_derived)

    def trap(
        self,
        mode: str,
        cause: int,
        tval: int = 0,
        *,
        instruction: int | None = None,
        epc: int = CODE,
        tval2: int = 0,
        tinst: int = 0,
        gva: int = 0,
    ) -> Outcome | None:
        """Raise an exception in a mode; return what firmware did, or None if it never saw it."""
        if instruction is not None:
            self.put(epc, instruction.to_bytes(4 if instruction & 3 == 3 else 2, "little"))
        self.enter(mode)
        self.hart.pc = epc
        self.hart.call(take_trap, cause, epc, tval, tval2, tinst, gva)
        self.hart.pc = self.hart.next_pc
        return self.firmware.handle(self.hart) if self.hart.priv == MACHINE else None

    @property
    def mode(self) -> str:
        """Return the mode that the hart is in."""
        index = int(self.hart.priv) | int(self.hart.virt) << 2
        return next(name for name, n in MODE_BY_NAME.items() if n == index)
