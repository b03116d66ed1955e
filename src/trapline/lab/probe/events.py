"""The events that probes raise: for every cause all the ways to raise it that a hypervisor may tell apart.

The code of an event finds these addresses in registers, in the address window of its own mode:

    s2   a page in no memory slot (the serial port of the VMM: an MMIO page)
    s3   a page of a slot that has no memory behind it (a hole)
    s4   a page of RAM that nobody has touched yet
    s5   a page of RAM
    s6   an address that the guest's page table does not map
    s7   the page of s5, mapped read-only and not executable
    s8   the page of s5 as the other privilege has it mapped
    s9   a page of a read-only slot
    s10  an address whose page table lies in the hole
    s11  an address whose page table lies in no slot

s0, s1, gp and tp belong to the probe.
"""

from __future__ import annotations

from dataclasses import dataclass

BOTH = ("VS", "VU")

# What a guest kernel must have done before its user code can raise an event ("": nothing).
ALONE = ""
MMIO = "the guest kernel maps an MMIO page to user space"
HOLE = "a slot has a hole, and the guest kernel maps it to user space"
READ_ONLY = "the guest kernel maps a read-only slot to user space"
TAKEN = "the VMM takes a slot's memory away (PROT_NONE), and the guest kernel maps it to user space"
TABLES = "the guest kernel places a page table outside RAM"


@dataclass(frozen=True, slots=True)
class Event:
    """One way to raise a cause.

    `code` is the instruction (or two) under test; `before` runs in the same mode ahead of it, `prepare`
    in VS-mode as the guest's kernel. `isa` names extensions that the hart must have (or lack, with "-").
    `untouched` is the kind of the slot that the page of s4 is in.
    """

    id: str
    cause: int  # nominal: a hart that does accesses differently may raise another one
    text: str
    code: str
    before: str = ""
    prepare: str = ""
    modes: tuple[str, ...] = BOTH
    isa: tuple[str, ...] = ()
    condition: str = ALONE  # when VU can raise it
    untouched: str = "ram"


def _access(kind: str, mnemonics: str, register: str, cause: int, text: str, condition: str, value: str) -> list[Event]:
    return [
        Event(
            f"{kind}-{m.replace('.', '-')}",
            cause,
            f"{m} {text}",
            f"{m} {value}, 0({register})",
            isa=_isa_of(m),
            condition=condition,
        )
        for m in mnemonics.split()
    ]


def _isa_of(mnemonic: str) -> tuple[str, ...]:
    found = ["c"] if mnemonic.startswith("c.") else []
    plain = mnemonic.removeprefix("c.")
    if plain in ("lbu", "lhu", "lh", "sb", "sh") and found:
        return ("zcb",)
    if plain[:1] == "f":
        found.append("d" if plain.startswith(("fld", "fsd")) else "zfh" if plain[2:3] == "h" else "f")
    return tuple(found)


_ATOMIC_LOADS = "lr.w lr.d"
_AMOS = "amoadd.w amoadd.d"
_SMALL = "c.lw c.ld c.fld c.lbu c.lhu c.lh"
_SMALL_STORES = "c.sw c.sd c.fsd c.sb c.sh"

_SYNCHRONOUS = [
    Event("jump-misaligned", 0, "jump to an address that is not a multiple of 4", "jalr zero, 2(s1)", isa=("-c",)),
    Event("fetch-hole", 1, "fetch from a slot's hole", "jr s3", condition=HOLE),
    Event("illegal", 2, "reserved instruction", ".insn 0x0000000b"),
    Event("illegal-16", 2, "16 bits of zeros", ".insn 0x0000", isa=("c",)),
    Event("csr-machine", 2, "read of an M-mode CSR (mscratch)", "csrr a0, mscratch"),
    Event("csr-read-only", 2, "write of a read-only CSR (cycle)", "csrw cycle, a0"),
    Event("csr-unknown", 2, "read of a CSR that does not exist", "csrr a0, 0x5c0"),
    Event("fp-off", 2, "floating point with FS off", "fmv.x.d a0, f0",
          prepare="li t0, 0x6000; csrc sstatus, t0", isa=("d",)),
    Event("mret", 2, "mret", "mret"),
    Event("ebreak", 3, "ebreak", "ebreak"),
    Event("c-ebreak", 3, "c.ebreak", "c.ebreak", isa=("c",)),
    Event("misaligned-load", 4, "misaligned ld to RAM", "ld a0, 1(s5)"),
    Event("misaligned-lh", 4, "misaligned lh to RAM", "lh a0, 1(s5)"),
    Event("misaligned-fld", 4, "misaligned fld to RAM", "fld f0, 1(s5)", isa=("d",)),
    Event("misaligned-lr", 4, "misaligned lr.d to RAM", "lr.d a0, (a5)", before="addi a5, s5, 4"),
    Event("misaligned-load-hole", 4, "misaligned ld to a slot's hole", "ld a0, 1(s3)", condition=HOLE),
    Event("misaligned-load-mmio", 4, "misaligned ld to an MMIO page", "ld a0, 1(s2)", condition=MMIO),
    Event("misaligned-load-unmapped", 4, "misaligned ld to an unmapped page", "ld a0, 1(s6)"),
    Event("load-hole", 5, "ld from a slot's hole", "ld a0, 0(s3)", condition=HOLE),
    Event("lr-hole", 5, "lr.d from a slot's hole", "lr.d a0, (s3)", condition=HOLE),
    Event("table-hole", 5, "ld through a page table in a hole", "ld a0, 0(s10)", condition=TABLES),
    Event("misaligned-store", 6, "misaligned sd to RAM", "sd a0, 1(s5)"),
    Event("misaligned-sh", 6, "misaligned sh to RAM", "sh a0, 1(s5)"),
    Event("misaligned-fsd", 6, "misaligned fsd to RAM", "fsd f0, 1(s5)", isa=("d",)),
    Event("misaligned-amo", 6, "misaligned amoadd.d to RAM", "amoadd.d a0, a1, (a5)", before="addi a5, s5, 4"),
    Event("misaligned-store-mmio", 6, "misaligned sd to an MMIO page", "sd a0, 1(s2)", condition=MMIO),
    Event("misaligned-amo-mmio", 6, "misaligned amoadd.d to an MMIO page", "amoadd.d a0, a1, (a5)",
          before="addi a5, s2, 4", condition=MMIO),
    Event("store-hole", 7, "sd to a slot's hole", "sd a0, 0(s3)", condition=HOLE),
    Event("amo-hole", 7, "amoadd.d to a slot's hole", "amoadd.d a0, a1, (s3)", condition=HOLE),
    Event("ecall-user", 8, "ecall", "ecall", modes=("VU",)),
    Event("ecall-base", 10, "SBI call: get_spec_version", "ecall", before="li a7, 0x10; li a6, 0", modes=("VS",)),
    Event("ecall-timer", 10, "SBI call: set_timer", "ecall",
          before="li a7, 0x54494d45; li a6, 0; li a0, -1", modes=("VS",)),
    Event("ecall-unknown", 10, "SBI call: unknown extension", "ecall", before="li a7, 0x31415926", modes=("VS",)),
    Event("ecall-vmm", 10, "SBI call forwarded to the VMM", "ecall", before="li a7, 0x08000000", modes=("VS",)),
    Event("fetch-unmapped", 12, "fetch from an unmapped page", "jr s6"),
    Event("fetch-no-execute", 12, "fetch from a page without X", "jr s7"),
    Event("fetch-other", 12, "fetch from the other privilege's page", "jr s8"),
    Event("load-unmapped", 13, "ld from an unmapped page", "ld a0, 0(s6)"),
    Event("load-other", 13, "ld from the other privilege's page", "ld a0, 0(s8)"),
    Event("lr-unmapped", 13, "lr.d from an unmapped page", "lr.d a0, (s6)"),
    Event("store-unmapped", 15, "sd to an unmapped page", "sd a0, 0(s6)"),
    Event("store-read-only-page", 15, "sd to a page without W", "sd a0, 0(s7)"),
    Event("amo-read-only-page", 15, "amoadd.d to a page without W", "amoadd.d a0, a1, (s7)"),
]  # fmt: skip

_NOWHERE = "li a5, 0x20000000; add a5, a5, tp"  # tp: the mode's address window

# Tables in the untouched page of the read-only slot: the second entry is empty, the third a leaf with A clear.
_TABLE = "li a5, 0x200200000; add a5, a5, tp"
_AGED_TABLE = "li a5, 0x200400000; add a5, a5, tp"


def _read_only(name: str, cause: int, text: str, code: str, before: str = "", isa: tuple[str, ...] = ()) -> Event:
    untouched = "ro" if "first" in name or "table" in name else "ram"
    prepare = "li t0, 0x40000; csrs sstatus, t0" if "aged" in name else ""  # SUM: the page is user code's
    return Event(name, cause, text, code, before, prepare, isa=isa, condition=READ_ONLY, untouched=untouched)


_READ_ONLY_SLOT = [
    _read_only("fetch-first-read-only", 20, "fetch from a page of a read-only slot never touched", "jalr t2, 0(s4)"),
    _read_only("load-first-read-only", 21, "ld from a page of a read-only slot never touched", "ld a0, 0(s4)"),
    _read_only("lr-first-read-only", 21, "lr.d from a page of a read-only slot never touched", "lr.d a0, (s4)"),
    _read_only("table-read-only-slot", 21, "ld through a page table in a read-only slot", "ld a0, 0(a5)", _TABLE),
    _read_only("table-aged-read-only-slot", 21, "ld through a PTE with A clear in a read-only slot", "ld a0, 0(a5)",
               _AGED_TABLE, ("svadu",)),
    _read_only("store-first-read-only", 23, "sd to a page of a read-only slot never touched", "sd a0, 0(s4)"),
    _read_only("store-read-only-slot", 23, "sd to a read-only slot", "sd a0, 0(s9)"),
    _read_only("misaligned-store-read-only-slot", 6, "misaligned sd to a read-only slot", "sd a0, 1(s9)"),
    _read_only("sc-read-only-slot", 23, "sc.d to a read-only slot", "sc.d a0, a1, (s9)", "lr.d a0, (s9)"),
    _read_only("amo-read-only-slot", 23, "amoadd.d to a read-only slot", "amoadd.d a0, a1, (s9)"),
    _read_only("cbo-zero-read-only-slot", 23, "cbo.zero to a read-only slot", "cbo.zero (s9)", isa=("zicboz",)),
]  # fmt: skip

_TAKEN = "li a5, 0x44020000; add a5, a5, tp"  # the slot whose memory the VMM may not touch


def _taken(name: str, cause: int, text: str, code: str, before: str = _TAKEN) -> Event:
    return Event(f"{name}-prot-none", cause, f"{text} a slot that is PROT_NONE", code, before=before, condition=TAKEN)


_PROT_NONE_SLOT = [
    _taken("fetch", 20, "fetch from", "jr a5"),
    _taken("load", 21, "ld from", "ld a0, 0(a5)"),
    _taken("misaligned-load", 4, "misaligned ld from", "ld a0, 1(a5)"),
    _taken("lr", 21, "lr.d from", "lr.d a0, (a5)"),
    _taken("table", 21, "ld through a page table in", "ld a0, 0(a5)", "li a5, 0x1c0000000; add a5, a5, tp"),
    _taken("store", 23, "sd to", "sd a0, 0(a5)"),
    _taken("misaligned-store", 6, "misaligned sd to", "sd a0, 1(a5)"),
    _taken("amo", 23, "amoadd.d to", "amoadd.d a0, a1, (a5)"),
]

_OUTSIDE = [
    Event("fetch-first", 20, "fetch from a page of RAM never touched", "jalr t2, 0(s4)",),
    Event("fetch-mmio", 20, "fetch from an address without a slot", "jr s2", condition=MMIO),
    Event("load-first", 21, "ld from a page of RAM never touched", "ld a0, 0(s4)"),
    *_access("mmio", "lb lbu lh lhu lw lwu ld", "s2", 21, "from an MMIO page", MMIO, "a0"),
    *_access("mmio", _SMALL.replace("c.fld", ""), "a5", 21, "from an MMIO page", MMIO, "a0"),
    Event("mmio-c-lwsp", 21, "c.lwsp from an MMIO page", "c.lwsp a0, 0(sp)", isa=("c",), condition=MMIO),
    Event("mmio-c-ldsp", 21, "c.ldsp from an MMIO page", "c.ldsp a0, 0(sp)", isa=("c",), condition=MMIO),
    *_access("mmio", "flh flw fld", "s2", 21, "from an MMIO page", MMIO, "f8"),
    *_access("mmio", "c.fld", "a5", 21, "from an MMIO page", MMIO, "f8"),
    *[Event(f"mmio-{m.replace('.', '-')}", 21, f"{m} from an MMIO page", f"{m} a0, (s2)", condition=MMIO)
      for m in _ATOMIC_LOADS.split()],
    Event("load-nowhere", 21, "ld from an address without slot and device", "ld a0, 0(a5)",
          before=_NOWHERE, condition=MMIO),
    Event("table-mmio", 21, "ld through a page table in no slot", "ld a0, 0(s11)", condition=TABLES),
    Event("store-first", 23, "sd to a page of RAM never touched", "sd a0, 0(s4)"),
    Event("amo-first", 23, "amoadd.d to a page of RAM never touched", "amoadd.d a0, a1, (s4)"),
    Event("store-nowhere", 23, "sd to an address without slot and device", "sd a0, 0(a5)",
          before=_NOWHERE, condition=MMIO),
    *_access("mmio", "sb sh sw sd", "s2", 23, "to an MMIO page", MMIO, "zero"),
    *_access("mmio", _SMALL_STORES.replace("c.fsd", ""), "a5", 23, "to an MMIO page", MMIO, "a4"),
    Event("mmio-c-swsp", 23, "c.swsp to an MMIO page", "c.swsp a4, 4(sp)", isa=("c",), condition=MMIO),
    Event("mmio-c-sdsp", 23, "c.sdsp to an MMIO page", "c.sdsp a4, 8(sp)", isa=("c",), condition=MMIO),
    Event("mmio-c-sdsp-0", 23, "c.sdsp to an MMIO page, offset 0", "c.sdsp a4, 0(sp)", isa=("c",), condition=MMIO),
    *_access("mmio", "fsh fsw fsd", "s2", 23, "to an MMIO page", MMIO, "f8"),
    *_access("mmio", "c.fsd", "a5", 23, "to an MMIO page", MMIO, "f8"),
    *[Event(f"mmio-{m.replace('.', '-')}", 23, f"{m} to an MMIO page", f"{m} a0, a1, (s2)", condition=MMIO)
      for m in ("sc.w", "sc.d", *_AMOS.split())],
    Event("mmio-cbo-zero", 23, "cbo.zero to an MMIO page", "cbo.zero (s2)", isa=("zicboz",), condition=MMIO),
    Event("mmio-cbo-clean", 23, "cbo.clean to an MMIO page", "cbo.clean (s2)", isa=("zicbom",), condition=MMIO),
]  # fmt: skip

# Arms the guest's timer a little ahead, so that a halted vCPU wakes up; the handler disarms it.
# By SBI v0.1 and by TIME: distributions build Linux without the first (RISCV_SBI_V01), others lack the second.
TIMER = (
    "csrr t1, time; addi t1, t1, 2000; mv a0, t1; li a7, 0; ecall; "
    "mv a0, t1; li a7, 0x54494d45; li a6, 0; ecall; li a0, 0; li a1, 0; li t0, 32; csrs sie, t0"
)

_VIRTUAL = [
    Event("csr-hypervisor", 22, "read of a hypervisor CSR (hstatus)", "csrr a0, hstatus"),
    Event("csr-vs", 22, "read of a VS CSR (vsstatus)", "csrr a0, vsstatus"),
    Event("csr-supervisor", 22, "read of a supervisor CSR (sscratch)", "csrr a0, sscratch", modes=("VU",)),
    Event("csr-interrupts", 22, "read of sie", "csrr a0, sie", modes=("VU",)),
    Event("hfence-gvma", 22, "hfence.gvma", "hfence.gvma zero, zero"),
    Event("hfence-vvma", 22, "hfence.vvma", "hfence.vvma zero, zero"),
    Event("hlv", 22, "hlv.d", "hlv.d a0, (s5)"),
    Event("hsv", 22, "hsv.d", "hsv.d a0, (s5)"),
    Event("sret-user", 22, "sret", "sret", modes=("VU",)),
    Event("sfence-user", 22, "sfence.vma", "sfence.vma zero, zero", modes=("VU",)),
    Event("wfi", 22, "wfi", "wfi", prepare=TIMER),
    Event("wrs-nto", 22, "wrs.nto", "wrs.nto", before="lr.d a0, (s5)", prepare=TIMER, isa=("zawrs",)),
    Event("wrs-sto", 22, "wrs.sto", "wrs.sto", before="lr.d a0, (s5)", isa=("zawrs",)),
    Event("rdcycle", 22, "rdcycle", "csrr a0, cycle", isa=("zicntr",)),
    Event("rdtime", 22, "rdtime", "csrr a0, time", isa=("zicntr",)),
    Event("rdinstret", 22, "rdinstret", "csrr a0, instret", isa=("zicntr",)),
    Event("hpmcounter", 22, "read of hpmcounter3", "csrr a0, hpmcounter3", isa=("zihpm",)),
    Event("stimecmp", 22, "read of stimecmp", "csrr a0, stimecmp", isa=("sstc",)),
]  # fmt: skip

EVENTS: tuple[Event, ...] = tuple(
    sorted([*_SYNCHRONOUS, *_OUTSIDE, *_READ_ONLY_SLOT, *_PROT_NONE_SLOT, *_VIRTUAL], key=lambda event: event.cause)
)

# The hypervisor in the middle (L1) has no slots: what it maps, it maps at once, and takes nothing away.
OF_A_FLAT_GUEST = frozenset(e.id for e in EVENTS if e.untouched != "ram" or e.condition == TAKEN)

# Causes of the specification that no guest of this hart can raise, and why.
UNREACHABLE = {
    9: "raised in HS-mode only",
    11: "raised in M-mode only",
    16: "needs Ssdbltrp, which this hart does not have",
    18: "needs Zicfilp or Zicfiss, which this hart does not have",
    19: "this hart's memory has no errors",
}


def selected(extensions: set[str]) -> tuple[Event, ...]:
    """Return the events that a hart with these extensions (lower case) can be asked for."""

    def fits(event: Event) -> bool:
        return all((n[1:] not in extensions) if n[0] == "-" else (n in extensions) for n in event.isa)

    return tuple(e for e in EVENTS if fits(e))
