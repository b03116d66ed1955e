"""A program that reads every CSR number in every mode under several settings, and writes patterns to CSRs."""

from __future__ import annotations

import trapline.isa.all  # noqa: F401  (declares every instruction)
from trapline.isa.assemble import assemble
from trapline.isa.encoding import parse
from trapline.lab.replay.elf_file import Part, write_elf
from trapline.lang.functions import INSTRUCTIONS
from trapline.privilege.csr_numbers import CSR_BY_NAME
from trapline.verify.stream_csrs import EXCLUDED, MASKED

CODE, RESULTS, TOHOST = 0x8000_0000, 0x8080_0000, 0x8070_0000
MODES = {"M": 3 << 11, "HS": 1 << 11, "U": 0, "VS": 1 << 39 | 1 << 11, "VU": 1 << 39}
_ALL = (1 << 64) - 1
_FS = 3 << 13
_TVM_TW_TSR = 7 << 20
_OFF = dict.fromkeys(("mcounteren", "hcounteren", "scounteren", "menvcfg", "henvcfg", "senvcfg", "hstatus", "mie"), 0)
_ON = {**dict.fromkeys(_OFF, _ALL), "hstatus": 0, "mie": 0}
# What the CSRs hold while the modes read: enables, and the bits of mstatus and vsstatus.
SETTINGS: tuple[tuple[dict[str, int], int], ...] = (
    (_ON, _FS),
    (_OFF, 0),
    ({**_ON, "hstatus": _TVM_TW_TSR}, _FS | _TVM_TW_TSR),
    ({**_ON, "hcounteren": 0, "henvcfg": 0, "scounteren": 0}, _FS),
    ({**_ON, "mcounteren": 0, "menvcfg": 0}, 0),
)
PATTERNS = (
    _ALL,
    0,
    0x5555_5555_5555_5555,
    0xAAAA_AAAA_AAAA_AAAA,
    1 << 63,
    0x9000_0000_0000_0FFF,
    0xA << 60,
    0xF << 60 | 1,
)
# The sweep itself hangs on these, or they stay as written.
_OWN = {"mtvec", "pmpaddr0", *(f"pmpcfg{i}" for i in range(0, 16, 2))}
_MSTATUS_KEPT = ~(1 << 17 | 1 << 3)  # never MPRV nor MIE
WRITTEN = tuple(n for n, number in CSR_BY_NAME.items() if number >> 10 != 3 and n not in EXCLUDED | _OWN)
_ENCODING = {i.name: parse(i.pattern) for i in INSTRUCTIONS if i.name in ("csrrs", "csrrw")}

# No timer, all memory for every mode, and every trap M-mode's.
ALONE = """
    li t1, 0x2004000
    li t0, -1
    sd t0, 0(t1)
    csrw stimecmp, t0
    csrw vstimecmp, t0
    csrw pmpaddr0, t0
    li t0, 0x1f
    csrw pmpcfg0, t0
    csrw medeleg, zero
    csrw mideleg, zero
    csrw mie, zero
"""
_PROLOGUE = f"""
    li t0, {CODE + 0x100}
    csrw mtvec, t0
    {ALONE}
    li s0, {RESULTS}
"""
# An ecall goes on behind it in M-mode; any other trap leaves cause and value in a0 and steps over the instruction.
_HANDLER = """
    csrr t0, mcause
    csrr t1, mepc
    addi t1, t1, 4
    csrw mepc, t1
    li t2, 8
    bltu t0, t2, other
    li t2, 12
    bltu t0, t2, call
other:
    csrr a0, mtval
    slli t0, t0, 48
    xor a0, a0, t0
    mret
call:
    li t2, 0x1800
    csrs mstatus, t2
    mret
"""


def _access(name: str, rd: int, number: int, rs1: int) -> bytes:
    return _ENCODING[name].encode({"rd": rd, "csr": number, "rs1": rs1}).to_bytes(4, "little")


class _Code:
    """Machine code that grows."""

    def __init__(self) -> None:
        self.bytes = bytearray(assemble(f"{_PROLOGUE}    li t0, {CODE + 0x200}\n    jr t0\n", CODE).ljust(0x100, b"\0"))
        self.bytes += assemble(_HANDLER, CODE + 0x100).ljust(0x100, b"\0")

    def text(self, source: str) -> None:
        self.bytes += assemble(source, CODE + len(self.bytes))

    def read(self, number: int) -> None:
        self.bytes += bytes.fromhex("13050000") + _access("csrrs", 10, number, 0)  # li a0, 0
        self.bytes += bytes.fromhex("2330a40013048400")  # sd a0, 0(s0); addi s0, s0, 8


def program() -> bytes:
    """Return the ELF; its signature holds a word for each of `places()`."""
    code = _Code()
    for csrs, status in SETTINGS:
        for name, value in csrs.items():
            code.text(f"    li t0, {value & ~MASKED.get(name, 0)}\n    csrw {name}, t0\n")
        code.text(f"    li t0, {status & _FS}\n    csrw vsstatus, t0\n")
        for mode in MODES.values():
            code.text(f"    li t0, {status | mode}\n    csrw mstatus, t0\n    auipc t0, 0\n    addi t0, t0, 16\n")
            code.text("    csrw mepc, t0\n    mret\n")
            for number in range(4096):
                code.read(number)
            code.text("    ecall\n")
    code.text(f"    li t0, {_FS}\n    csrw mstatus, t0\n    li t0, -1\n    csrw menvcfg, t0\n    csrw henvcfg, t0\n")
    for name in WRITTEN:
        number = CSR_BY_NAME[name]
        kept = _ALL & ~MASKED.get(name, 0) & (_MSTATUS_KEPT if name == "mstatus" else _ALL)
        code.bytes += _access("csrrs", 11, number, 0)
        for pattern in PATTERNS:
            code.text(f"    li t0, {pattern & kept}\n")
            code.bytes += _access("csrrw", 0, number, 5)
            code.read(number)
            code.bytes += _access("csrrw", 0, number, 11)
    code.text(f"    li t0, {TOHOST}\n    li t1, 1\n    sd t1, 0(t0)\nend:\n    j end\n")
    symbols = {
        "tohost": TOHOST,
        "fromhost": TOHOST + 64,
        "begin_signature": RESULTS,
        "end_signature": RESULTS + size(),
    }
    return write_elf((Part(CODE, bytes(code.bytes)), Part(RESULTS, bytes(size()))), symbols, CODE)


def places() -> list[str]:
    """Name what each word of the signature is."""
    names = [f"{m} reads {n:#x}, setting {s}" for s in range(len(SETTINGS)) for m in MODES for n in range(4096)]
    return names + [f"{name} after {pattern:#x}" for name in WRITTEN for pattern in PATTERNS]


def size() -> int:
    """Bytes of the signature, a multiple of 16."""
    return (8 * (len(SETTINGS) * len(MODES) * 4096 + len(WRITTEN) * len(PATTERNS)) + 15) // 16 * 16
