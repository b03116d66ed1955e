"""From bits to instructions. Decoding depends on the bits and the extensions only, never on the mode.

A decoder keeps the enabled instructions in buckets by major opcode and funct3, in each bucket by mask
(most fixed bits first, so that a hint with a name of its own precedes the instruction it hides in).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache, cached_property
from importlib import import_module

from trapline.isa.encoding import Encoding, parse
from trapline.lang.functions import INSTRUCTIONS, Instruction
from trapline.lang.state import Hart

_MEMO_LIMIT = 1 << 16

# Extensions that a hart has a switch for, has_ and the name. "I" is always there.
_SWITCHED = (
    "M A F D C Zcb H S U Zfh Zfhmin Zicsr Zifencei Zicbom "
    "Zicboz Zicbop Zawrs Zicond Zba Zbb Zbc Zbs Zbkb Zbkc Zbkx Svinval"
).split()


def declare() -> None:
    """Import every instruction: most starts find what they need in tables that are kept."""
    import_module("trapline.isa.all")


def enabled_extensions(hart: Hart) -> set[str]:
    """Return the names, as in the ISA string, of the extensions that are switched on."""
    return {"I"} | {name for name in _SWITCHED if getattr(hart, f"has_{name.lower()}") != 0}


def extension_enabled(expression: str, enabled: Iterable[str]) -> bool:
    """Return whether an instruction's extension expression ("Zbb|Zbkb", "C&D") holds."""
    return all(any(name in enabled for name in part.split("|")) for part in expression.split("&"))


@cache
def by_name(name: str) -> Instruction:
    """Return the instruction of this mnemonic (KeyError if there is none)."""
    declare()
    for instruction in INSTRUCTIONS:
        if instruction.name == name:
            return instruction
    raise KeyError(name)


class Decoded:
    """One decoded instruction.

    `instruction` has the meaning and `operands` its fields (imm is a signed int); `length` is 2 or 4;
    `spelling` is the compressed instruction that was found, or `instruction` itself.
    """

    __slots__ = ("bits", "instruction", "length", "operands", "spelling")

    def __init__(self, bits: int, instruction: Instruction, spelling: Instruction, operands: dict[str, int]) -> None:
        self.bits = bits
        self.instruction = instruction
        self.spelling = spelling
        self.operands = operands
        self.length = 4 if bits & 3 == 3 else 2

    def __repr__(self) -> str:
        return f"<Decoded {self.bits:#x} {self.spelling.name} {self.operands}>"


def encode(mnemonic: str, **operands: int) -> int:
    """Return the bits of an instruction; fields that are not named are 0."""
    return parse(by_name(mnemonic).pattern).encode(operands)


def expanded_bits(decoded: Decoded) -> int:
    """Return the 32-bit encoding of what a decoded instruction runs."""
    return decoded.bits if decoded.length == 4 else parse(decoded.instruction.pattern).encode(decoded.operands)


@cache
def expansion(expands: str) -> tuple[Instruction, dict[str, str | int]]:
    """Return the target of a compressed instruction, and for each operand of it a field's name or a number."""
    name, _, rest = expands.partition(" ")
    given: dict[str, str | int] = {}
    for part in filter(None, (p.strip() for p in rest.split(","))):
        field, _, value = part.partition("=")
        given[field] = int(value) if value.lstrip("-").isdigit() else value
    return by_name(name), given


@cache
def _expansion(expands: str) -> tuple[Instruction, Callable[[dict[str, int]], dict[str, int]]]:
    """Return the target of a compressed instruction and the function from its fields to the target's."""
    target, given = expansion(expands)
    items = [
        f"{field!r}:{value}" if isinstance(value, int) else f"{field!r}:f[{value!r}]" for field, value in given.items()
    ]
    return target, eval("lambda f:{" + ",".join(items) + "}")


class _Entry:
    """An instruction in a bucket; its functions are made when it is first met."""

    __slots__ = ("encoding", "expand", "extract", "instruction", "target")

    def __init__(self, instruction: Instruction, encoding: Encoding) -> None:
        self.instruction = instruction
        self.encoding = encoding
        self.extract: Callable[[int], dict[str, int]] | None = None
        self.expand: Callable[[dict[str, int]], dict[str, int]] | None = None
        self.target = instruction

    def prepare(self) -> Callable[[int], dict[str, int]]:
        self.extract = self.encoding.extractor()
        if self.instruction.expands is not None:
            self.target, self.expand = _expansion(self.instruction.expands)
        return self.extract

    def decode(self, bits: int) -> Decoded | None:
        fields = (self.extract or self.prepare())(bits)
        where = self.instruction.where
        if where is not None and not where(fields):
            return None
        if self.expand is not None:
            fields = self.expand(fields)
        return Decoded(bits, self.target, self.instruction, fields)


_Buckets = list[list[tuple[int, dict[int, list[_Entry]]]]]


def _bucket(bits: int) -> int:
    """Bucket number: major opcode and funct3 of 32-bit instructions, quadrant and funct3 of 16-bit ones."""
    if bits & 3 == 3:
        return (bits >> 2 & 31) << 3 | bits >> 12 & 7
    return 256 + ((bits & 3) << 3 | bits >> 13 & 7)


def _numbers(encoding: Encoding) -> list[int]:
    """Return every bucket that an encoding falls into: eight if it does not fix funct3."""
    at = 12 if encoding.length == 4 else 13
    return sorted({_bucket(encoding.match | (f & ~(encoding.mask >> at)) << at) for f in range(8)})


def _add(bucket: list[tuple[int, dict[int, list[_Entry]]]], entry: _Entry) -> None:
    for mask, table in bucket:
        if mask == entry.encoding.mask:
            table.setdefault(entry.encoding.match, []).append(entry)
            return
    bucket.append((entry.encoding.mask, {entry.encoding.match: [entry]}))


@cache
def _tables(enabled: frozenset[str], declared: int) -> tuple[_Buckets, dict[int, Decoded | None]]:
    """Return the buckets and the memo of a set of extensions; all its decoders share them.

    `declared` counts the instructions: one declared later makes new tables.
    """
    buckets: _Buckets = [[] for _ in range(256 + 24)]
    allowed: dict[str, bool] = {}
    chosen: list[tuple[int, _Entry]] = []
    for instruction in INSTRUCTIONS:
        extension = instruction.extension
        if extension not in allowed:
            allowed[extension] = extension_enabled(extension, enabled)
        if allowed[extension]:
            encoding = parse(instruction.pattern)
            chosen.append((encoding.mask.bit_count(), _Entry(instruction, encoding)))
    chosen.sort(key=lambda pair: -pair[0])
    for _, entry in chosen:
        for number in _numbers(entry.encoding):
            _add(buckets[number], entry)
    return buckets, {}


class Decoder:
    """Decodes for one set of extensions (names as in the ISA string) or for a hart's."""

    def __init__(self, enabled: Iterable[str] | Hart) -> None:
        names = frozenset(enabled_extensions(enabled)) if isinstance(enabled, Hart) else frozenset(enabled)
        self.enabled: frozenset[str] = frozenset(names)

    @cached_property
    def _tables(self) -> tuple[_Buckets, dict[int, Decoded | None]]:
        declare()
        return _tables(self.enabled, len(INSTRUCTIONS))

    @cached_property
    def _buckets(self) -> _Buckets:
        return self._tables[0]

    @cached_property
    def _memo(self) -> dict[int, Decoded | None]:
        return self._tables[1]

    def candidates(self) -> list[list[tuple[Instruction, Encoding]]]:
        """Return, for each bucket number, what `search` tries and in which order."""
        return [
            [(e.instruction, e.encoding) for _, table in bucket for entries in table.values() for e in entries]
            for bucket in self._tables[0]
        ]

    def decode(self, bits: int) -> Decoded | None:
        """Return the instruction in the low 16 or 32 bits, or None: the hart raises illegal instruction."""
        bits &= 0xFFFF_FFFF if bits & 3 == 3 else 0xFFFF
        try:
            return self._memo[bits]
        except KeyError:
            pass
        if len(self._memo) >= _MEMO_LIMIT:
            self._memo.clear()
        found = self._memo[bits] = self.search(int(bits))
        return found

    def search(self, bits: int) -> Decoded | None:
        """As decode, for a caller that remembers what it needs itself."""
        for mask, table in self._buckets[_bucket(bits)]:
            for entry in table.get(bits & mask, ()):
                found = entry.decode(bits)
                if found is not None:
                    return found
        return None
