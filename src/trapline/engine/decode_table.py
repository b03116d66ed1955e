"""The instruction table as words in memory, for the decoder in native code (engine.decode_block).

Made from what `isa.decode` and `engine.code.pack` are made from, for one set of extensions: a bucket
holds entries, an entry says which bits it matches, which handler runs and how its record is put together.
"""

from __future__ import annotations

import ctypes
import mmap
from array import array
from functools import cache
from typing import TYPE_CHECKING

from trapline.engine.compiler_names import plain_index
from trapline.engine.kept_tables import Words, keep_words, kept_plain, known_words
from trapline.engine.records import (
    ACCESS,
    ACCESS_FLOAT,
    ACCESS_NOTHING,
    ACCESS_SHIFT,
    ACCESS_SIGNED,
    ACCESS_SP,
    ACCESS_STORE,
    ACCESS_ZCB,
    AT_ODD,
    AT_PAIRS,
    AT_STRADDLE,
    AT_UNDECODED,
    AT_UNDEFINED,
    BACKWARD,
    BRANCH,
    ENDS,
    ENTRY_WORDS,
    FLAGS,
    FORWARD,
    HANDLER,
    HEAD,
    IMMEDIATE,
    IMMEDIATE_PIECES,
    KEY,
    MAX_PIECES,
    NUMBER,
    OPERAND_BIT,
    PAIR_SLOTS,
    REFUSED,
    REFUSED_2,
    REGISTER_PIECES,
    REGISTERS,
    SIGN_SHIFT,
    SINK,
    SPECIAL,
    STEP_BIT,
    STEP_SHIFT,
)
from trapline.isa.decode import Decoder, declare, expansion
from trapline.isa.encoding import Encoding, Field
from trapline.isa.lookup import scalar_access, scalar_accesses
from trapline.lang.facts import Flow, Kind
from trapline.lang.functions import INSTRUCTIONS
from trapline.lang.host_pages import anonymous

if TYPE_CHECKING:
    from trapline.lang.functions import Instruction

NEVER = 1 << 32  # mask 0, match 1
# After these nothing follows in a straight line.
ENDING = frozenset({Flow.JUMP, Flow.RETURN})
IMMEDIATES = ("imm", "uimm", "shamt", "csr", "rm")


_shared: dict[tuple[frozenset[str], int, int], tuple[int, mmap.mmap]] = {}


def shared(decoder: Decoder, symbols: dict[str, int], steps: dict[tuple[str, int], int]) -> tuple[int, mmap.mmap]:
    """Return the table of `build`: one for all stores with these extensions in this image, since nobody writes it."""
    key = frozenset(decoder.enabled), symbols.get("h.undecoded", 0), len(INSTRUCTIONS)
    if key not in _shared:
        _shared[key] = build(decoder, symbols, steps)
    return _shared[key]


def build(decoder: Decoder, symbols: dict[str, int], steps: dict[tuple[str, int], int]) -> tuple[int, mmap.mmap]:
    """Return the address of the table for a decoder and the memory that holds it.

    Without `symbols` the entries have no handlers: for looking instructions up in the reference engine.
    """
    image = min(symbols.values(), default=0)
    name = " ".join(sorted(decoder.enabled))
    found = known_words(name) if symbols else None
    if found is None:
        found = _Table(image).made(decoder, symbols, steps)
        if symbols:
            keep_words(name, found)
    words, of_table, of_image = (array(code, data) for code, data in zip("QLL", found, strict=True))
    pairs = pair_words(symbols)
    memory = anonymous(-(-(len(words) + len(pairs)) * 8 // 4096) * 4096)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for at in of_table:
        words[at] += base
    for at in of_image:
        words[at] += image
    # The order of the pairs follows from the addresses.
    words[AT_PAIRS] = base + len(words) * 8
    memory[: (len(words) + len(pairs)) * 8] = words.tobytes() + pairs.tobytes()
    return base, memory


class _Table:
    """The words of a table before it has an address, of handlers of an image that has none: see kept_tables.Words."""

    def __init__(self, image: int) -> None:
        self._image = image
        self._words = array("Q", bytes(HEAD * 8))
        self._of_table, self._of_image = array("L"), array("L")

    def made(self, decoder: Decoder, symbols: dict[str, int], steps: dict[tuple[str, int], int]) -> Words:
        buckets = decoder.candidates()
        words = self._words
        for at, name in ((AT_UNDECODED, "undecoded"), (AT_UNDEFINED, "undefined"), (AT_STRADDLE, "straddle")):
            self._handler(at, symbols.get(f"h.{name}", 0))
        words[AT_ODD] = 0 if "C" in decoder.enabled else 2
        specials = {}
        for name, found in special_handlers(symbols).items():
            specials[name] = len(words)
            for number, address in found:
                words.extend((number, 0))
                self._handler(len(words) - 1, address)
            words.append((1 << 64) - 1)
        where = {}
        for instruction, encoding in {id(i): (i, e) for bucket in buckets for i, e in bucket}.values():
            where[id(instruction)] = at = len(words)
            words.extend(entry(instruction, encoding, symbols, steps, specials))
            for place in (HANDLER, FORWARD, BACKWARD):
                self._handler(at + place, words[at + place])
            if words[at + SPECIAL]:
                self._place(at + SPECIAL, words[at + SPECIAL])
        for number, bucket in enumerate(buckets):
            self._place(number, len(words))
            for instruction, _ in bucket:
                words.append(0)
                self._place(len(words) - 1, where[id(instruction)])
            words.append(0)
        return words.tobytes(), self._of_table.tobytes(), self._of_image.tobytes()

    def _place(self, at: int, where: int) -> None:
        """The address of a word of the table."""
        self._words[at] = where * 8
        self._of_table.append(at)

    def _handler(self, at: int, address: int) -> None:
        """The address of a handler, 0: none."""
        self._words[at] = max(address - self._image, 0)
        if address:
            self._of_image.append(at)


def entry(
    instruction: Instruction,
    encoding: Encoding,
    symbols: dict[str, int],
    steps: dict[tuple[str, int], int],
    specials: dict[str, int],
) -> list[int]:
    """The words of one encoding."""
    words = [0] * ENTRY_WORDS
    words[KEY] = encoding.mask | encoding.match << 32
    words[REFUSED], words[REFUSED_2] = refused(instruction, encoding)
    target, given = instruction, {name: name for name in encoding.fields}
    if instruction.expands is not None:
        target, given = expansion(instruction.expands)  # type: ignore[assignment]
    words[NUMBER] = number_of(instruction)
    words[ACCESS] = access_word(instruction, target)
    if target.function is None:
        words[FLAGS] |= ENDS
        words[HANDLER] = symbols.get("h.undefined", 0)
        return words
    name = f"{target.name}_{encoding.length}"
    words[FLAGS] |= ENDS if target.flow in ENDING else 0
    words[HANDLER] = symbols.get(f"h.{name}") or symbols.get(f"s.{name}", 0)
    words[SPECIAL] = specials.get(name, 0)
    if (step := steps.get((target.name, encoding.length))) is not None:
        words[FLAGS] |= BRANCH | step << STEP_SHIFT
        words[FORWARD], words[BACKWARD] = symbols.get(f"h.{name}f", 0), symbols.get(f"h.{name}b", 0)
    operands(words, encoding, target, given)
    return words


@cache
def _numbers(declared: int) -> dict[int, int]:
    return {id(instruction): n for n, instruction in enumerate(INSTRUCTIONS)}


def number_of(instruction: Instruction) -> int:
    """The place of an instruction in the table of all."""
    return _numbers(len(INSTRUCTIONS))[id(instruction)]


def _all_numbers() -> dict[str, list[int]]:
    declare()
    found: dict[str, list[int]] = {}
    for n, instruction in enumerate(INSTRUCTIONS):
        found.setdefault(instruction.name, []).append(n)
    return found


def numbers_of(name: str) -> list[int]:
    """The places of the instructions of this name in the table of all."""
    numbers: dict[str, list[int]] = kept_plain("numbers", _all_numbers)
    return numbers.get(name, [])


def scalar_names() -> list[str]:
    """The names of isa.lookup.scalar_accesses."""
    return kept_plain("scalars", lambda: [i.name for i in scalar_accesses()])  # type: ignore[no-any-return]


def access_word(spelling: Instruction, target: Instruction) -> int:
    """What a load or store of one register, or a cache operation, does; 0 for all others."""
    if target.access is not None and target.access.kind is Kind.MANAGE:
        return 1 | ACCESS_NOTHING
    access = scalar_access(target)
    if access is None:
        return 0
    word = access.size | scalar_accesses().index(target) + 1 << ACCESS_SHIFT
    word |= ACCESS_STORE if access.is_store else 0
    word |= ACCESS_SIGNED if access.signed else 0
    word |= ACCESS_SP if spelling.name in ("c.swsp", "c.sdsp") else 0
    word |= ACCESS_FLOAT if target.is_float("rs2" if access.is_store else "rd") else 0
    return word | (ACCESS_ZCB if spelling.extension.startswith("Zcb") else 0)


def operands(words: list[int], encoding: Encoding, target: Instruction, given: dict[str, str] | dict[str, int]) -> None:
    """How the record's operands are put together: constants and pieces of the instruction."""
    pieces = []
    for number, (name, shift) in enumerate(OPERAND_BIT.items()):
        value: str | int = given.get(name, 0)
        if isinstance(value, int):
            words[REGISTERS] |= value << shift
        else:
            (piece,), base = encoding.fields[value].pieces, encoding.fields[value].base
            words[REGISTERS] |= base << shift
            words[REGISTER_PIECES + number] = piece_word(piece.low, piece.width, shift)
    if "rd" in given and not target.is_float("rd"):
        words[FLAGS] |= SINK
    chosen = next((n for n in IMMEDIATES if n in given and n in target.operands), None)
    immediate: str | int = given[chosen] if chosen is not None else 0
    if isinstance(immediate, int):
        words[IMMEDIATE] = immediate & (1 << 64) - 1
    else:
        field = encoding.fields[immediate]
        pieces = [piece_word(p.low, p.width, p.position) for p in field.pieces]
        words[FLAGS] |= (field.top if field.signed else 0) << SIGN_SHIFT
    if "rs3" in target.operands:
        pieces += [piece_word(p.low, p.width, 8) for p in encoding.fields["rs3"].pieces]
    if len(pieces) > MAX_PIECES:
        raise ValueError(f"{target.name}: an immediate of {len(pieces)} pieces has no place in the table")
    words[IMMEDIATE_PIECES : IMMEDIATE_PIECES + len(pieces)] = pieces


def piece_word(low: int, width: int, position: int) -> int:
    """`width` bits of the instruction from bit `low`, moved to `position`."""
    return low | position << 8 | ((1 << width) - 1) << 32


def refused(instruction: Instruction, encoding: Encoding) -> tuple[int, int]:
    """The encodings that `where` refuses, as at most two (mask, value) of single fields."""
    if instruction.where is None:
        return NEVER, NEVER
    found = []
    extract = encoding.extractor()
    usual = extract(encoding.match | ~encoding.mask & (0xFFFF if encoding.length == 2 else 0xFFFF_FFFF))
    for field in encoding.fields.values():
        for value in range(1 << sum(p.width for p in field.pieces)):
            bits = spread(field, value)
            if not instruction.where({**usual, field.name: extract(bits)[field.name]}):
                found.append(field_mask(field) | bits << 32)
    if len(found) > 2:
        raise ValueError(f"{instruction.name}: {len(found)} values that `where` refuses have no place in the table")
    first, second = (*found, NEVER, NEVER)[:2]
    return first, second


def field_mask(field: Field) -> int:
    """The instruction bits of a field."""
    return sum(((1 << p.width) - 1) << p.low for p in field.pieces)


def spread(field: Field, number: int) -> int:
    """Deal the bits of a number out to the instruction bits of a field."""
    bits = 0
    for p in field.pieces:
        bits |= (number & (1 << p.width) - 1) << p.low
        number >>= p.width
    return bits


def special_handlers(symbols: dict[str, int]) -> dict[str, list[tuple[int, int]]]:
    """Handlers for one CSR: by handler name a list of (CSR number, bit 16 set if rs1 must be x0) and address."""
    found: dict[str, list[tuple[int, int]]] = {}
    for name, address in symbols.items():
        plain, at, csr = name.removeprefix("h.").partition("@")
        if at and name.startswith("h."):
            only_read = csr.endswith("r")
            found.setdefault(plain, []).append((int(csr.removesuffix("r"), 16) | only_read << 16, address))
    return found


def pair_hash(first: int, second: int) -> int:
    """The slot at which the search for a pair of handlers starts."""
    mixed = (first * 31 + second) & (1 << 64) - 1
    return (mixed >> 4 ^ mixed >> 15) & PAIR_SLOTS - 1


def pair_words(symbols: dict[str, int]) -> array[int]:
    """The hash table of fused pairs: four words a slot; a first word of 0 is empty."""
    words = array("Q", bytes(PAIR_SLOTS * 4 * 8))
    for (first, second), (both, bits) in fused_handlers(symbols).items():
        slot = pair_hash(first, second)
        while words[slot * 4] != 0:
            slot = (slot + 1) & PAIR_SLOTS - 1
        words[slot * 4 : slot * 4 + 4] = array("Q", (first, second, both, bits))
    return words


def fused_handlers(symbols: dict[str, int]) -> dict[tuple[int, int], tuple[int, int]]:
    """For two neighbours' handlers: the handler of both, and the operand bits by which a single step parts them."""
    found = {}
    numbers = plain_index()
    for name, address in symbols.items():
        first, plus, second = name.partition("+")
        if plus:
            found[symbols[first], symbols[f"h.{second}"]] = address, numbers[first[2:]] << STEP_BIT
    return found
