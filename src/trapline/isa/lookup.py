"""What an instruction does with its operands: which registers it writes, what memory it touches, where control goes.

For whoever looks at a decoded instruction from outside: decoder, hypervisor, firmware, trace, coverage, regions.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from trapline.lang.facts import Access, Flow
from trapline.lang.functions import INSTRUCTIONS, Instruction

if TYPE_CHECKING:
    from trapline.isa.decode import Decoded

FLOAT_EXTENSIONS = frozenset({"F", "D", "Zfh", "Zfhmin"})


def target_of(instruction: Instruction) -> str:
    """Return the mnemonic of what an instruction runs: its own, or that of the one which it abbreviates."""
    return (instruction.expands or instruction.name).split()[0]


def needs_float(instruction: Instruction) -> bool:
    """Return whether the instruction belongs to an extension of floating point."""
    names = {name for part in instruction.extension.split("&") for name in part.split("|")}
    return bool(names & FLOAT_EXTENSIONS)


def destination(decoded: Decoded) -> tuple[str, int] | None:
    """Return ("x" or "f", number) of the register that the instruction writes; x0 is none."""
    found = decoded.instruction
    if found.function is None or "rd" not in decoded.operands or "rd" not in found.operands:
        return None
    number = decoded.operands["rd"]
    if found.is_float("rd"):
        return "f", number
    return ("x", number) if number else None


def written_x(decoded: Decoded) -> int | None:
    """Return the integer register that the instruction writes, if it is not x0."""
    target = destination(decoded)
    return target[1] if target is not None and target[0] == "x" else None


def is_branch(decoded: Decoded) -> bool:
    """Return whether it is a conditional branch."""
    return decoded.instruction.flow is Flow.BRANCH


def changes_mode(instruction: Instruction) -> bool:
    """Return whether another mode follows when hardware handles it at once: ecall, sret, mret."""
    return instruction.flow is Flow.RETURN or instruction.delivered is not None


def plain_access(instruction: Instruction) -> Access | None:
    """Return the access of an integer load or store of the base instruction set, in any spelling; None for others."""
    access = instruction.access
    register = "rd" if access is not None and not access.is_store else "rs2"
    if access is None or instruction.extension != "I" or instruction.is_float(register):
        return None
    return access


def scalar_access(instruction: Instruction) -> Access | None:
    """Return the access of a load or store of one integer or floating-point register; None for others."""
    extensions = instruction.extension.replace("&", "|").split("|")
    return instruction.access if FLOAT_EXTENSIONS.union("I").issuperset(extensions) else None


@cache
def scalar_accesses() -> tuple[Instruction, ...]:
    """Return the loads and stores of one register, in the order of their declaration."""
    import_module("trapline.isa.all")
    return tuple(i for i in INSTRUCTIONS if i.function is not None and scalar_access(i) is not None)


def csr_written(decoded: Decoded) -> int | None:
    """Return the CSR that a Zicsr instruction writes, or None if it only reads."""
    if "csr" not in decoded.operands:
        return None
    always = decoded.instruction.name.startswith("csrrw")
    return decoded.operands["csr"] if always or decoded.operands["rs1"] != 0 else None
