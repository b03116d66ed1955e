"""From a region's LLVM text to position-independent machine code."""

from __future__ import annotations

import functools
import struct
from typing import Any

from trapline.engine.emit import host_machine
from trapline.engine.link import LinkError
from trapline.lang.elf_format import R_X86_64_PC32, R_X86_64_PLT32, RELOCATION, SECTION, SHF_ALLOC, SHT_RELA, SYMBOL


@functools.cache
def keep_loops() -> None:
    """Have LLVM leave the variables of loops as they are, from now on in this process.

    Its strength reduction makes further ones for each sum of a pointer, a constant and what is counted, also where
    only a way out of the region needs it. The host adds constants for nothing, and registers are what loops lack.
    """
    import llvmlite.binding as llvm

    llvm.set_option("trapline", "-disable-lsr")


class Compiler:
    """LLVM with the passes that pay for regions."""

    def __init__(self) -> None:
        import llvmlite.binding as llvm

        self.llvm: Any = llvm
        keep_loops()
        self.machine, self.quick = host_machine(2), host_machine(1)
        self.passes = llvm.create_new_function_pass_manager()
        self.passes.add_sroa_pass()
        self.passes.add_instruction_combine_pass()
        self.passes.add_simplify_cfg_pass()
        self.passes.add_new_gvn_pass()
        self.passes.add_instruction_combine_pass()  # again: what blocks give each other is known now
        self.passes.add_dead_code_elimination_pass()

    def compile(self, text: str, *, small: bool = False) -> bytes:
        """Machine code whose first byte is the function's; that of a small region is not worth a tenth more time.

        Raises
        ------
        LinkError
            If the code needs something from outside.
        """
        module = self.llvm.parse_assembly(text, self.llvm.create_context())
        machine = self.quick if small else self.machine
        options = self.llvm.create_pipeline_tuning_options(speed_level=1)
        self.passes.run(module.get_function("region"), self.llvm.create_pass_builder(machine, options))
        return flat(machine.emit_object(module))

    def seconds(self) -> float:
        """Processor time in another process: none."""
        return 0.0


def flat(obj: bytes) -> bytes:
    """The code of a relocatable x86-64 object with its constants behind it, relocated against itself."""
    (table,) = struct.unpack_from("<Q", obj, 40)
    count, _ = struct.unpack_from("<HH", obj, 60)
    sections = [SECTION.unpack_from(obj, table + i * SECTION.size) for i in range(count)]
    names = sections[struct.unpack_from("<H", obj, 62)[0]][4]

    def name(section: tuple[int, ...]) -> bytes:
        start = names + section[0]
        return obj[start : obj.index(b"\0", start)]

    image, places = bytearray(), {}
    kept = [i for i, s in enumerate(sections) if s[2] & SHF_ALLOC and s[5] and not name(s).startswith(b".eh_frame")]
    for index in sorted(kept, key=lambda i: not name(sections[i]).startswith(b".text")):
        section = sections[index]
        image += bytes(-len(image) % max(section[8], 1))
        places[index] = len(image)
        image += obj[section[4] : section[4] + section[5]]
    for section in sections:
        if section[1] == SHT_RELA and section[7] in places:
            for at in range(section[4], section[4] + section[5], RELOCATION.size):
                relocate(
                    image, places, obj, sections[section[6]][4], places[section[7]], RELOCATION.unpack_from(obj, at)
                )
    return bytes(image)


def relocate(
    image: bytearray, places: dict[int, int], obj: bytes, symbols: int, base: int, reloc: tuple[int, int, int]
) -> None:
    """Resolve one relocation inside the image."""
    offset, info, addend = reloc
    _, _, _, section, value, _ = SYMBOL.unpack_from(obj, symbols + (info >> 32) * SYMBOL.size)
    if info & 0xFFFFFFFF not in (R_X86_64_PC32, R_X86_64_PLT32) or section not in places:
        raise LinkError("a region's code refers to something outside")
    struct.pack_into("<i", image, base + offset, places[section] + value + addend - base - offset)
