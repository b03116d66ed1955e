"""A guest hypervisor that does what it should not: random tables, registers and accesses, the same for each seed."""

from __future__ import annotations

import random

from l1 import FREE, G_ROOT, HOLE, NOTES, RAM, VS_ROOT, note, tag
from programs import g_stage, pte, vs_stage
from test_nested_rfence import GVMA, HSM, fence

from trapline.privilege.pte import PTE_A, PTE_D, PTE_R, PTE_U, PTE_V, PTE_W, PTE_X

FLAGS = PTE_V | PTE_R | PTE_W | PTE_X | PTE_U | PTE_A | PTE_D
PAGES = [G_ROOT + 0x1000 * n for n in range(8)]
VS_PAGES = [VS_ROOT + 0x1000 * n for n in range(4)]
BLOCKS = 40
VCPUS, SHARE = 4, 0x1_0000  # bytes of notes for each
# Faults of the fetch are never delegated: the guest's own handler may not be mapped either.
NEVER_DELEGATED = 0x1007


def tables(seed: int) -> list[tuple[int, bytes]]:
    """Tables of both stages with entries that point at themselves, into holes, nowhere, or are no entries at all."""
    dice = random.Random(seed)
    found = [*g_stage(8), *vs_stage()]
    for pages in (PAGES, VS_PAGES):
        for _ in range(300):
            kind = dice.randrange(10)
            target = dice.choice(pages) if kind < 4 else FREE + 0x1000 * dice.randrange(128)
            flags = PTE_V if kind < 4 else dice.getrandbits(8) | PTE_V | PTE_U * (dice.randrange(4) > 0)
            entry = pte(HOLE, FLAGS) if kind == 8 else dice.randbytes(8) if kind == 9 else pte(target, flags)
            found.append((dice.choice(pages) + 8 * dice.randrange(512), entry))
    return found


def address(dice: random.Random) -> int:
    """An address that may mean something."""
    near = dice.choice((0, RAM, FREE, HOLE, 1 << 30, 1 << 38, 0x8060_0000, (1 << 64) - (1 << 30)))
    return (near + 0x1000 * dice.randrange(1024) + 8 * dice.randrange(512)) & (1 << 64) - 1


def body(seed: int, blocks: int = BLOCKS, name: str = "") -> str:
    """The program; `name` goes into its labels."""
    dice = random.Random(~seed)
    text = ""
    for n in range(blocks):
        number = f"{name}{n}"
        root = dice.choice((G_ROOT, G_ROOT, G_ROOT, dice.choice(PAGES), HOLE, 0))
        mode = dice.choice((8, 8, 8, 9, 10, 0))
        registers = {
            "hgatp": mode << 60 | dice.randrange(4) << 44 | root >> 12,
            "vsatp": dice.choice((0, 0, 8, 9)) << 60 | dice.choice(VS_PAGES) >> 12,
            "hedeleg": dice.getrandbits(16) & ~NEVER_DELEGATED,
            "vsstatus": dice.choice((0, 1 << 18, 1 << 19, 3 << 18)),
            "hstatus": dice.getrandbits(3) << 20 | dice.getrandbits(1) << 8,
            "henvcfg": dice.choice((0, 1 << 61, 1 << 62, 1 << 63)),
        }
        text += tag(0x700 + n) + "".join(f"li t3, {v}\ncsrw {name}, t3\n" for name, v in registers.items())
        text += dice.choice(("hfence.gvma\n", "hfence.gvma x0, x0\nhfence.vvma\n"))
        for _ in range(2):
            text += f"li s7, {address(dice):#x}\nli t3, 0\n"
            access = dice.choice(("hlv.d t3, (s7)", "hlvx.hu t3, (s7)", "hsv.b t3, (s7)", "hlv.bu t3, (s7)"))
            text += f"{access}\nsd t3, 0(s11)\naddi s11, s11, 8\n"
        privilege = dice.choice(("csrs", "csrc"))
        text += f"la s9, h{number}\nla t0, g{number}\ncsrw sepc, t0\nli t0, 0x80\ncsrs hstatus, t0\nli t0, 0x100\n"
        text += f"{privilege} sstatus, t0\nsret\ng{number}:\nli s7, {address(dice):#x}\n"
        text += dice.choice(("ld t3, 0(s7)\n", "sd t3, 0(s7)\n", "jr s7\n", "amoadd.d t3, t3, (s7)\n"))
        text += f"ecall\nh{number}:\nli s9, 0\ncsrw hstatus, zero\n{note('vsstatus', 'vscause')}"
    return text


def on_four(seed: int) -> str:
    """Four vCPUs, each with random guests of its own on the same tables; they fence one another."""
    text = ""
    for n in range(1, VCPUS):
        text += f"li a0, {n}\nla a1, vcpu{n}\nli a2, 0\nli a6, 0\nli a7, {HSM}\necall\n"
    for n in range(VCPUS):
        text += f"vcpu{n}:\nli s11, {NOTES + SHARE * n:#x}\nli s10, 0\nli s9, 0\nli s8, -1\n"
        text += f"la t0, handler\ncsrw stvec, t0\nli s6, 20\nstorm{n}:\nhfence.gvma\nhfence.vvma\n"
        text += f"addi s6, s6, -1\nbnez s6, storm{n}\n{fence(GVMA, 15, 0, 0, 1 << 40)}"
        text += f"{body(seed + n, 6, f'v{n}_')}rest{n}:\nj rest{n}\n"
    return text
