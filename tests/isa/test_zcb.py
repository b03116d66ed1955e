"""Zcb: encodings as in the specification's tables (and in Spike's list), expansions, the switch."""

from __future__ import annotations

import pytest

from trapline.isa.assemble import encode_line
from trapline.isa.decode import Decoder

ENABLED = {"I", "M", "C", "Zcb", "Zba", "Zbb"}

# The encoding with all registers x8 and offset 0, and what it expands to.
FORMS = {
    "c.lbu s0, 0(s0)": (0x8000, "lbu"),
    "c.lhu s0, 0(s0)": (0x8400, "lhu"),
    "c.lh s0, 0(s0)": (0x8440, "lh"),
    "c.sb s0, 0(s0)": (0x8800, "sb"),
    "c.sh s0, 0(s0)": (0x8C00, "sh"),
    "c.mul s0, s0": (0x9C41, "mul"),
    "c.zext.b s0": (0x9C61, "andi"),
    "c.sext.b s0": (0x9C65, "sext.b"),
    "c.zext.h s0": (0x9C69, "zext.h"),
    "c.sext.h s0": (0x9C6D, "sext.h"),
    "c.zext.w s0": (0x9C71, "add.uw"),
    "c.not s0": (0x9C75, "xori"),
}


@pytest.mark.parametrize("line", FORMS)
def test_encoding_and_expansion(line: str) -> None:
    """Each form has the specified bits, stands for its 32-bit instruction, and is illegal without Zcb."""
    bits, expansion = FORMS[line]
    assert encode_line(line) == bits
    found = Decoder(ENABLED).decode(bits)
    assert found is not None
    assert (found.spelling.name, found.instruction.name) == (line.split()[0], expansion)
    assert Decoder(ENABLED - {"Zcb"}).decode(bits) is None


def test_offsets() -> None:
    """Byte accesses reach offsets 0 to 3 with swapped bits, halfword ones 0 and 2."""
    decoder = Decoder(ENABLED)
    for line, offsets in (("c.lbu a0, {}(a1)", range(4)), ("c.sb a0, {}(a1)", range(4)), ("c.lh a0, {}(a1)", (0, 2))):
        for offset in offsets:
            found = decoder.decode(encode_line(line.format(offset)))
            assert found is not None
            assert found.operands["imm"] == offset
    assert encode_line("c.lbu s0, 1(s0)") == 0x8000 | 1 << 6
    assert encode_line("c.lbu s0, 2(s0)") == 0x8000 | 1 << 5
