"""A hypervisor that uses the H extension at random, the same for each seed: values, accesses, returns, interrupts."""

from __future__ import annotations

import random

from l1 import FREE, G_ROOT, HANDLERS, HOLE, RAM, START, VS_ROOT, note, tag
from programs import H_CSRS, MAPPED

from trapline.isa.assemble import assemble_program

# Rewritten before the guest is entered, so that it comes back.
STEADY = {"hgatp": 0, "vsatp": 0, "vsstatus": 0, "hstatus": 0, "hie": 0, "hideleg": 0, "hvip": 0}
OWN = ("scounteren", "senvcfg", "stimecmp", "sscratch", "scause", "sepc", "stval", "satp", "stvec", "sie", "sip")
ABSENT = "0x20c 0x215 0x256 0x602 0x608 0x612 0x615 0x647 0x6a9 0xa00 0xe00 0xe13 0xeb1".split()
# What no two machines have the same: time, cycles, and instructions retired (a trap may count).
READABLE = (*H_CSRS, "sstatus", "scounteren", "senvcfg", "sscratch", "scause", "stval", "satp", "sie", "sip")
FIXED = {"henvcfg": ~1, "senvcfg": ~1}  # Spike has no FIOM
UNLIKE = 1 << 62 | 1 << 59 | 3 << 32 | 1  # of henvcfg, in a guest
STCE = 1 << 63  # Spike's VSTIP stays as it was while henvcfg.STCE is 0
PLACES = (
    0x2000_0000,
    RAM,
    FREE,
    MAPPED,
    MAPPED + 0x1000,
    HOLE,
    1 << 30,
    1 << 38,
    1 << 41,
    (1 << 64) - (1 << 30),
    0x1_0000_0000,
)
LOADS = ("hlv.b", "hlv.bu", "hlv.h", "hlv.hu", "hlv.w", "hlv.wu", "hlv.d", "hlvx.hu", "hlvx.wu")
STORES = ("hsv.b", "hsv.h", "hsv.w", "hsv.d")
WIDTH = {"b": 1, "h": 2, "w": 4, "d": 8}
FENCES = ("hfence.gvma", "hfence.vvma", "hfence.gvma x0, t4", "hfence.gvma t4, x0", "hfence.vvma t4, t4", "sfence.vma")
PRIVILEGED = (
    "sret",
    "mret",
    "sfence.vma",
    "sinval.vma x0, x0",
    "hfence.gvma",
    "hfence.vvma",
    "ebreak",
    "hlv.d t3, (s7)",
)
STEPS, VISITS = 25, 12


def value(dice: random.Random) -> int:
    """A value of a register: random, one bit, few bits, or their complements."""
    found = dice.choice((dice.getrandbits(64), 1 << dice.randrange(64), dice.getrandbits(16), 0))
    return found ^ dice.choice((0, 0, (1 << 64) - 1))


def place(dice: random.Random, width: int = 8) -> int:
    """An address, aligned or (seldom) not."""
    at = dice.choice(PLACES) + dice.randrange(12) * 0x1000 + dice.randrange(0, 0x1000, width)
    return at + (dice.randrange(8) if dice.randrange(8) == 0 else 0) & (1 << 64) - 1


def change(dice: random.Random, csr: str, stce: int = 0) -> str:
    """Assembly that changes a CSR at random and notes what was read, and what it has then."""
    operation = dice.choice(("csrrw", "csrrs", "csrrc"))
    given = value(dice) & FIXED.get(csr, -1)
    if csr == "henvcfg" and stce:
        given, operation = given | stce, "csrrw"
    if csr in ("vstimecmp", "stimecmp"):  # what is due must not depend on the time
        given, operation = dice.choice((0, (1 << 64) - 1)), "csrrw"
    return f"li t3, {given}\n{operation} t4, {csr}, t3\nsd t4, 0(s11)\naddi s11, s11, 8\n{note(csr)}"


def as_guest_access(dice: random.Random) -> str:
    """Assembly of an HLV, HLVX or HSV, noted."""
    name = dice.choice(LOADS + STORES)
    width = WIDTH[name.split(".")[1][0]]
    text = f"li s7, {place(dice, width):#x}\nli t3, {dice.getrandbits(31)}\n{name} t3, (s7)\n"
    return text + "sd t3, 0(s11)\naddi s11, s11, 8\n"


def accessed(dice: random.Random) -> str:
    """Assembly of what a guest may try: CSRs of each level, privileged instructions, accesses."""
    kind = dice.randrange(5)
    text = f"li s7, {place(dice):#x}\nli t3, {value(dice)}\n"
    if kind == 0:
        csr = dice.choice(READABLE)
        # Its own interrupts it may have; what leads nowhere it may not.
        return text + f"csrrs t3, {csr}, x0\n" + ("" if csr in ("sip", "sie") else "sd t3, 0(s11)\naddi s11, s11, 8\n")
    if kind == 1:
        csr = dice.choice((*H_CSRS, "sscratch", "sie", "sip", "scause", "stval", "senvcfg", "scounteren"))
        given = f"li t3, {value(dice) & FIXED.get(csr, -1)}\n"
        return text + given + f"{dice.choice(('csrrw', 'csrrs', 'csrrc'))} t3, {csr}, t3\n"
    if kind == 2:
        return text + dice.choice(PRIVILEGED[2:]) + "\n"
    if kind == 3:
        # Aligned: what is not is firmware's, and that is not the same where H is real.
        access = dice.choice(("ld t3, 0(s7)", "sd t3, 0(s7)", "lbu t3, 0(s7)", "amoadd.d t3, t3, (s7)"))
        return f"{text}andi s7, s7, -8\n{access}\n"
    return f"csrr t3, {dice.choice(ABSENT)}\n"


def visit(dice: random.Random, number: int, stce: int) -> str:
    """Assembly that enters a guest under random settings, has it try things, and leaves it."""
    bits = {
        "hgatp": dice.choice((0, 8)) << 60 | dice.randrange(4) << 44 | G_ROOT >> 12,
        "vsatp": dice.choice((0, 8)) << 60 | VS_ROOT >> 12,
        "hedeleg": dice.getrandbits(16) & ~0x1407 & ~(1 << 12),
        "hideleg": dice.getrandbits(16), "hie": dice.getrandbits(16), "hvip": dice.getrandbits(16),
        "vsstatus": dice.getrandbits(64) & ~0x300000000 & ~(3 << 13),
        "hcounteren": dice.getrandbits(32), "henvcfg": dice.getrandbits(64) & ~UNLIKE | stce,
        "vsie": dice.getrandbits(16), "vstimecmp": dice.choice((0, (1 << 64) - 1)),
        "hstatus": dice.getrandbits(3) << 20 | dice.getrandbits(1) << 9,
    }  # fmt: skip
    text = (
        tag(0x600 + number)
        + f"la s9, back{number}\nla t0, guest{number}\ncsrw sepc, t0\nla t0, inner\ncsrw vstvec, t0\n"
    )
    text += "".join(f"li t3, {given}\ncsrw {name}, t3\n" for name, given in bits.items())
    text += f"{dice.choice(FENCES[:2])}\nhfence.gvma\nli t0, 0x180\ncsrs hstatus, t0\nli t0, 0x100\n"
    text += f"{dice.choice(('csrs', 'csrs', 'csrc'))} sstatus, t0\nsret\nguest{number}:\n"
    text += "".join(accessed(dice) for _ in range(dice.randrange(1, 6)))
    text += (
        f"ecall\nback{number}:\nli s9, 0\n{note('hstatus', 'sstatus', 'vsstatus', 'vsip', 'hip', 'vscause', 'vsepc')}"
    )
    return text + "".join(f"li t3, {given}\ncsrw {name}, t3\n" for name, given in STEADY.items())


def step(dice: random.Random, stce: int) -> str:
    """Assembly of one thing that the hypervisor does itself."""
    kind = dice.randrange(6)
    if kind < 3:
        return change(dice, dice.choice(H_CSRS), stce)
    if kind == 3:
        text = "".join(f"li t3, {given}\ncsrw {name}, t3\n" for name, given in {
            "hgatp": dice.choice((0, 8)) << 60 | G_ROOT >> 12, "vsatp": dice.choice((0, 8)) << 60 | VS_ROOT >> 12,
        }.items())  # fmt: skip
        bits = f"li t3, {dice.getrandbits(64) & ~0x300000000}\ncsrw vsstatus, t3\nli t3, {dice.getrandbits(1) << 8}\n"
        return text + bits + "csrw hstatus, t3\nhfence.gvma\nhfence.vvma\n" + as_guest_access(dice)
    if kind == 4:
        return f"li t4, {value(dice)}\n{dice.choice(FENCES)}\n"
    return f"csrr t3, {dice.choice(ABSENT)}\n" + change(dice, dice.choice(("scounteren", "senvcfg", "sscratch")))


def code(seed: int, stce: int = 0) -> bytes:
    """The program of a seed, from L1_BASE on; with STCE its guests always have the timer of Sstc."""
    dice = random.Random(seed)
    body = f"li t3, {stce}\ncsrw henvcfg, t3\n"
    for number in range(VISITS):
        body += "".join(step(dice, stce) for _ in range(STEPS // 5)) + visit(dice, number, stce)
    # A timer of the guest's that the hypervisor kept is put off by its handler, like all else that interrupts it.
    handlers = HANDLERS.replace("csrw hvip, zero\n", "csrw hvip, zero\n    csrw vstimecmp, s8\n    csrw hie, zero\n", 1)
    end = "end:\nli a7, 0x53525354\nli a6, 0\nli a0, 0\nli a1, 0\necall\n"
    return assemble_program(f"{START}\n{body}\n{end}{handlers}", RAM + 0x1000).code
