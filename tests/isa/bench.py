"""A hart with a little RAM that runs single lines of assembly."""

from __future__ import annotations

import ctypes

from trapline.engine.reference import ReferenceEngine
from trapline.isa.assemble import assemble
from trapline.lang.state import Hart
from trapline.privilege.isa_string import DEFAULT_ISA, configure
from trapline.privilege.reset import reset

RAM, RAM_SIZE = 0x8000_0000, 0x4000
DATA = RAM + 0x2000


class Bench:
    """One hart in M-mode on the reference engine; code at RAM, data at DATA."""

    def __init__(self, isa: str = DEFAULT_ISA) -> None:
        self.memory = ctypes.create_string_buffer(RAM_SIZE + 4096)
        self.host = -(-ctypes.addressof(self.memory) // 4096) * 4096
        self.hart = hart = Hart()
        configure(hart, isa)
        reset(hart, 0, RAM)
        hart.region_count = 1
        hart.region_base[0], hart.region_size[0] = RAM, RAM_SIZE
        hart.region_host[0], hart.region_kind[0] = self.host, 1
        self.engine = ReferenceEngine()
        self.engine.attach(hart)

    def run(self, source: str) -> None:
        """Assemble `source` at RAM and run as many instructions as it has, from its start."""
        code = assemble(source, RAM)
        ctypes.memmove(self.host, code, len(code))
        self.hart.pc = RAM
        while RAM <= self.hart.pc < RAM + len(code):
            self.engine.step(self.hart)

    def word(self, address: int = DATA) -> int:
        """Return eight bytes of memory."""
        return ctypes.c_uint64.from_address(self.host + address - RAM).value

    def put(self, value: int, address: int = DATA) -> None:
        """Set eight bytes of memory."""
        ctypes.c_uint64.from_address(self.host + address - RAM).value = value
