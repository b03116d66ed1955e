"""A guest hypervisor that does what it should not: random tables, registers and accesses, the same for each seed."""

from __future__ import annotations

import random
from typing import get_args

from l1 import FREE, G_ROOT, HOLE, L1_BASE, NOTES, RAM, RAM_SIZE, VS_ROOT, nested_vm, note, program, tag
from programs import g_stage, pte, vs_stage
from test_nested_nacl import call, index
from test_nested_rfence import GVMA, HSM, fence, store

from trapline.policies.names import NaclFeature
from trapline.privilege.pte import PTE_A, PTE_D, PTE_R, PTE_U, PTE_V, PTE_W, PTE_X

FLAGS = PTE_V | PTE_R | PTE_W | PTE_X | PTE_U | PTE_A | PTE_D
PAGES = [G_ROOT + 0x1000 * n for n in range(8)]
VS_PAGES = [VS_ROOT + 0x1000 * n for n in range(4)]
BLOCKS = 40
VCPUS, SHARE = 4, 0x1_0000  # bytes of notes for each
# Faults of the fetch are never delegated: the guest's own handler may not be mapped either.
NEVER_DELEGATED = 0x1007
LAST = RAM + RAM_SIZE - 0x3000


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


# Where L1 shares memory with L0: in its place, over its notes, tables and code, and where it cannot.
SHARED = (FREE, FREE, FREE + 0x3000, NOTES + 0x3_0000, G_ROOT, VS_ROOT, L1_BASE, L1_BASE + 0x2000, LAST)
REFUSED = (FREE + 8, HOLE, -1)
H_CSRS = (0x200, 0x204, 0x205, 0x240, 0x241, 0x242, 0x243, 0x244, 0x280, 0x24D, 0x600, 0x602, 0x603, 0x604, 0x605,
          0x606, 0x607, 0x60A, 0x643, 0x644, 0x645, 0x64A, 0x680, 0x6FF, 0xE12)  # fmt: skip


def _words(dice: random.Random, at: int) -> str:
    """What L1 writes into the shared memory: registers with and without their marks, fences, the word to exchange."""
    text = ""
    for _ in range(dice.randrange(6)):
        csr = dice.choice(H_CSRS)
        n = index(csr)
        value = dice.choice((0, dice.getrandbits(12), dice.getrandbits(64), 8 << 60 | G_ROOT >> 12))
        text += store(at + 0x1000 + 8 * n, value) + store(at + 0xF80 + n // 64 * 8, 1 << n % 64)
    for _ in range(dice.randrange(4)):
        entry = at + 0x800 + 32 * dice.randrange(60)
        config = 1 << 63 | dice.randrange(16) << 56 | dice.choice((0, 9, 18, 127)) << 48 | dice.getrandbits(30)
        text += store(entry, config) + store(entry + 8, address(dice) >> 12)
        text += store(entry + 24, dice.choice((0, 1, 64, 65, (1 << 64) - 1)))
    hstatus = dice.choice((0x180, 0x20_0180, (1 << 64) - 1))
    return f"{text}{store(at + 0x200, dice.choice((0, 1, 3)))}{store(at + 0x208, hstatus)}"


def accelerated(seed: int, blocks: int = 12) -> str:
    """L1 shares memory wherever it likes, over its own code and tables too, moves it, and enters L2 with it."""
    dice = random.Random(seed ^ 0x4E41_434C)
    text, at = "", FREE
    for n in range(blocks):
        text += tag(0x900 + n)
        if n == 0 or dice.randrange(2):
            at = FREE if n == 0 else dice.choice((*SHARED, *REFUSED))
            text += call(1, at, -1 if at == -1 else dice.choice((0, 0, 0, 0, 1)), dice.choice((0, 0, 0, 0, 1)))
        if at not in REFUSED:
            text += _words(dice, at)
        for _ in range(dice.randrange(3)):
            text += call(dice.choice((0, 2, 3)), dice.choice((-1, -1, 0, 59, 60, *H_CSRS)))
        hgatp = dice.choice((8, 9, 0)) << 60 | dice.randrange(3) << 44 | G_ROOT >> 12
        text += f"li t0, {hgatp}\ncsrw hgatp, t0\nla s9, h{n}\nla t0, g{n}\ncsrw sepc, t0\n"
        text += "li t0, 0x180\ncsrs hstatus, t0\nli t0, 0x100\ncsrs sstatus, t0\n"
        if at not in REFUSED and dice.randrange(8):
            text += f"li t0, {at}\n" + "".join(f"sd x{x}, {8 * x}(t0)\n" for x in (24, 25, 26, 27))
        text += dice.choice((f"{call(4)}j h{n}\n", f"{call(4)}j h{n}\n", "sret\n"))
        access = dice.choice(("ld t3, 0(s7)", "sd t3, 0(s7)", "csrw sscratch, s7"))
        text += f"g{n}:\nli s7, {address(dice):#x}\n{access}\necall\n"
        text += f"h{n}:\nli s9, 0\ncsrw hstatus, zero\n{note('vsstatus', 'vsscratch')}"
    return text


def run_accelerated(seed: int, engine: str, limit: int) -> tuple[object, ...]:
    """How such a program ends with some of NACL's features, whether in L2, and all memory that it leaves."""
    dice = random.Random(seed)
    nacl = tuple(name for name in get_args(NaclFeature) if dice.randrange(4))
    vm = nested_vm(program(accelerated(seed)), tables(seed), engine=engine, nacl=nacl)
    result = vm.run(None, max_instructions=limit)
    in_l2 = result.death is not None and int(vm.vcpus[0].hart.kvm_world) != 0
    return in_l2, result.reason, str(result.death), vm.vcpus[0].pc, vm.read_memory(RAM, RAM_SIZE)
