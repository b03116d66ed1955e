"""Encodings and text against GNU binutils."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.isa.cross import TEXT_BASE, assemble, disassemble
from tests.isa.table import DECODER, INSTRUCTIONS, random_encodings
from trapline.isa.assemble import encode_line
from trapline.isa.decode import expanded_bits
from trapline.isa.registers import EXACT_CONVERSIONS
from trapline.isa.text import text

# Not known to binutils 2.40.
NEWER = ("czero.eqz", "czero.nez")
# Objdump names two things otherwise.
NAMED_OTHERWISE = {"c.nop": "c.addi zero,"}
ENCODINGS = 8


def normal(line: str) -> str:
    """Return text without comments and symbols, and with every number in decimal."""
    line = re.sub(r"\s*(#.*|<.*)", "", line).replace(", ", ",").replace("\t", " ").strip()

    def decimal(match: re.Match[str]) -> str:
        digits = match.group()
        return str(int(digits, 16 if len(digits) == 8 or "x" in digits else 10))

    return re.sub(r"(?<![\w.])-?(?:0x[0-9a-f]+|[0-9][0-9a-f]*)(?![\w.])", decimal, line)


def same_text(name: str, ours: str, theirs: str) -> bool:
    """Return whether two texts say the same, apart from what objdump names otherwise."""
    if name in NAMED_OTHERWISE:
        ours = ours.replace(f"{name} ", NAMED_OTHERWISE[name])
    return normal(ours) == normal(theirs)


def every_encoding() -> list[int]:
    """Return some encodings of every instruction that binutils knows."""
    codes = []
    for instruction in INSTRUCTIONS:
        if instruction.name not in NEWER:
            found = random_encodings(instruction, ENCODINGS)
            if instruction.name in EXACT_CONVERSIONS:
                found = [bits & ~0x7000 for bits in found]
            codes += found
    return codes


def test_text_is_objdumps(tmp_path: Path) -> None:
    """Every mnemonic of the table disassembles to the text that objdump prints."""
    codes = every_encoding()
    pc = TEXT_BASE
    wrong = []
    for bits, theirs in zip(codes, disassemble(codes, tmp_path), strict=True):
        decoded = DECODER.decode(bits)
        assert decoded is not None
        if not same_text(decoded.spelling.name, text(decoded, pc), theirs):
            wrong.append((hex(bits), text(decoded, pc), theirs))
        pc += decoded.length
    assert not wrong


def test_gnu_as_encodes_our_text(tmp_path: Path) -> None:
    """GNU as turns the text of every mnemonic back into the bits it came from."""
    codes = [bits for bits in every_encoding() if DECODER.decode(bits).spelling.name not in ("c.nop",)]
    # Targets stay offsets from `.`: a branch to a bare address becomes a jump around a branch.
    lines = [text(DECODER.decode(bits)) for bits in codes]
    source = "\n".join(
        f".option {'rvc' if code & 3 != 3 else 'norvc'}\n{line}" for code, line in zip(codes, lines, strict=True)
    )
    code = assemble(source + "\n", tmp_path)
    expected = b"".join(bits.to_bytes(4 if bits & 3 == 3 else 2, "little") for bits in codes)
    assert code == expected


def test_every_mnemonic_is_tested() -> None:
    """Each instruction has at least one encoding that decodes to it, so the comparisons above miss none."""
    assert [i.name for i in INSTRUCTIONS if not random_encodings(i, ENCODINGS)] == []


def test_our_assembler_reads_our_text() -> None:
    """The assembler of the package turns the text of every mnemonic back into the bits it came from."""
    for instruction in INSTRUCTIONS:
        for bits in random_encodings(instruction, ENCODINGS, seed=1):
            decoded = DECODER.decode(bits)
            assert decoded is not None
            line = text(decoded, TEXT_BASE)
            assert encode_line(line, TEXT_BASE, {}) == bits, line


def test_all_16_bit_codes_are_legal_where_objdump_says(tmp_path: Path) -> None:
    """Of all 49152 compressed encodings exactly those decode that objdump can name."""
    codes = [code for code in range(1 << 16) if code & 3 != 3]
    theirs = disassemble(codes, tmp_path)
    wrong = [
        (hex(code), line)
        for code, line in zip(codes, theirs, strict=True)
        if (DECODER.decode(code) is not None) == line.startswith((".2byte", "c.unimp"))
    ]
    # c.addi16sp with a zero immediate is reserved (C chapter); objdump prints it all the same.
    assert wrong == [("0x6101", "c.addi16sp\tsp,0")]


def test_compressed_expansions(tmp_path: Path) -> None:
    """Each compressed instruction expands to the 32-bit instruction that its objdump alias assembles to."""
    codes = [b for i in INSTRUCTIONS if i.expands for b in random_encodings(i, ENCODINGS)]
    codes = [bits for bits in codes if DECODER.decode(bits).spelling.name not in ("c.mv", "c.nop", "c.addi")]
    aliases = disassemble(codes, tmp_path, options="")
    wrong = []
    pc = TEXT_BASE
    for bits, alias in zip(codes, aliases, strict=True):
        decoded = DECODER.decode(bits)
        alias = normal(alias)
        if decoded.spelling.name in ("c.j", "c.beqz", "c.bnez"):
            head, _, address = alias.replace(" ", ",").rpartition(",")
            alias = f"{head.replace(',', ' ', 1)}{',' if ',' in head else ' '}.+({int(address) - pc})"
        wrong.append((alias, decoded))
        pc += decoded.length
    source = "".join(f".option norvc\n{alias}\n" for alias, _ in wrong)
    code = assemble(source, tmp_path)
    words = [int.from_bytes(code[i : i + 4], "little") for i in range(0, len(code), 4)]
    assert len(words) == len(codes)
    for word, (alias, decoded) in zip(words, wrong, strict=True):
        assert word == expanded_bits(decoded), (alias, text(decoded))


@pytest.mark.parametrize(
    ("bits", "line"),
    [
        (0x0EC5D533, "czero.eqz a0, a1, a2"),
        (0x0EC5F533, "czero.nez a0, a1, a2"),
        (0x8330000F, "fence.tso"),
        (0x0100000F, "pause"),
        (0x0FF0000F, "fence iorw, iorw"),
    ],
)
def test_known_encodings(bits: int, line: str) -> None:
    """Encodings written out by hand from the specification."""
    assert encode_line(line) == bits
    assert text(DECODER.decode(bits)) == line
