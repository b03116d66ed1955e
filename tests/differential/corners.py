"""Programs that run every computational instruction over operands at the edges: signs, limits, NaNs, subnormals, ties.

Each case is one instruction with one choice of immediate or rounding mode. It runs over all rows of three operands;
results and fflags are mixed into one word of the signature.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import trapline.isa.all  # noqa: F401  (declares every instruction)
from trapline.isa.assemble import assemble
from trapline.isa.decode import extension_enabled
from trapline.isa.encoding import EncodingError, parse
from trapline.lab.replay.elf_file import Part, write_elf
from trapline.lang.functions import INSTRUCTIONS, Instruction

CODE, RESULTS, TOHOST, ROWS = 0x8000_0000, 0x8040_0000, 0x8070_0000, 0x8080_0000
_ALL = (1 << 64) - 1
_TRANSFERS = ("jal", "jalr", "b", "auipc", "mret", "sret", "ecall", "ebreak", "csr", "wfi", "wrs", "fence", "sfence",
              "hfence", "sinval", "hinval", "prefetch")  # fmt: skip
_BIT_BRANCHES = {"beq", "bne", "blt", "bge", "bltu", "bgeu"}
_REGISTERS = {"rd": 13, "rs1": 10, "rs2": 11, "rs3": 12}

_BEFORE = """
    ld a0, 0(t0)
    ld a1, 8(t0)
    ld a2, 16(t0)
    fld fa0, 0(t0)
    fld fa1, 8(t0)
    fld fa2, 16(t0)
    addi a3, a2, 0
    fsgnj.d fa3, fa2, fa2
    csrwi fflags, 0
"""
_AFTER = """
    csrr a4, fflags
    xor t2, t2, a3
    mul t2, t2, s1
    xor t2, t2, a4
    mul t2, t2, s1
    fmv.x.d a3, fa3
    xor t2, t2, a3
    mul t2, t2, s1
    addi t0, t0, 24
"""


class Format:
    """A floating-point format by its widths; `draw` returns a value boxed in 64 bits, rarely badly."""

    def __init__(self, exponent: int, fraction: int) -> None:
        self.exponent, self.fraction = exponent, fraction
        self.width = 1 + exponent + fraction

    def draw(self, rng: Random) -> int:
        top, bias, kind = (1 << self.exponent) - 1, (1 << self.exponent - 1) - 1, rng.random()
        if kind < 0.3:
            exponent = rng.choice((0, 0, 1, bias, bias, top - 1, top, top))
        elif kind < 0.8:  # where conversions and sums round, overflow and underflow
            near = rng.choice((0, 0, -1, 15, 16, 31, 32, 52, 63, 64, 127, -14, -24, -126, -149))
            exponent = min(max(bias + near + rng.randrange(-2, 3), 0), top)
        else:
            exponent = rng.randrange(top + 1)
        ones = (1 << self.fraction) - 1
        fraction = rng.choice((0, 1, ones, ones ^ 1, 1 << self.fraction - 1, ones >> 1, rng.getrandbits(self.fraction)))
        if rng.random() < 0.3:
            fraction &= ones << rng.randrange(self.fraction)
        value = rng.getrandbits(1) << self.width - 1 | exponent << self.fraction | fraction
        return value | (_ALL << self.width & _ALL if rng.random() < 0.97 else rng.getrandbits(64) << self.width & _ALL)


def _integer(rng: Random) -> int:
    kind, bit = rng.random(), rng.randrange(64)
    if kind < 0.4:
        edge = rng.choice((0, 1 << 7, 1 << 15, 1 << 31, 1 << 32, 1 << 63, bit, 0x5555_5555_5555_5555))
        return edge + rng.choice((0, 1, -1)) & _ALL
    if kind < 0.6:
        return rng.choice((1 << bit, _ALL ^ 1 << bit))
    return rng.getrandbits(64) >> rng.randrange(64)


DRAWS: tuple[Callable[[Random], int], ...] = (_integer, Format(11, 52).draw, Format(8, 23).draw, Format(5, 10).draw)
_FORMATS = {"d": 1, "s": 2, "w": 2, "h": 3}


def _table(i: Instruction) -> int:
    """Return which table of operands an instruction reads."""
    if not i.name.startswith("f"):
        return 0
    parts = i.name.split(".")
    if parts[0] == "fmv":
        return 0 if parts[-1] == "x" else _FORMATS[parts[-1]]
    return _FORMATS.get(parts[2] if parts[0] == "fcvt" else parts[-1], 0)


def cases(enabled: set[str], rng: Random) -> list[tuple[Instruction, bytes]]:
    """Return instructions with their bytes: five rounding modes, six immediates."""
    found = []
    for i in INSTRUCTIONS:
        target = (i.expands or i.name).split()[0]
        if not extension_enabled(i.extension, enabled) or "(" in i.text or target in _BIT_BRANCHES:
            continue
        if target.startswith(_TRANSFERS) and not target.startswith(("bset", "bclr", "binv", "bext", "brev")):
            continue
        encoding = parse(i.pattern)
        if "sp" in i.text.split(",")[0] or "ra" in i.text:
            continue
        if i.expands and "rd" not in encoding.fields:
            continue
        for choice in range(5 if "rm" in encoding.fields else 6 if encoding.fields.keys() - _REGISTERS.keys() else 1):
            operands = {}
            for name, place in encoding.fields.items():
                bits = rng.getrandbits(place.top) & place.held
                signed = bits - (1 << place.top) if place.signed and bits >> place.top - 1 else bits
                operands[name] = choice if name == "rm" else _REGISTERS.get(name, signed)
            try:
                code = encoding.encode(operands)
            except EncodingError:
                continue
            if i.where is None or i.where(operands):
                found.append((i, code.to_bytes(encoding.length, "little")))
    return found


def program(found: list[tuple[Instruction, bytes]], rows: int, rng: Random) -> bytes:
    """Return the ELF that runs the cases over so many rows of operands of each kind."""
    code = bytearray(
        assemble(
            f"    li t0, 0x6000\n    csrs mstatus, t0\n    li s0, {RESULTS}\n    li s1, 0x9e3779b97f4a7c15\n", CODE
        )
    )
    before, after = assemble(_BEFORE, CODE), assemble(_AFTER, CODE)
    for i, bits in found:
        table = ROWS + _table(i) * rows * 24
        code += assemble(f"    li t0, {table}\n    li t1, {table + rows * 24}\n    li t2, 0\n", CODE)
        body = before + bits + after if len(bits) == 4 else before + bits + b"\1\0" + after  # c.nop keeps it aligned
        back = assemble(f"start:\n    .zero {len(body)}\n    bne t0, t1, start\n", CODE)[len(body) :]
        code += body + back + assemble("    sd t2, 0(s0)\n    addi s0, s0, 8\n", CODE)
    code += assemble(f"    li t0, {TOHOST}\n    li t1, 1\n    sd t1, 0(t0)\nend:\n    j end\n", CODE)
    operands = b"".join(draw(rng).to_bytes(8, "little") for draw in DRAWS for _ in range(rows * 3))
    size = (8 * len(found) + 15) // 16 * 16
    symbols = {"tohost": TOHOST, "fromhost": TOHOST + 64, "begin_signature": RESULTS, "end_signature": RESULTS + size}
    return write_elf((Part(CODE, bytes(code)), Part(RESULTS, bytes(size)), Part(ROWS, operands)), symbols, CODE)
