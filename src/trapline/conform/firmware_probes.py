"""What is put behind firmware that is asked how it treats traps: one instruction for each event, and two handlers.

Nothing is logged by the program: the board reads and writes the hart. A probe starts at its label with its registers
set; whoever gets the trap stops at `hs_handler` or `vs_handler`, and an instruction that runs, or is emulated, stops
at the label behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trapline.isa.assemble import Program, assemble_program
from trapline.privilege.pte import PTE_A, PTE_D, PTE_R, PTE_U, PTE_V, PTE_W, PTE_X
from trapline.sbi.numbers import Eid, Feature

BASE = 0x8020_0000
DATA, TABLES_AT = BASE + 0x1_0000, BASE + 0x2_0000
HOLE = 0x4000_0000  # no memory, no device
WINDOW = 64 << 30  # where supervisor code is beside pages of user code
UNMAPPED = (3 << 30) + 0x120  # in no table
WORDS = (0x8182_8384_8586_8788, 0x9192_9394_9596_9798, 0xA1A2_A3A4_A5A6_A7A8, 0, 0, 0)
STORED = 0x1122_3344_5566_7788
GUESTS, ALL = ("VS", "VU"), ("VS", "VU", "HS", "U")
_FWFT_GET, _SBI_PROBE = 1, 3


@dataclass(frozen=True, slots=True)
class Probe:
    """An event: its last instruction raises it. `paging` is satp (vsatp where V=1) or hgatp, fetched by a jump."""

    name: str
    code: str
    modes: tuple[str, ...] = ALL
    group: str = "redirect"
    registers: Mapping[str, int] = field(default_factory=dict)
    paging: str = ""
    floats: bool = True  # whether FS is on
    counters: int = 0xFFFF_FFFF  # hcounteren and scounteren


def _misaligned() -> list[Probe]:
    loads = [f"{n} a0, 0(a1)" for n in ("lh", "lhu", "lw", "lwu", "ld")] + ["c.lw a0, 4(a1)", "c.ld a0, 8(a1)"]
    stores = [f"{n} a2, 16(a1)" for n in ("sh", "sw", "sd")] + ["c.sw a2, 16(a1)", "c.sd a2, 16(a1)"]
    floats = ["flw fa0, 0(a1)", "fld fa0, 0(a1)", "c.fld fa0, 0(a1)"]
    floats += ["fsw fa1, 16(a1)", "fsd fa1, 16(a1)", "c.fsd fa1, 16(a1)"]
    atomics = ["lr.w a0, (a1)", "lr.d a0, (a1)", "sc.w a0, a2, (a1)", "amoadd.w a0, a2, (a1)", "amoswap.d a0, a2, (a1)"]
    found = [Probe(f"misaligned {c.split()[0]}", c, ALL, "misaligned") for c in (*loads, *stores, *floats, *atomics)]
    far = {"a1": HOLE + 1}
    found += [
        Probe("misaligned lw, no memory", "lw a0, 0(a1)", ALL, "misaligned", far),
        Probe("misaligned sw, no memory", "sw a2, 0(a1)", ALL, "misaligned", far),
        Probe("misaligned ld, unmapped page", "ld a0, 0(a1)", GUESTS, "misaligned", {"a1": UNMAPPED + 1}, "vsatp"),
        Probe("misaligned sd, unmapped page", "sd a2, 0(a1)", GUESTS, "misaligned", {"a1": UNMAPPED + 1}, "vsatp"),
        Probe("misaligned ld, no guest page", "ld a0, 0(a1)", GUESTS, "misaligned", {"a1": UNMAPPED + 1}, "hgatp"),
        Probe("misaligned sd, no guest page", "sd a2, 0(a1)", GUESTS, "misaligned", {"a1": UNMAPPED + 1}, "hgatp"),
    ]
    return found


def _instructions() -> list[Probe]:
    return [
        Probe("illegal", ".insn 0xffffffff"),
        Probe("illegal, 16 bits", ".half 0"),
        Probe("floating point, FS off", "fadd.d fa0, fa0, fa0", floats=False),
        Probe("csr of M", "csrr a0, mscratch"),
        Probe("csr of M, written", "csrw mscratch, a0"),
        Probe("csr, read-only written", ".insn 0xc0051073", counters=7),
        Probe("csr, unknown", ".insn 0x5c002573"),
        Probe("csr of HS", "csrr a0, hstatus", ("VS", "VU", "U")),
        Probe("csr of S", "csrr a0, sscratch", ("VU", "U")),
        Probe("mret", "mret"),
        Probe("sret", "sret", ("VU", "U")),
        Probe("wfi", "wfi", ("VU",)),
        Probe("hlv", "hlv.d a0, (a3)", GUESTS),
        Probe("hfence.gvma", "hfence.gvma", ("VS", "VU", "U")),
        Probe("rdtime", "csrr a0, time", group="counters"),
        Probe("rdcycle", "csrr a0, cycle", group="counters"),
        Probe("rdinstret", "csrr a0, instret", group="counters"),
        Probe("hpmcounter3", "csrr a0, hpmcounter3", group="counters"),
        Probe("rdtime, closed to guests", "csrr a0, time", group="counters", counters=0),
        Probe("ebreak", "ebreak"),
        Probe("ecall", "ecall", ("VS", "VU", "U")),
    ]


def _accesses() -> list[Probe]:
    hole, page = {"a1": HOLE}, {"a1": UNMAPPED}
    loads = (("load", "lw a0, 0(a1)"), ("store", "sw a2, 0(a1)"), ("fetch", "jr a1"))
    found = [Probe(f"{n}, no memory", c, ALL, "redirect", hole) for n, c in loads]
    found += [
        Probe("fetch, no memory, half a word further", "jr a1", ALL, "redirect", {"a1": HOLE + 2}),
        Probe("lr, no memory", "lr.d a0, (a1)", ALL, "redirect", hole),
        Probe("amo, no memory", "amoadd.d a0, a2, (a1)", ALL, "redirect", hole),
        Probe("fld, no memory", "fld fa0, 0(a1)", ALL, "redirect", hole),
    ]
    found += [Probe(f"{n}, unmapped page", c, ("VS", "VU", "HS", "U"), "redirect", page, "vsatp") for n, c in loads]
    return found + [Probe(f"{n}, no guest page", c, GUESTS, "redirect", page, "hgatp") for n, c in loads]


def _sbi() -> list[Probe]:
    def call(name: str, eid: int, fid: int, a0: int = 0, a1: int = 0) -> Probe:
        return Probe(name, "ecall", ("HS",), "sbi", {"a7": eid, "a6": fid, "a0": a0, "a1": a1, "a2": 0})

    base = ("spec version", "implementation", "implementation's version")
    found = [call(name, Eid.BASE, n) for n, name in enumerate(base)]
    found += [call(f"has {eid.name.lower()}", Eid.BASE, _SBI_PROBE, eid) for eid in Eid if eid is not Eid.BASE]
    found += [call(f"fwft {f.name.lower()}", Eid.FWFT, _FWFT_GET, f) for f in Feature]
    far = (1 << 64) - 1
    return [
        *found,
        call("set_timer", Eid.TIME, 0, far),
        call("send_ipi to nobody", Eid.IPI, 0, 0, 0),
        call("remote fence_i", Eid.RFENCE, 0, 1, 0),
        call("hart's state", Eid.HSM, 2, 0),
        call("state of no hart", Eid.HSM, 2, 4095),
        call("number of counters", Eid.PMU, 0),
        call("no such extension", 0x0BAD_0BAD, 0),
        call("no such function", Eid.BASE, 999),
    ]


PROBES: tuple[Probe, ...] = (*_instructions(), *_misaligned(), *_accesses(), *_sbi())


def table_of(name: str) -> int:
    """Return the physical address of a table: guest (Sv39x4), supervisor, or user (its pages are U)."""
    return TABLES_AT + {"guest": 0, "supervisor": 0x4000, "user": 0x5000}[name]


def program() -> tuple[Program, bytes]:
    """Return the assembled program and its bytes for BASE, with data and page tables behind it."""
    lines = [
        "_start: j _start",
        "enter: sret",
        ".align 3",
        "hs_handler: j hs_handler",
        ".align 3",
        "vs_handler: j vs_handler",
    ]
    for n, probe in enumerate(PROBES):
        # Alignment goes behind the code, so that a 16-bit instruction is followed by its label.
        lines += [f"p{n}_test: {probe.code}", f"p{n}_after: .half 1, 1, 1, 1", ".align 3"]
    made = assemble_program("\n".join(lines), BASE)
    image = bytearray(TABLES_AT + 0x6000 - BASE)
    image[: len(made.code)] = made.code
    data = b"".join(word.to_bytes(8, "little") for word in WORDS)
    image[DATA - BASE : DATA - BASE + len(data)] = data
    image[TABLES_AT - BASE :] = _tables()
    return made, bytes(image)


def _tables() -> bytes:
    """Sv39x4 and Sv39 that map the first three GiB to themselves; user pages, with supervisor ones 64 GiB further."""
    leaf = PTE_V | PTE_R | PTE_W | PTE_X | PTE_A | PTE_D
    mapped = {"guest": ((0, PTE_U),), "supervisor": ((0, 0),), "user": ((0, PTE_U), (WINDOW >> 30, 0))}
    made = b""
    for name, windows in mapped.items():
        entries = [0] * (2048 if name == "guest" else 512)
        for at, user in windows:
            entries[at : at + 3] = [gib << 28 | leaf | user for gib in range(3)]
        made += b"".join(entry.to_bytes(8, "little") for entry in entries)
    return made
