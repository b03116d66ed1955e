"""Random programs whose functions call each other across pages, from user mode, with a kernel that changes the ground.

Each code page has a function that is written for any place: loops, near and far calls to later pages, ecalls, and
code that runs over the page's end. The handler of environment calls, in turn, swaps two code pages in the page table,
patches an instruction and fences, moves itself to another page, toggles SUM, or changes the address space's number.
"""

from __future__ import annotations

import random
import struct

from tests.engine.harness import BASE, Bench
from trapline.isa.assemble import assemble

USER, DATA = 0x4000_0000, 0x4010_0000
PAGES = 6
CODE, TABLES, HANDLERS, BUFFER = BASE + 0x8000, BASE + 0x20000, BASE + 0x2000, BASE + 0x30000
LEAF = 0xDF  # D A U X W R V

BOOT = """
    li t0, -1
    csrw medeleg, t0
    {delegate}
    li t1, {satp}
    csrw {satp_csr}, t1
    li t1, {handler}
    csrw {tvec}, t1
    csrw mtvec, zero
    li t1, {mstatus}
    csrw mstatus, t1
    li t1, {user}
    csrw mepc, t1
    li s2, 1
    li s3, 3
    li s10, {first}
    li s11, {data}
    mret
"""

HANDLER = """
    csrr t3, scause
    addi t3, t3, -8
    bnez t3, again
    csrr t3, sepc
    addi t3, t3, 4
    csrw sepc, t3
    addi s10, s10, 1
    andi t4, s10, 31
    {dispatch}
    sret
again:
    li t3, {user}
    csrw sepc, t3
    sret
swap:
    li t3, {pte}
    ld t4, 0(t3)
    ld t5, {other}(t3)
    sd t5, 0(t3)
    sd t4, {other}(t3)
    {fence}
    sret
patch:
    li t3, {victim}
    lw t4, 0(t3)
    li t5, 0x00300000
    xor t4, t4, t5
    sw t4, 0(t3)
    {fence_i}
    sret
move:
    csrr t3, stvec
    li t4, 4096
    xor t3, t3, t4
    csrw stvec, t3
    sret
sum:
    li t3, 0x40000
    csrr t4, sstatus
    xor t4, t4, t3
    csrw sstatus, t4
    sret
asid:
    li t3, 1
    slli t3, t3, 44
    csrr t4, satp
    xor t4, t4, t3
    csrw satp, t4
    sret
"""


# A function that overwrites the immediate of one of its own instructions, the next or a former one.
REWRITE = """
    c.addi a0, 3
7:  auipc t3, 0
    lw t4, 20(t3)
    lui t5, 0x300
    xor t4, t4, t5
    sw t4, {n}*4+20-4*{n}(t3)
    addi a3, a3, 5
"""


def body(rng: random.Random, count: int) -> str:
    """Some instructions that neither jump nor trap."""
    lines = []
    for _ in range(count):
        a, b, c = (rng.choice(("s2", "s3", "a0", "a1", "a2", "a3", "a4")) for _ in range(3))
        lines.append(
            rng.choice(
                (
                    f"add {a}, {b}, {c}",
                    f"xor {a}, {b}, {c}",
                    f"addi {a}, {b}, {rng.randrange(-2048, 2048)}",
                    f"c.addi {a}, {rng.randrange(1, 31)}",
                    f"sd {b}, {8 * rng.randrange(64)}(s11)",
                    f"ld {a}, {8 * rng.randrange(64)}(s11)",
                    f"mul {a}, {b}, {c}",
                )
            )
        )
    return "\n".join(lines)


def function(rng: random.Random, page: int) -> bytes:
    """The code of one page, whose function begins at its first byte."""
    lines = [f"mv s{4 + page % 6}, ra", ".word 0x00198993", body(rng, rng.randrange(1, 6))]
    if rng.random() < 0.6:
        lines += [
            f"li t0, {rng.randrange(2, 6)}",
            "8:",
            body(rng, rng.randrange(1, 4)),
            "addi t0, t0, -1",
            "bnez t0, 8b",
        ]
    text, targets = "\n".join(lines), [p for p in range(page + 1, PAGES) if rng.random() < 0.5]
    for target in targets:
        # A call from this place to the beginning of another page.
        place = len(assemble(text + "\n", USER))
        if rng.random() < 0.5:
            text += f"\n9: jal ra, 9b + {(target - page) * 4096 - place}"
        else:
            text += f"\nauipc t2, {target - page}\n jalr ra, {-place}(t2)"
        text += "\n" + rng.choice(("ecall", body(rng, 2), "", REWRITE.format(n=rng.randrange(2))))
    text += f"\nmv ra, s{4 + page % 6}\n ret"
    code = assemble(text, USER)
    tail = assemble(body(rng, rng.randrange(1, 5)), USER)
    if page + 1 < PAGES:
        # What runs over the page's end into the next function, an instruction across the end at times.
        tail = b"\x85\x09" * rng.randrange(2) + tail
        code = code + bytes(4096 - len(tail) - len(code)) + tail
    return code


def main_page(rng: random.Random) -> bytes:
    """The first page: calls all others for ever, into their last bytes too."""
    text = "start:\n addi s2, s2, 7"
    for target in rng.sample(range(1, PAGES), PAGES - 1):
        place = len(assemble(text + "\n", USER))
        text += f"\nauipc t2, {target}\n jalr ra, {-place}(t2)"
        if rng.random() < 0.5:
            text += "\necall"
    return assemble(text + "\necall\n j start", USER)


def page_table(bench: Bench) -> None:
    """Sv39: the gigabyte of RAM for the kernel at its own address, code and data of the user in small pages."""
    root, middle, leaves, far = (TABLES + i * 4096 for i in range(4))
    entries = {root + 8 * 2: (BASE >> 12) << 10 | 0xCF, root + 8 * 1: (middle >> 12) << 10 | 1}
    entries |= {middle: (leaves >> 12) << 10 | 1, far: 0}
    for page in range(PAGES):
        entries[leaves + 8 * page] = (CODE >> 12) + page << 10 | LEAF
    entries[leaves + 8 * (DATA - USER >> 12)] = (BUFFER >> 12) << 10 | LEAF
    for place, entry in entries.items():
        bench.write(place, struct.pack("<Q", entry))


def program(bench: Bench, seed: int, *, virtual: bool) -> None:
    """Write a whole program into a bench's memory."""
    rng = random.Random(seed)
    page_table(bench)
    bench.write(CODE, main_page(rng))
    for page in range(1, PAGES):
        bench.write(CODE + 4096 * page, function(rng, page))
    first, second = sorted(rng.sample(range(1, PAGES), 2))
    victim = CODE + 4096 * rng.randrange(1, PAGES) + 4
    actions = [(n, rng.choice(("swap", "patch", "move", "sum", "asid"))) for n in rng.sample(range(32), 9)]
    dispatch = "\n".join(f"li t5, {n}\n beq t4, t5, {name}" for n, name in actions)
    handler = assemble(
        HANDLER.format(
            user=USER,
            dispatch=dispatch,
            pte=TABLES + 2 * 4096 + 8 * first,
            other=8 * (second - first),
            victim=victim,
            fence=rng.choice(("sfence.vma", "sfence.vma zero, zero", "li t3, 0x40000000\n sfence.vma")),
            fence_i=rng.choice(("fence.i", "")),
        ),
        HANDLERS,
    )
    for copy in range(2):
        bench.write(HANDLERS + 4096 * copy, handler)
    boot = BOOT.format(
        delegate="li t0, -1\n csrw hedeleg, t0" if virtual else "",
        satp=8 << 60 | TABLES >> 12,
        satp_csr="vsatp" if virtual else "satp",
        handler=HANDLERS,
        tvec="vstvec" if virtual else "stvec",
        mstatus=1 << 39 if virtual else 0,
        user=USER,
        first=rng.randrange(32),
        data=DATA,
    )
    bench.write(BASE, assemble(boot, BASE))
