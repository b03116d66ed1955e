"""Assembly text of decoded instructions, from the same table that the decoder and the assembler use."""

from __future__ import annotations

import re
from collections.abc import Callable

from trapline.isa.decode import Decoded
from trapline.isa.encoding import parse
from trapline.isa.registers import F_NAMES, ROUNDING_NAMES, X_NAMES, default_rounding, fence_set
from trapline.lang.functions import Instruction
from trapline.privilege.csr_numbers import CSR_NAMES

_NAME = re.compile(r"[a-z]\w*")


def csr_name(number: int) -> str:
    """Return a CSR's name, or its number in hexadecimal."""
    return CSR_NAMES.get(number) or f"{number:#x}"


def _x(field: str) -> Callable[[dict[str, int], int | None], str]:
    return lambda fields, _: X_NAMES[fields[field]]


def _f(field: str) -> Callable[[dict[str, int], int | None], str]:
    return lambda fields, _: F_NAMES[fields[field]]


def _number(field: str) -> Callable[[dict[str, int], int | None], str]:
    return lambda fields, _: str(fields[field])


def _target(fields: dict[str, int], pc: int | None) -> str:
    if pc is None:
        return f". {'-' if fields['imm'] < 0 else '+'} {abs(fields['imm'])}"
    return f"{(pc + fields['imm']) & 0xFFFF_FFFF_FFFF_FFFF:#x}"


_OPERANDS: dict[str, Callable[[dict[str, int], int | None], str]] = {
    **{name: _x(name) for name in ("rd", "rs1", "rs2", "rs3")},
    **{f"f{name}": _f(name) for name in ("rd", "rs1", "rs2", "rs3")},
    **{name: _number(name) for name in ("imm", "uimm", "shamt")},
    "zimm": _number("rs1"),
    "target": _target,
    "upper": lambda fields, _: f"{fields['imm'] >> 12 & 0xFFFFF:#x}",
    "csr": lambda fields, _: csr_name(fields["csr"]),
    "rm": lambda fields, _: ROUNDING_NAMES.get(fields["rm"], f"rm{fields['rm']}"),
    "pred": lambda fields, _: fence_set(fields["pred"]),
    "succ": lambda fields, _: fence_set(fields["succ"]),
}


def instruction_text(instruction: Instruction, fields: dict[str, int], pc: int | None = None) -> str:
    """Return the text of one instruction with these fields; targets are absolute if pc is given."""
    mnemonic, _, operands = instruction.text.partition(" ")
    if "rm" in fields and fields["rm"] == default_rounding(mnemonic):
        operands = operands.removesuffix(", rm")
    if fields.get("aq") or fields.get("rl"):
        mnemonic += "." + "aq" * fields["aq"] + "rl" * fields["rl"]

    def spell(match: re.Match[str]) -> str:
        operand = _OPERANDS.get(match.group())
        return operand(fields, pc) if operand else match.group()

    return f"{mnemonic} {_NAME.sub(spell, operands)}".rstrip()


def text(decoded: Decoded, pc: int | None = None) -> str:
    """Return the text of a decoded instruction as it is spelled in memory (c.addi, not addi)."""
    fields = parse(decoded.spelling.pattern).extractor()(decoded.bits)
    return instruction_text(decoded.spelling, fields, pc)
