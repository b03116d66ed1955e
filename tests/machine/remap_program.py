"""A bare program that remaps, protects and rewrites pages, fences as little as it must, and records every access.

An M-mode loop reads a table of random actions: a PTE of one of three stages and the narrowest fence that covers
the change, a PMP entry that ends inside pages, a load or store (MPRV) or a jump (mret) in some mode, also across
the end of a page. Each page of the pool holds its number, code that returns it, and half an instruction at its end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from machine_fakes import make_elf

from trapline.isa.assemble import assemble_program

BASE, ACTIONS, TABLES = 0x8000_0000, 0x8010_0000, 0x8100_0000
RECORDS, POOL, POOL_PAGES = 0x8180_0000, 0x8200_0000, 2048
WINDOW = 0x4000_0000
SMALL_PAGES = 32  # in each of the two last tables
PAGE, MEGAPAGE = 0x1000, 0x20_0000
ADE, PBMTE = 1 << 61, 1 << 62
MODES = {"HS": 1 << 11, "U": 0, "VS": 1 << 39 | 1 << 11, "VU": 1 << 39}
V, R, W, X, U, A, D = (1 << i for i in (0, 1, 2, 3, 4, 6, 7))

# What an action does with its operands a0, a1 and a2 (the mode); those that end with `record` are recorded.
STEPS = {
    "write": "sd a1, 0(a0)\n j loop",
    "sfence": "sfence.vma\n j loop",
    "sfence va": "sfence.vma a0\n j loop",
    "sfence asid": "sfence.vma zero, a1\n j loop",
    "sfence va asid": "sfence.w.inval\n sinval.vma a0, a1\n sfence.inval.ir\n j loop",
    "vvma": "hfence.vvma\n j loop",
    "vvma va": "hfence.vvma a0\n j loop",
    "vvma asid": "hfence.vvma zero, a1\n j loop",
    "vvma va asid": "hfence.vvma a0, a1\n j loop",
    "gvma": "hfence.gvma\n j loop",
    "gvma va": "hfence.gvma a0\n j loop",
    "gvma asid": "hfence.gvma zero, a1\n j loop",
    "gvma va asid": "hfence.gvma a0, a1\n j loop",
    "roots": "ld t0, 0(a0)\n csrw satp, t0\n ld t0, 8(a0)\n csrw vsatp, t0\n ld t0, 16(a0)\n csrw hgatp, t0\n j loop",
    "pmp": "csrw pmpaddr0, a0\n csrw pmpcfg0, a1\n j loop",
    "fence.i": "fence.i\n j loop",
    "load": "call mode\n li t0, 0x20000\n csrs mstatus, t0\n ld s0, 0(a0)\n csrc mstatus, t0\n j record",
    "store": "call mode\n li t0, 0x20000\n csrs mstatus, t0\n sd a1, 0(a0)\n csrc mstatus, t0\n j record",
    "patch": "call mode\n li t0, 0x20000\n csrs mstatus, t0\n sw a1, 0(a0)\n csrc mstatus, t0\n fence.i\n j record",
    "jump": "call mode\n csrw mepc, a0\n mret",
    "look": "ld s0, 0(a0)\n j record",
}

PROLOGUE = f"""
    la t0, handler
    csrw mtvec, t0
    li t0, -1
    csrw pmpaddr1, t0
    li t0, 0x1f00
    csrw pmpcfg0, t0
    la t0, environment
    ld t0, 0(t0)
    csrw menvcfg, t0
    csrw henvcfg, t0
    li t0, {POOL}
    li t1, 0
    li t6, {PAGE}
fill:
    sd t1, 0(t0)
    slli t2, t1, 12
    addi t2, t2, 0x437     # lui s0, page
    li t3, 0x800
    add t3, t3, t0
    sw t2, 0(t3)
    li t2, 0x73
    sw t2, 4(t3)
    add t0, t0, t6
    li t2, 0x437           # the first half of a lui: the second is the next page's number
    sh t2, -2(t0)
    addi t1, t1, 1
    li t2, {POOL_PAGES}
    bltu t1, t2, fill
    fence.i
    li s2, {RECORDS}
    li s3, {ACTIONS}
loop:
    ld t0, 0(s3)
    ld a0, 8(s3)
    ld a1, 16(s3)
    ld a2, 24(s3)
    addi s3, s3, 32
    li s0, -1
    li s4, -1
    li s5, 0
    li s6, 0
    jr t0
record:
    sd s0, 0(s2)
    sd s4, 8(s2)
    sd s5, 16(s2)
    sd s6, 24(s2)
    addi s2, s2, 32
    j loop
mode:
    li t0, {1 << 39 | 3 << 11}
    csrc mstatus, t0
    csrs mstatus, a2
    ret
end:
    li t0, 1
    la t1, tohost
    sd t0, 0(t1)
1:  j 1b
.align 2
handler:
    csrr s4, mcause
    csrr s5, mtval
    csrr s6, mtval2
    li t0, 0x20000
    csrc mstatus, t0
    li t0, 0x1800
    csrs mstatus, t0
    la t0, record
    csrw mepc, t0
    mret
"""


@dataclass
class Stage:
    """One stage's tables in the window: the middle one, two last ones, and what their entries are now."""

    name: str  # sfence, vvma or gvma
    middle: int
    last: tuple[int, int]
    identifier: int
    table: list[bool] = field(default_factory=lambda: [True, True, False, False])
    napot: set[tuple[int, int]] = field(default_factory=set)

    @property
    def user(self) -> int:
        """All accesses of the G-stage are user accesses."""
        return U if self.name == "gvma" else 0


class Program:
    """The actions of one seed. `description` holds the recorded ones in order."""

    def __init__(self, seed: int, actions: int = 600) -> None:
        self.rng = Random(seed)
        self.environment = (PBMTE | ADE, PBMTE, ADE, 0)[seed % 4]
        self.words: list[int] = []
        self.description: list[str] = []
        places = "".join(f"s{i}:\n {text}\n" for i, text in enumerate(STEPS.values()))
        tail = f".align 3\nenvironment: .dword {self.environment:#x}\n"
        tail += ".align 6\ntohost: .dword 0\n.align 6\nfromhost: .dword 0\n"
        self.program = assemble_program(PROLOGUE + places + tail, BASE)
        self.steps = {name: self.program.symbols[f"s{i}"] for i, name in enumerate(STEPS)}
        bases = [TABLES + i * 0x8000 for i in range(3)]
        names = ("sfence", "vvma", "gvma")
        self.stages = [
            Stage(n, b + 0x4000, (b + 0x5000, b + 0x6000), 3 + i)
            for i, (n, b) in enumerate(zip(names, bases, strict=True))
        ]
        self.roots = TABLES + 0x20000
        for stage, base in zip(self.stages, bases, strict=True):
            self.do("write", base + 8, pointer(stage.middle))
            self.do("write", base + 16, leaf(BASE, V | R | W | X | A | D | stage.user))
            for slot in (0, 1):
                self.do("write", stage.middle + 8 * slot, pointer(stage.last[slot]))
            at = self.roots + 8 * self.stages.index(stage)
            self.do("write", at, 8 << 60 | stage.identifier << 44 | base >> 12)
            for slot in (0, 1):
                for index in range(SMALL_PAGES):
                    entry = leaf(self.target(stage, 1), V | R | W | X | A | D | stage.user)
                    self.do("write", stage.last[slot] + 8 * index, entry)
        self.do("roots", self.roots)
        for _ in range(20):
            self.modify()
        for _ in range(actions):
            self.one()
        self.words += [self.program.symbols["end"], 0, 0, 0]

    def do(self, name: str, a: int = 0, b: int = 0, mode: str = "U") -> None:
        """Append an action."""
        self.words += [self.steps[name], a, b, MODES[mode]]
        if STEPS[name].endswith(("record", "mret")):
            self.description.append(f"{name} {a:#x} {b:#x} {mode}")

    def one(self) -> None:
        """Append a random action."""
        rng = self.rng
        chance = rng.random()
        if chance < 0.3:
            self.modify()
        elif chance < 0.34:
            self.protect()
        else:
            self.access()

    def protect(self) -> None:
        """A PMP entry of any size and permission over the pool."""
        rng = self.rng
        size = rng.choice((0, 1, 4, 8, 9, 10, 15))
        at = POOL + rng.randrange(64) * PAGE + rng.choice((0, 0x800, 0xFF8, 0xFFC))
        self.do(
            "pmp",
            at >> 2 & ~((1 << size + 1) - 1) | (1 << size) - 1,
            0x1F00 | rng.choice((0, 0x18 | rng.choice((0, 1, 3, 4, 5, 7)))),
        )

    def access(self) -> None:
        """A load, store or jump in some mode, now and then across the end of a page."""
        rng = self.rng
        slot = rng.randrange(4)
        va = WINDOW + slot * MEGAPAGE + rng.randrange(SMALL_PAGES) * PAGE
        mode = rng.choice(("HS", "HS", "HS", "VS", "VS", "VS", "U", "VU"))
        kind = rng.choice(("load", "load", "store", "patch", "patch", "jump", "look"))
        if kind == "look":
            tables = [table for stage in self.stages for table in (stage.middle, *stage.last)]
            self.do("look", rng.choice(tables) + 8 * rng.randrange(SMALL_PAGES))
        elif kind == "patch":
            self.do("jump", va + 0x800, 0, mode)
            if rng.random() < 0.5:
                self.do("patch", va + 0x800, rng.randrange(1 << 20) << 12 | 0x437, mode)
            else:  # from the second byte of the lui up to the first of the ecall
                self.do("patch", va + 0x801, 0x73000004 | rng.randrange(1 << 20) << 4, mode)
            self.do("jump", va + 0x800, 0, mode)
        elif kind == "jump":
            self.do("jump", va + rng.choice((0x800, 0xFFE)), 0, mode)
        else:
            self.do(kind, va + rng.choice((8, 8, PAGE + 8 - rng.randrange(16, 24))), rng.getrandbits(32), mode)

    def flags(self, stage: Stage) -> int:
        """Mostly good permissions."""
        rng = self.rng
        rwx = rng.choice((R | W | X, R | W | X, R | W | X, R | W | X, R, R | X, X, R | W))
        flags = V | stage.user | rwx | rng.choice((A | D, A | D, A | D, A, 0))
        if rng.random() < 0.1:
            flags |= U
        return flags & ~V if rng.random() < 0.03 else flags

    def target(self, stage: Stage, pages: int) -> int:
        """Where a leaf of that many pages leads: the pool, or the window of the G-stage."""
        rng = self.rng
        if stage.name == "vvma" and rng.random() < 0.7:
            return WINDOW + (rng.randrange(4) * 512 + rng.randrange(SMALL_PAGES)) // pages * pages * PAGE
        return POOL + (rng.randrange(64) if pages < 512 else rng.randrange(POOL_PAGES)) // pages * pages * PAGE

    def modify(self) -> None:
        """Change an entry of a stage and fence what the change covers."""
        rng = self.rng
        stage, slot = rng.choice(self.stages), rng.randrange(4)
        if slot >= 2 or rng.random() < 0.06:
            self.change_megapage(stage, slot)
            return
        index = rng.randrange(SMALL_PAGES)
        group = index & ~15
        known = (slot, group) in stage.napot
        if known or rng.random() < 0.2:
            entry = leaf(self.target(stage, 16) | 0x8000, self.flags(stage)) | 1 << 63
            stage.napot.symmetric_difference_update({(slot, group)})
            for i in range(group, group + 16):
                new = leaf(self.target(stage, 1), self.flags(stage)) if known else entry
                self.do("write", stage.last[slot] + 8 * i, new)
            index = group + rng.randrange(16)
            self.fence(stage, WINDOW + slot * MEGAPAGE + index * PAGE, everything=not known)
            return
        memory_type = rng.choice((1, 2, 3)) << 61 if rng.random() < 0.05 else 0
        self.do("write", stage.last[slot] + 8 * index, leaf(self.target(stage, 1), self.flags(stage)) | memory_type)
        self.fence(stage, WINDOW + slot * MEGAPAGE + index * PAGE)

    def change_megapage(self, stage: Stage, slot: int) -> None:
        rng = self.rng
        was, now = stage.table[slot], slot < 2 and rng.random() < 0.5
        stage.table[slot] = now
        entry = pointer(stage.last[slot]) if now else leaf(self.target(stage, 512), self.flags(stage))
        self.do("write", stage.middle + 8 * slot, entry)
        self.fence(stage, WINDOW + slot * MEGAPAGE + rng.randrange(512) * PAGE, everything=was or now)

    def fence(self, stage: Stage, address: int, *, everything: bool = False) -> None:
        """Any fence that covers an address of the stage."""
        rng = self.rng
        if stage.name == "gvma":
            address >>= 2
        kind = "" if everything else rng.choice((" va", " va", " asid", " va asid", ""))
        self.do(stage.name + kind, address, stage.identifier)

    def elf(self) -> bytes:
        """The program as an executable whose signature is its records."""
        image = bytearray(ACTIONS - BASE + 8 * len(self.words))
        image[: len(self.program.code)] = self.program.code
        image[ACTIONS - BASE :] = b"".join((w & (1 << 64) - 1).to_bytes(8, "little") for w in self.words)
        symbols = {name: self.program.symbols[name] for name in ("tohost", "fromhost")}
        symbols |= {"begin_signature": RECORDS, "end_signature": RECORDS + 32 * len(self.description)}
        return make_elf(bytes(image), symbols=symbols, memory_size=RECORDS - BASE + 32 * len(self.description))


def leaf(address: int, flags: int) -> int:
    """A leaf PTE."""
    return address >> 2 & ~0x3FF | flags


def pointer(address: int) -> int:
    """A PTE that points to a table."""
    return address >> 2 | V
