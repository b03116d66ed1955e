"""What a bare guest hypervisor does in the tests: the bodies of its programs, and the page tables that they use."""

from __future__ import annotations

from l1 import FREE, G_ROOT, HOLE, RAM, VS_ROOT, enter, leave, note, tag

from trapline.privilege.pte import PTE_A, PTE_D, PTE_R, PTE_U, PTE_V, PTE_W, PTE_X

H_CSRS = (
    *("hstatus", "hedeleg", "hideleg", "hie", "hip", "hvip", "hgeie", "hgeip", "htimedelta", "hcounteren", "henvcfg"),
    *("htval", "htinst", "hgatp", "vsstatus", "vsie", "vsip", "vstvec", "vsepc", "vsscratch", "vscause", "vstval"),
    *("vsatp", "vstimecmp"),
)
ALL = PTE_V | PTE_R | PTE_W | PTE_X | PTE_A | PTE_D
MAPPED, MEGA = 0x8060_0000, 0x20_0000  # of the guest's physical addresses: 4 KiB pages, one of each kind
KINDS = (
    *(0, ALL | PTE_U, ALL & ~PTE_W | PTE_U, PTE_V | PTE_X | PTE_A | PTE_D | PTE_U, ALL, ALL & ~PTE_A | PTE_U),
    *(ALL & ~PTE_D | PTE_U, PTE_V | PTE_W | PTE_A | PTE_D | PTE_U, ALL | PTE_U | 1 << 54, PTE_V | PTE_A),
)
REACH_HOLE = len(KINDS)  # pages that lead to where nothing answers, and to what is read as code


def pte(address: int, flags: int) -> bytes:
    """A page table entry."""
    return (address >> 12 << 10 | flags).to_bytes(8, "little")


def g_stage(mode: int = 8) -> list[tuple[int, bytes]]:
    """Tables that map RAM to itself, its megabytes 6 and 7 by pages of KINDS that all lead to FREE."""
    tables, table, levels = [], G_ROOT, mode - 5
    for level in range(levels - 1, 0, -1):
        below = G_ROOT + 0x4000 + 0x1000 * (levels - 1 - level)
        if level == 1:
            tables += [(table + 8 * (RAM >> 21 & 511) + 8 * n, pte(RAM + n * MEGA, ALL | PTE_U)) for n in range(4)]
            # A leaf that is no multiple of its size.
            tables.append((table + 8 * 8, pte(FREE + 0x1000, ALL | PTE_U)))
            tables.append((table + 8 * (MAPPED >> 21 & 511), pte(below, PTE_V)))
        else:
            index = MAPPED >> 12 + 9 * level & (2047 if level == levels - 1 else 511)
            tables.append((table + 8 * index, pte(below, PTE_V)))
        table = below
    pages = [(FREE, kind) for kind in KINDS] + [(HOLE, ALL | PTE_U), (FREE + 0x1000, ALL | PTE_U)]
    return [*tables, *((table + 8 * n, pte(address, flags)) for n, (address, flags) in enumerate(pages))]


def csrs() -> str:
    """Write patterns to each CSR of the H extension and note what it reads then."""
    body = ""
    for name in H_CSRS:
        kept = ~int(name == "henvcfg")  # Spike has no henvcfg.FIOM
        for pattern in (-1, 0x5555_5555_5555_5555, 0x8000_0000_8000_1FFF, 0):
            body += f"li t3, {pattern & kept}\ncsrrw t4, {name}, t3\nsd t4, 0(s11)\naddi s11, s11, 8\n{note(name)}"
        body += f"li t3, {0x333 & kept}\ncsrrs t4, {name}, t3\n{note(name)}csrrci t4, {name}, 17\n{note(name)}"
    return body


PRIVILEGED = (
    *("csrr t3, {csr}", "csrw {csr}, t3"),
    *("sret", "wfi", "mret", "sfence.vma", "sinval.vma x0, x0", "sfence.w.inval", "hfence.vvma", "hfence.gvma"),
    *("hinval.gvma x0, x0", "hlv.d t3, (s7)", "hsv.d t3, (s7)", "hlvx.wu t3, (s7)", "csrr t3, satp", "csrw satp, t3"),
    *(
        "rdtime t3",
        "csrr t3, mstatus",
        "csrr t3, 0x5c0",
        "csrr t3, 0x6ff",
        ".word 0",
        "ebreak",
        "ecall",
        "csrr t3, stimecmp",
    ),
)


def instructions() -> list[str]:
    """Every privileged instruction, one for each CSR where it names one; without those that wait or go away."""
    found = []
    for text in PRIVILEGED:
        found += (
            [text.format(csr=name) for name in ("hstatus", "vsstatus", "hgeip", "vsatp")] if "{" in text else [text]
        )
    return [text for text in found if text != "wfi"]


def every_instruction(hstatus: int, hedeleg: int, hcounteren: int, henvcfg: int) -> str:
    """Execute each of them in vVS, vVU and vU, under these registers."""
    body = f"li t3, {hstatus}\ncsrw hstatus, t3\nli t3, {hedeleg}\ncsrw hedeleg, t3\n"
    body += f"li t3, {hcounteren}\ncsrw hcounteren, t3\n"
    body += f"li t3, {henvcfg}\nslli t3, t3, 56\ncsrw henvcfg, t3\nli s7, {FREE}\nli t3, 7\ncsrw scounteren, t3\n"
    for number, text in enumerate(instructions()):
        for user in (False, True):
            name = f"i{number}_{int(user)}"
            if text == "sret" and (user or not hstatus >> 22 & 1):
                continue  # it goes elsewhere
            trap = "" if text == "ecall" else leave(f"{name}_out")
            setter = f"la s9, {name}_out\n" if text == "ecall" else ""
            body += f"{tag(0x100 + number)}{setter}{enter(f'{name}_in', user=user)}{name}_in:\n"
            body += f"li t3, 0\n{text}\nmv t4, t3\n{trap}{name}_out:\n"
            body += "csrw vsatp, zero\nli t0, 2\ncsrc hstatus, zero\n"
    return body


def user_of_the_hypervisor() -> str:
    """Each of them in vU, with and without hstatus.HU."""
    body = f"li s7, {FREE}\n"
    for hu in (0, 1):
        body += f"li t3, {hu << 9}\ncsrw hstatus, t3\n"
        for number, text in enumerate(instructions()):
            if text == "ecall":
                continue
            name = f"u{number}_{hu}"
            body += (
                f"{tag(0x200 + number)}la t0, {name}_in\ncsrw sepc, t0\nli t0, 0x100\ncsrc sstatus, t0\nli t0, 0x80\n"
            )
            body += f"csrc hstatus, t0\nsret\n{name}_in:\nli t3, 0\n{text}\nmv t4, t3\n"
            body += f"{leave(f'{name}_out')}{name}_out:\n"
    return body


ACCESSES = (
    *("lb t3, 0(s7)", "ld t3, 0(s7)", "sb t3, 3(s7)", "sd t3, 8(s7)", "amoadd.d t3, t3, (s7)", "lr.d t3, (s7)"),
    *("sc.d t3, t3, (s7)", "cbo.zero (s7)"),
)


def page_faults(mode: int = 8, step: int = 1) -> str:
    """Accesses of the guest to pages of each kind of its hypervisor's G-stage, with HLV and HSV beside."""
    body = f"li t3, {mode << 60 | 5 << 44 | G_ROOT >> 12:#x}\ncsrw hgatp, t3\nhfence.gvma\n"
    places = [MAPPED + 0x1000 * n for n in range(len(KINDS) + 3)] + [RAM + 8 * MEGA, 8 * MEGA, 1 << 41, 1 << 55]
    for number, place in enumerate(places[::step]):
        body += f"{tag(0x300 + number)}li s7, {place:#x}\n{enter(f'p{number}_in')}p{number}_in:\n"
        body += "".join(
            f"li t3, {0x7700 + n}\n{text}\nsd t3, 0(s11)\naddi s11, s11, 8\n" for n, text in enumerate(ACCESSES)
        )
        body += f"la s10, p{number}_back\njr s7\np{number}_back:\n{leave(f'p{number}_out')}p{number}_out:\n"
        body += "".join(
            f"li t3, 0x44\n{text}\nsd t3, 0(s11)\naddi s11, s11, 8\n"
            for text in ("hlv.d t3, (s7)", "hsv.w t3, (s7)", "hlvx.hu t3, (s7)", "hlv.bu t3, (s7)")
        )
    return body


def vs_stage() -> list[tuple[int, bytes]]:
    """Sv39 tables of the guest: GiB 2 as it is, GiB 1 by a table in a page of each of KINDS."""
    return [
        (VS_ROOT + 8 * 2, pte(RAM, ALL)),
        *((VS_ROOT + 8 * (16 + n), pte(MAPPED + 0x1000 * n, PTE_V)) for n in range(len(KINDS) + 2)),
        (VS_ROOT + 8 * 3, pte(RAM, ALL & ~PTE_A)),
        (VS_ROOT + 8 * 4, pte(RAM, ALL | PTE_U)),
        (FREE, pte(RAM, ALL)),
        (FREE + 8, pte(RAM, ALL & ~PTE_D)),
    ]


def implicit_faults() -> str:
    """Accesses of a guest that translates, whose tables lie in pages of each kind of the G-stage."""
    body = (
        f"li t3, {8 << 60 | 6 << 44 | G_ROOT >> 12:#x}\ncsrw hgatp, t3\nhfence.gvma\nli t3, 0xb1ff\ncsrw hedeleg, t3\n"
    )
    body += f"li t3, {8 << 60 | VS_ROOT >> 12:#x}\ncsrw vsatp, t3\nhfence.vvma\n"
    places = [(16 + n << 30) + page for n in range(len(KINDS) + 2) for page in (0x30_0000, 0x50_0000)]
    for number, place in enumerate([*places, 3 << 30, 4 << 30, 5 << 30]):
        body += f"{tag(0x400 + number)}li s7, {place:#x}\n{enter(f'q{number}_in')}q{number}_in:\n"
        body += "ld t3, 0(s7)\nsd t3, 0(s7)\n"
        body += f"la s10, q{number}_back\njr s7\nq{number}_back:\n{leave(f'q{number}_out')}q{number}_out:\n"
        body += "hlv.d t3, (s7)\nhsv.w t3, (s7)\nhlvx.hu t3, (s7)\n"
    return body


def interrupts() -> str:
    """Injection by hvip with each hideleg, interrupts that the hypervisor keeps, and those of its own lines."""
    body = ""
    number = 0
    for hideleg in (0x444, 0x004, 0):
        for bit in (2, 6, 10):
            for sie in (0, 2):
                number += 1
                name = f"j{number}"
                body += f"{tag(0x500 + number)}li t3, {hideleg}\ncsrw hideleg, t3\nli t3, 0x1444\ncsrw hie, t3\n"
                body += (
                    f"li t3, 0x222\ncsrw vsie, t3\nli t3, {sie}\ncsrw vsstatus, t3\nli t3, {1 << bit}\ncsrw hvip, t3\n"
                )
                body += note("hip", "hie", "vsip", "vsie", "hvip")
                body += enter(f"{name}_in") + f"{name}_in:\nnop\nnop\n{note('sip', 'sie', 'sstatus')}"
                body += (
                    f"csrci sip, 2\n{note('sip')}csrsi sip, 2\n{note('sip')}csrsi sstatus, 2\nnop\ncsrci sstatus, 2\n"
                )
                body += f"{leave(f'{name}_out')}{name}_out:\ncsrw hie, zero\ncsrw hvip, zero\n"
                body += note("hip", "vsip", "hstatus")
    # A trap of the hypervisor itself between two runs of its guest.
    body += f"{tag(0x599)}li t3, 0x180\ncsrs hstatus, t3\nebreak\n{note('hstatus', 'htval')}"
    return body


def own_traps() -> str:
    """Traps that the hypervisor takes itself: before it enters its guest, and between hstatus and SRET."""
    body = f"ebreak\n{enter('r0_in')}r0_in:\n{leave('r0_out')}r0_out:\n{note('hstatus')}ebreak\n{note('hstatus')}"
    body += "li t0, 0x180\ncsrs hstatus, t0\nli t0, 5\ncsrw htval, t0\ncsrw htinst, t0\nebreak\n"
    body += f"{note('hstatus', 'htval', 'htinst')}{enter('r1_in')}r1_in:\n{leave('r1_out')}r1_out:\n"
    # SPV is gone: this SRET stays in the hypervisor.
    body += "la t0, r2_in\ncsrw sepc, t0\nli t0, 0x180\ncsrs hstatus, t0\nebreak\nla t0, r2_in\ncsrw sepc, t0\n"
    body += f"li t0, 0x100\ncsrs sstatus, t0\nsret\nr2_in:\n{note('hgatp', 'hstatus')}"
    # Behind a visit of the guest, a trap that firmware hands to the hypervisor.
    return f"{body}{enter('r3_in')}r3_in:\n{leave('r3_out')}r3_out:\n.word 0\n{note('hstatus', 'htval')}"
