"""The target description: which registers a hart has, and their numbers (GDB manual, RISC-V Features)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trapline.isa.registers import F_NAMES, X_NAMES
from trapline.privilege.csr_table import ROWS

if TYPE_CHECKING:
    from trapline.lang.state import Hart

PC, FIRST_F, FIRST_CSR = 32, 33, 65  # gdb's own numbers
PRIV, VIRT = FIRST_CSR + 4096, FIRST_CSR + 4096 + 1000  # the second is ours
FIRST_DWARF_F = 32  # DWARF's number of ft0 (RISC-V ELF psABI), which lldb asks for
_FLOAT_CSRS = (1, 2, 3)


def exists(hart: Hart, csr: int) -> bool:
    """Whether the hart has a CSR."""
    return csr in ROWS and bool(int(hart.csr_map[csr >> 6]) >> (csr & 63) & 1)


def csrs(hart: Hart) -> dict[int, str]:
    """The hart's CSRs by number."""
    return {number: row.name for number, row in sorted(ROWS.items()) if exists(hart, number)}


def numbers(hart: Hart) -> set[int]:
    """The numbers of all registers that are described."""
    floats = range(FIRST_F, FIRST_CSR) if exists(hart, 1) else ()
    return {*range(FIRST_F), *floats, PRIV, VIRT, *(FIRST_CSR + number for number in csrs(hart))}


def description(hart: Hart) -> str:
    """The XML that gdb reads as target.xml."""
    found = csrs(hart)
    cpu = [_register(name, n, kind=_X_TYPES.get(name, "int"), dwarf=n) for n, name in enumerate(X_NAMES)]
    cpu.append(_register("pc", PC, kind="code_ptr"))
    features = [_feature("cpu", cpu)]
    if 1 in found:
        floats = [
            _register(name, FIRST_F + n, kind="ieee_double", group="float", dwarf=FIRST_DWARF_F + n)
            for n, name in enumerate(F_NAMES)
        ]
        controls = [_register(found[n], FIRST_CSR + n, group="float") for n in _FLOAT_CSRS]
        features.append(_feature("fpu", floats + controls))
    rest = [_register(name, FIRST_CSR + n, group="csr") for n, name in found.items() if n not in _FLOAT_CSRS]
    features.append(_feature("csr", rest))
    modes = [_register("priv", PRIV, group="general"), _register("virt", VIRT, group="general")]
    features.append(_feature("virtual", modes))
    return (
        '<?xml version="1.0"?>\n<!DOCTYPE target SYSTEM "gdb-target.dtd">\n<target version="1.0">\n'
        f"<architecture>riscv:rv64</architecture>\n{''.join(features)}</target>\n"
    )


_X_TYPES = {"ra": "code_ptr", "sp": "data_ptr", "gp": "data_ptr", "tp": "data_ptr", "s0": "data_ptr"}


def _feature(name: str, registers: list[str]) -> str:
    return f'<feature name="org.gnu.gdb.riscv.{name}">\n{"".join(registers)}</feature>\n'


# What lldb asks of a register whose architecture it does not know: which is the pc, which the stack pointer.
_GENERIC = {"pc": "pc", "sp": "sp", "ra": "ra", "fp": "fp", **{f"a{n}": f"arg{n + 1}" for n in range(8)}}


def _register(name: str, number: int, *, kind: str = "int", group: str = "", dwarf: int | None = None) -> str:
    name = {"s0": "fp"}.get(name, name)
    debug = f' dwarf_regnum="{dwarf}" ehframe_regnum="{dwarf}"' if dwarf is not None else ""
    grouped = f' group="{group}"' if group else ""
    generic = f' generic="{_GENERIC[name]}"' if name in _GENERIC else ""
    return f'  <reg name="{name}" bitsize="64" regnum="{number}" type="{kind}"{grouped}{generic}{debug}/>\n'


def memory_map(roms: list[tuple[int, int]]) -> str:
    """Where breakpoints cannot be written into memory; all else is RAM, as addresses may be virtual."""
    parts, at = [], 0
    for base, size in sorted(roms):
        if at < base:
            parts.append(("ram", at, base - at))
        parts.append(("rom", base, size))
        at = base + size
    parts.append(("ram", at, (1 << 64) - 1 - at))
    rows = "".join(f'<memory type="{kind}" start="{base:#x}" length="{size:#x}"/>\n' for kind, base, size in parts)
    return f'<?xml version="1.0"?>\n<memory-map>\n{rows}</memory-map>\n'
