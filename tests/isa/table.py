"""The instruction table as the tests walk it: every extension on, and random encodings of an instruction."""

from __future__ import annotations

import random

import trapline.isa.all  # noqa: F401  (declares every instruction)
from trapline.isa.decode import Decoder
from trapline.isa.encoding import parse
from trapline.lang.functions import INSTRUCTIONS as DECLARED
from trapline.lang.functions import Instruction
from trapline.privilege.csr_numbers import CSR_NAMES

# All but Zcb, which the binutils that these tests compare with do not know (see test_zcb.py).
INSTRUCTIONS = [i for i in DECLARED if not i.extension.startswith("Zcb")]
EVERYTHING = frozenset(name for i in INSTRUCTIONS for part in i.extension.split("&") for name in part.split("|"))
DECODER = Decoder(EVERYTHING)
ROUNDINGS = (0, 1, 2, 3, 4, 7)


def random_encodings(instruction: Instruction, count: int, seed: int = 0) -> list[int]:
    """Return legal encodings with random operands, without reserved values that have no text."""
    source = random.Random(f"{instruction.name}{seed}")
    encoding = parse(instruction.pattern)
    extract = encoding.extractor()
    free = ~encoding.mask & ((1 << 8 * encoding.length) - 1)
    found = []
    for _ in range(count):
        fields = extract(encoding.match | source.getrandbits(32) & free)
        if "rm" in fields:
            fields["rm"] = source.choice(ROUNDINGS)
        if "csr" in fields:
            fields["csr"] = source.choice(list(CSR_NAMES))
        if "fm" in fields:
            fields.update(fm=0, rd=0, rs1=0, pred=source.randrange(1, 16), succ=source.randrange(1, 16))
        if instruction.name == "fence.i":
            fields.update(imm=0, rd=0, rs1=0)
        bits = encoding.encode(fields)
        decoded = DECODER.decode(bits)
        if decoded is not None and decoded.spelling is instruction:
            found.append(bits)
    return found
