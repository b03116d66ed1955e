"""Every 16-bit encoding and many 32-bit ones end as on Spike, those that no extension defines too."""

from __future__ import annotations

from random import Random

import bit_patterns
import pytest

from trapline.isa.decode import Decoder
from trapline.lang.state import Hart
from trapline.privilege.isa_string import DEFAULT_ISA, configure
from trapline.verify import lockstep, spike

OPCODES = (0x03, 0x07, 0x0B, 0x0F, 0x13, 0x1B, 0x23, 0x27, 0x2F, 0x33, 0x3B, 0x43, 0x47, 0x4B, 0x4F, 0x53, 0x57, 0x5B,
           0x63, 0x67, 0x73, 0x77)  # fmt: skip
FUNCT7 = (0, 1, 4, 5, 7, 8, 9, 0x10, 0x14, 0x20, 0x21, 0x22, 0x24, 0x2C, 0x2D, 0x30, 0x34, 0x42, 0x44, 0x50, 0x51,
          0x60, 0x61, 0x68, 0x69, 0x6A, 0x70, 0x71, 0x78, 0x79, 0x7A)  # fmt: skip
WORDS = 30_000
JUMPS = {"jal", "beq", "bne", "blt", "bge", "bltu", "bgeu", "c.j", "c.beqz", "c.bnez"}


def _words() -> list[int]:
    rng = Random(1)
    found = []
    for _ in range(WORDS):
        bits = rng.getrandbits(32) | 3
        if rng.random() < 0.9:
            bits = bits & ~0x7F | rng.choice(OPCODES)
        if rng.random() < 0.5:
            bits = bits & ~(0x7F << 25) | rng.choice(FUNCT7) << 25
        found.append(bits)
    return found


@pytest.mark.skipif(spike.find_spike() is None, reason="spike is not installed")
@pytest.mark.parametrize("kind", ["compressed", "words"])
def test_bit_patterns(kind: str) -> None:
    """Executed in U-mode, each leaves the same registers, memory, flags, cause, value and place of its trap."""
    hart = Hart()
    configure(hart, DEFAULT_ISA)
    decoder = Decoder(hart)

    def ends(bits: int) -> bool:
        """Whether it is no jump to itself."""
        found = decoder.decode(bits)
        return found is None or found.operands.get("imm") != 0 or found.instruction.name not in JUMPS

    patterns = _words() if kind == "words" else [b for b in range(1, 1 << 16) if b & 3 != 3]
    patterns = [b for b in patterns if ends(b)]
    elf = bit_patterns.program(patterns)
    machine = lockstep.make_machine(elf, DEFAULT_ISA, "native", htif=True)
    assert machine.run(max_instructions=100_000_000).reason == "exit"
    ours = memoryview(bytes(machine.regions.read(bit_patterns.RESULTS, 8 * len(patterns)))).cast("Q")
    theirs = memoryview(spike.signature(elf, DEFAULT_ISA)).cast("Q")
    differing = [hex(b) for b, here, there in zip(patterns, ours, theirs, strict=False) if here != there]
    assert not differing
