"""Encoding patterns: how the bits of an instruction are written down beside its meaning.

A pattern lists an instruction's fields from the most significant bit, separated by spaces:

- `0110`: fixed bits;
- `rd rs1 rs2 rs3`: a register number, 5 bits; `rd' rs1' rs2'`: the three-bit register numbers of the
  C extension, which stand for x8..x15 and f8..f15;
- `rm` (3 bits), `csr` (12), `aq` and `rl` (1), `fm`, `pred` and `succ` (4): fields of fixed width;
- `imm[11:0]`, `imm[12|10:5]`, `uimm[5]`, `shamt[4:0]`: slices of a value; unnamed low bits are 0.
  `imm` is sign-extended from its highest bit, all others are zero-extended.

The operands of an instruction's text are the same names, with these additions (isa.text): `frd frs1
frs2 frs3` is a floating-point register, `target` the pc-relative imm, `upper` imm without its low
twelve bits, `zimm` the number in the rs1 field.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from trapline.dataclass import dataclass

_WIDTHS = {"rd": 5, "rs1": 5, "rs2": 5, "rs3": 5, "rm": 3, "csr": 12, "aq": 1, "rl": 1, "fm": 4, "pred": 4, "succ": 4}
_SHORT_REGISTER = 8


class EncodingError(ValueError):
    """An operand does not fit its field."""


@dataclass(frozen=True, slots=True)
class Piece:
    """`width` bits of a value from bit `position`, kept in the instruction from bit `low`."""

    low: int
    width: int
    position: int


@dataclass(frozen=True, slots=True)
class Field:
    """One operand: its pieces, `top` the number of its bits, `base` what is added after extraction."""

    name: str
    pieces: tuple[Piece, ...]
    top: int
    base: int

    @property
    def signed(self) -> bool:
        """Whether the value is sign-extended from its highest bit."""
        return self.name == "imm"

    @property
    def held(self) -> int:
        """The bits of a value that the instruction can keep."""
        return sum(((1 << p.width) - 1) << p.position for p in self.pieces)

    def source(self) -> str:
        """Return a Python expression over the instruction `w` that gives the value."""
        parts = []
        for p in self.pieces:
            shift = p.low - p.position
            part = f"w>>{shift}" if shift > 0 else f"w<<{-shift}" if shift < 0 else "w"
            parts.append(f"({part}&{((1 << p.width) - 1) << p.position})")
        text = "|".join(parts)
        if self.signed:
            sign = 1 << (self.top - 1)
            return f"(({text})^{sign})-{sign}"
        return f"({text})+{self.base}" if self.base else text

    def insert(self, value: int) -> int:
        """Return the instruction's bits that keep `value`; EncodingError if they cannot."""
        raw = value - self.base
        limit = 1 << self.top
        low, high = (-limit >> 1, limit >> 1) if self.signed else (0, limit)
        if not low <= raw < high or raw % limit & ~self.held:
            raise EncodingError(f"{self.name} cannot be {value}")
        return sum((raw >> p.position & ((1 << p.width) - 1)) << p.low for p in self.pieces)


@dataclass(frozen=True, slots=True)
class Encoding:
    """A parsed pattern: instruction `w` matches if w & mask == match."""

    length: int  # bytes, 2 or 4
    mask: int
    match: int
    fields: dict[str, Field]

    def extractor(self) -> Callable[[int], dict[str, int]]:
        """Return a function from an instruction to its operands."""
        return _operands_of("{" + ",".join(f"{f.name!r}:{f.source()}" for f in self.fields.values()) + "}")

    def encode(self, operands: dict[str, int]) -> int:
        """Return the instruction with these operands; fields that are not named are 0."""
        unknown = operands.keys() - self.fields.keys()
        if unknown:
            raise EncodingError(f"no field {min(unknown)!r}")
        bits = self.match
        for name, value in operands.items():
            bits |= self.fields[name].insert(value)
        return bits


@cache
def _operands_of(source: str) -> Callable[[int], dict[str, int]]:
    made: Callable[[int], dict[str, int]] = eval(f"lambda w:{source}")
    return made


@cache
def _token(token: str) -> tuple[str, int, tuple[tuple[int, int], ...]]:
    """Return the name, the base and the (high, low) slices of a field as a pattern spells it."""
    name, bracket, rest = token.partition("[")
    if bracket:
        slices = []
        for part in rest.rstrip("]").split("|"):
            high, _, low = part.partition(":")
            slices.append((int(high), int(low or high)))
        return name, 0, tuple(slices)
    if name.endswith("'"):
        return name[:-1], _SHORT_REGISTER, ((2, 0),)
    if name not in _WIDTHS:
        raise ValueError(f"unknown field {token!r} in an encoding pattern")
    return name, 0, ((_WIDTHS[name] - 1, 0),)


@cache
def parse(pattern: str) -> Encoding:
    """Parse a pattern of 16 or 32 bits."""
    mask = match = at = 0
    pieces: dict[str, list[Piece]] = {}
    bases: dict[str, int] = {}
    for token in reversed(pattern.split()):
        if token[0] in "01":
            mask |= ((1 << len(token)) - 1) << at
            match |= int(token, 2) << at
            at += len(token)
            continue
        name, base, slices = _token(token)
        bases[name] = base
        for high, low in reversed(slices):
            pieces.setdefault(name, []).append(Piece(at, high - low + 1, low))
            at += high - low + 1
    if at not in (16, 32):
        raise ValueError(f"pattern of {at} bits: {pattern!r}")
    fields = {n: Field(n, tuple(p), max(q.position + q.width for q in p), bases[n]) for n, p in pieces.items()}
    return Encoding(at // 8, mask, match, fields)
