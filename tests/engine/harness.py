"""A hart with RAM and a program, under either engine."""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

from trapline.engine.native import NativeEngine
from trapline.engine.reference import ReferenceEngine
from trapline.isa.assemble import assemble
from trapline.lang.state import Hart
from trapline.privilege.isa_string import DEFAULT_ISA, configure
from trapline.privilege.reset import reset
from trapline.session.regions import Regions

BASE = 0x8000_0000
DEVICE = 0x1000_0000
SIZE = 1 << 20
ENGINES = {"native": "off", "forced": "force", "tiered": "on"}  # by what NativeEngine calls `jit`


class Recorder:
    """A device that remembers what reaches it and may raise."""

    def __init__(self) -> None:
        self.log: list[tuple[str, int, int]] = []
        self.fails: Exception | None = None

    def load(self, hart: Hart, offset: int, size: int) -> int:
        self.log.append(("load", offset, size))
        return 0x1122334455667788

    def store(self, hart: Hart, offset: int, size: int, value: int) -> None:
        if self.fails:
            raise self.fails
        self.log.append(("store", offset, value))


class Bench:
    """One hart that starts at BASE in M-mode."""

    def __init__(self, engine: str, source: str = "", *, isa: str = DEFAULT_ISA, at: int = 0) -> None:
        self.regions = Regions()
        self.regions.ram("RAM", BASE, SIZE)
        self.device = Recorder()
        self.regions.device("recorder", DEVICE, 4096, self.device)
        self.hart = Hart()
        configure(self.hart, isa)
        reset(self.hart, 0, BASE + at)
        self.regions.install(self.hart)
        self.engine: Any = ReferenceEngine() if engine == "reference" else NativeEngine(jit=ENGINES[engine])
        self.engine.attach(self.hart)
        self.regions.written = self.engine.code_written
        if source:
            self.write(BASE + at, assemble(source, BASE + at))

    def write(self, address: int, data: bytes) -> None:
        self.regions.write(address, data)

    def run(self, limit: int) -> int:
        return int(self.engine.run(self.hart, limit))

    def state(self) -> tuple[int, ...]:
        h = self.hart
        return (int(h.pc), int(h.instret), int(h.priv), int(h.mcause), int(h.mepc), *(int(h.x[i]) for i in range(32)))


__all__ = ["BASE", "DEVICE", "SIZE", "Bench", "ctypes", "mmap"]
