"""A two-pass assembler over the instruction table, for probes that the package encodes itself and for tests.

Instructions are 32 bits wide unless they are written as `c.` forms. Beside the mnemonics of the table there are
the pseudo-instructions of isa.pseudo, `li la lla call tail`, labels (numeric ones too: `1:`, `1b`, `1f`), comments
after `#`, statements separated by `;`, and the directives
`.byte .half .word .dword .zero .align .equ .ascii .asciz .insn`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

from trapline.isa.decode import by_name
from trapline.isa.encoding import parse
from trapline.isa.expression import UnknownSymbolError, evaluate
from trapline.isa.pseudo import PAIRS, PSEUDO, load_immediate, split_high_low
from trapline.isa.registers import F_NUMBERS, ROUNDING, X_NUMBERS, default_rounding, fence_bits
from trapline.lang.functions import Instruction
from trapline.privilege.csr_numbers import CSR_BY_NAME

_LABEL = re.compile(r"\s*([A-Za-z_.$][\w.$]*|\d+):")
_ORDERING = re.compile(r"\.(aq|rl|aqrl)$")
_DATA = {".byte": 1, ".half": 2, ".short": 2, ".word": 4, ".long": 4, ".dword": 8, ".quad": 8}
_IGNORED = frozenset({".text", ".globl", ".global", ".option", ".section", ".type", ".size"})
_NOP, _C_NOP = (0x13).to_bytes(4, "little"), (1).to_bytes(2, "little")


class AssemblyError(ValueError):
    """Source that cannot be assembled; the message names the line."""


@dataclass(slots=True)
class Program:
    """Assembled bytes, the address of the first, and the value of every symbol."""

    base: int
    code: bytes = b""
    symbols: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Statement:
    """One thing that takes space: what it is, its place, and the labels in scope around it."""

    line: int
    address: int
    size: int
    emit: Callable[[_Statement, dict[str, int]], bytes]
    arguments: tuple[str, ...] = ()


def assemble(source: str, base: int) -> bytes:
    """Return the machine code of `source` placed at `base`."""
    return assemble_program(source, base).code


def assemble_program(source: str, base: int) -> Program:
    """Return the machine code of `source` placed at `base`, with its symbols."""
    return _Assembler(base).run(source)


class _Assembler:
    def __init__(self, base: int) -> None:
        self.base = self.here = base
        self.symbols: dict[str, int] = {}
        self.local: dict[str, list[int]] = {}
        self.statements: list[_Statement] = []
        self.line = 0

    def run(self, source: str) -> Program:
        try:
            for self.line, text in enumerate(source.splitlines(), 1):
                for part in _split(_without_comment(text), ";"):
                    self.statement(part)
            parts = []
            for statement in self.statements:
                self.line = statement.line
                parts.append(statement.emit(statement, self.symbols | self.around(statement.address)))
        except (ValueError, KeyError) as error:
            message = error.args[0] if error.args else error
            raise AssemblyError(f"line {self.line}: {message}") from error
        return Program(self.base, b"".join(parts), self.symbols)

    def around(self, address: int) -> dict[str, int]:
        """Return the values of `.`, and of the numeric labels as seen from an address."""
        scope = {".": address}
        for name, places in self.local.items():
            before = [p for p in places if p <= address]
            after = [p for p in places if p > address]
            if before:
                scope[f"{name}b"] = before[-1]
            if after:
                scope[f"{name}f"] = after[0]
        return scope

    def statement(self, text: str) -> None:
        """First pass: labels and sizes."""
        while match := _LABEL.match(text):
            name = match.group(1)
            if name.isdigit():
                self.local.setdefault(name, []).append(self.here)
            elif name in self.symbols:
                raise AssemblyError(f"{name!r} is defined twice")
            else:
                self.symbols[name] = self.here
            text = text[match.end() :]
        if not text.strip():
            return
        mnemonic, _, rest = text.strip().partition(" ") if "\t" not in text else _tabbed(text)
        operands = tuple(_split(rest, ","))
        if mnemonic.startswith("."):
            self.directive(mnemonic, operands)
        else:
            self.instruction(mnemonic.lower(), operands)

    def add(self, size: int, emit: Callable[[_Statement, dict[str, int]], bytes], *arguments: str) -> None:
        self.statements.append(_Statement(self.line, self.here, size, emit, arguments))
        self.here += size

    def value(self, text: str) -> int:
        """Evaluate what the first pass must know."""
        return evaluate(text, self.symbols | self.around(self.here))

    def directive(self, name: str, operands: tuple[str, ...]) -> None:
        if name in _DATA:
            size = _DATA[name]
            self.add(size * len(operands), lambda s, symbols: _data(s.arguments, size, symbols), *operands)
        elif name in (".zero", ".skip", ".space"):
            count = self.value(operands[0])
            self.add(count, lambda s, _: bytes(s.size))
        elif name in (".align", ".p2align", ".balign"):
            unit = self.value(operands[0]) if name == ".balign" else 1 << self.value(operands[0])
            self.add(-self.here % unit, lambda s, _: _padding(s.size))
        elif name in (".equ", ".set"):
            self.symbols[operands[0]] = self.value(operands[1])
        elif name in (".ascii", ".asciz", ".string"):
            data = b"".join(ast.literal_eval("b" + text) for text in operands) + b"\0" * (name != ".ascii")
            self.add(len(data), lambda _s, _: data)
        elif name == ".insn":
            bits = self.value(operands[-1])
            size = 4 if bits & 3 == 3 else 2
            self.add(size, lambda s, _: bits.to_bytes(s.size, "little"))
        elif name not in _IGNORED:
            raise AssemblyError(f"unknown directive {name!r}")

    def instruction(self, mnemonic: str, operands: tuple[str, ...]) -> None:
        key = (mnemonic, len(operands))
        if mnemonic == "li" and len(operands) == 2:
            try:
                value = self.value(operands[1])
            except UnknownSymbolError as error:
                raise AssemblyError(f"{error} (li needs a value known here; use la)") from None
            for line in load_immediate(operands[0], value):
                self.plain(line)
        elif key in PAIRS:
            first, second = PAIRS[key]
            self.add(8, lambda s, symbols: _pair(first, second, s, symbols), *operands)
        elif key in PSEUDO:
            self.plain(PSEUDO[key].format(*operands))
        else:
            self.plain(f"{mnemonic} {','.join(operands)}")

    def plain(self, line: str) -> None:
        size = 2 if line.startswith("c.") else 4
        self.add(size, lambda s, symbols: encode_line(line, s.address, symbols).to_bytes(s.size, "little"))


def _tabbed(text: str) -> tuple[str, str, str]:
    mnemonic, *rest = text.split(None, 1)
    return mnemonic, " ", rest[0] if rest else ""


def _without_comment(text: str) -> str:
    return text if "#" not in text else "#".join(_split(text, "#", keep_empty=True)[:1])


def _split(text: str, separator: str, *, keep_empty: bool = False) -> list[str]:
    """Split outside of quotes."""
    parts = [""]
    quote = ""
    escaped = False
    for char in text:
        if quote:
            quote = "" if char == quote and not escaped else quote
            escaped = char == "\\" and not escaped
        elif char in "\"'":
            quote, escaped = char, False
        elif char == separator:
            parts.append("")
            continue
        parts[-1] += char
    return parts if keep_empty else [p.strip() for p in parts if p.strip()]


def _data(arguments: tuple[str, ...], size: int, symbols: dict[str, int]) -> bytes:
    limit = 1 << (8 * size)
    parts = []
    for text in arguments:
        value = evaluate(text, symbols)
        if not -limit // 2 <= value < limit:
            raise AssemblyError(f"{value:#x} does not fit in {size} bytes")
        parts.append((value % limit).to_bytes(size, "little"))
    return b"".join(parts)


def _padding(size: int) -> bytes:
    """Return instructions that do nothing, after a zero where code cannot be."""
    return bytes(size % 2) + _C_NOP * (size % 4 // 2) + _NOP * (size // 4)


def _pair(first: str, second: str, statement: _Statement, symbols: dict[str, int]) -> bytes:
    distance = evaluate(statement.arguments[-1], symbols) - statement.address
    if not -(1 << 31) <= distance + 0x800 < 1 << 31:
        raise AssemblyError(f"{statement.arguments[-1]} is too far away")
    high, low = split_high_low(distance)
    lines = (text.format(*statement.arguments, high=high, low=low) for text in (first, second))
    return b"".join(encode_line(line, statement.address, symbols).to_bytes(4, "little") for line in lines)


@cache
def _template(text: str) -> tuple[tuple[re.Pattern[str], tuple[str, ...]], ...]:
    """Return for each operand of an instruction's text a pattern and the names of what it captures."""
    templates = []
    for operand in filter(None, text.partition(" ")[2].split(", ")):
        names: list[str] = []
        pattern = ""
        for token in re.findall(r"\w+|\W", operand):
            if token == "sp" or not token[0].isalpha():
                pattern += rf"\s*{re.escape(token)}\s*"
            else:
                names.append(token)
                pattern += r"(.*)" if "(" in operand and len(names) == 1 and token.endswith("imm") else r"(.+)"
        if operand == "(rs1)":
            pattern = r"0?\s*" + pattern
        templates.append((re.compile(pattern), tuple(names)))
    return tuple(templates)


def _register(numbers: dict[str, int], text: str) -> int:
    try:
        return numbers[text.strip()]
    except KeyError:
        raise AssemblyError(f"not a register: {text.strip()!r}") from None


def _operand(name: str, text: str, pc: int, symbols: dict[str, int]) -> tuple[str, int]:
    """Return the field and the value that one operand of the source stands for."""
    text = text.strip()
    if name in ("rd", "rs1", "rs2", "rs3"):
        return name, _register(X_NUMBERS, text)
    if name in ("frd", "frs1", "frs2", "frs3"):
        return name[1:], _register(F_NUMBERS, text)
    if name == "rm":
        return name, ROUNDING[text] if text in ROUNDING else evaluate(text.removeprefix("rm"), {})
    if name in ("pred", "succ"):
        return name, fence_bits(text)
    if name == "csr" and text in CSR_BY_NAME:
        return name, int(CSR_BY_NAME[text])
    value = evaluate(text or "0", symbols)
    if name == "target":
        return "imm", value - pc
    if name == "upper":
        if not -(1 << 19) <= value < 1 << 20:
            raise AssemblyError(f"upper immediate out of range: {value}")
        return "imm", ((value & 0xFFFFF ^ 0x80000) - 0x80000) << 12
    return ("rs1" if name == "zimm" else name), value


def _lookup(mnemonic: str) -> tuple[Instruction, dict[str, int]]:
    """Return the instruction of a mnemonic and the fields that its suffix sets."""
    try:
        return by_name(mnemonic), {}
    except KeyError:
        pass
    ordering = _ORDERING.search(mnemonic)
    if ordering:
        try:
            found = by_name(mnemonic[: ordering.start()])
        except KeyError:
            pass
        else:
            if "aq" in parse(found.pattern).fields:
                return found, {"aq": int("aq" in ordering.group(1)), "rl": int("rl" in ordering.group(1))}
    raise AssemblyError(f"unknown instruction {mnemonic!r}")


def encode_line(line: str, pc: int = 0, symbols: dict[str, int] | None = None) -> int:
    """Return the bits of one instruction of the table, without pseudo-instructions."""
    mnemonic, _, rest = line.strip().partition(" ")
    found, fields = _lookup(mnemonic)
    templates = _template(found.text)
    operands = _split(rest, ",")
    if templates and templates[-1][1] == ("rm",) and len(operands) == len(templates) - 1:
        operands.append(str(default_rounding(found.name)))
    if len(operands) != len(templates):
        raise AssemblyError(f"{mnemonic} takes {len(templates)} operands, not {len(operands)}")
    for text, (pattern, names) in zip(operands, templates, strict=True):
        match = pattern.fullmatch(text)
        if not match:
            raise AssemblyError(f"operand {text!r} does not fit {found.text!r}")
        for name, value in zip(names, match.groups(), strict=True):
            field_name, number = _operand(name, value, pc, symbols or {})
            fields[field_name] = number
    encoding = parse(found.pattern)
    bits = encoding.encode(fields)
    if found.where is not None and not found.where(encoding.extractor()(bits)):
        raise AssemblyError(f"{line.strip()!r} is a reserved encoding")
    return bits
