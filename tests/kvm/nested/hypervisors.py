"""What hypervisors other than KVM do (Xvisor, Bao, small ones), as bodies of bare programs: probing, fences, windows.

As in `programs`, each notes what it sees; the notes must be those of a hart whose H is real.
"""

from __future__ import annotations

from l1 import FREE, G_ROOT, RAM, VS_ROOT, enter, leave, note, tag
from programs import ALL, KINDS, MAPPED, g_stage, pte, vs_stage

from trapline.privilege.pte import PTE_N, PTE_R, PTE_U, PTE_V, PTE_W, PTE_X

SV39X4 = 8 << 60 | G_ROOT >> 12
SV39 = 8 << 60 | VS_ROOT >> 12
SPVP, SUM, MXR = 1 << 8, 1 << 18, 1 << 19
WINDOWS = 0x20  # number of the first page of MAPPED that a program here maps as it likes
LEAVES = G_ROOT + 0x5000  # entries of MAPPED's pages under g_stage(8)
NOTE_T3 = "sd t3, 0(s11)\naddi s11, s11, 8\n"
A_LITTLE = 24


def put(name: str, value: int) -> str:
    """Assembly that writes a CSR."""
    return f"li t3, {value & (1 << 64) - 1:#x}\ncsrw {name}, t3\n"


def inside(name: str, text: str, *, user: bool = False) -> str:
    """Assembly that enters the guest, executes some there and leaves it."""
    return f"{enter(f'{name}_in', user=user)}{name}_in:\n{text}{leave(f'{name}_out')}{name}_out:\n"


def probes() -> str:
    """Look for modes, widths and bits: hgatp, satp, vsatp, the VMID's and ASID's lengths, each bit of each mask."""
    body = ""
    for mode in range(16):
        for name in ("hgatp", "vsatp"):
            body += put(name, mode << 60 | FREE >> 12) + note(name) + put(name, 0)
        body += put("hgatp", 8 << 60) + put("hgatp", mode << 60 | 0x3FFF << 44) + note("hgatp") + put("hgatp", 0)
        if not 8 <= mode <= 10:
            body += inside(f"m{mode}", put("satp", mode << 60 | 0x1 << 44) + note("satp") + put("satp", 0))
    body += put("hgatp", 8 << 60 | ((1 << 60) - 1)) + note("hgatp") + put("hgatp", 0)
    body += put("vsatp", 8 << 60 | ((1 << 60) - 1)) + note("vsatp") + put("vsatp", 0)
    for bit in range(1, 64):  # Spike has no henvcfg.FIOM
        body += "".join(put(name, 1 << bit) + note(name) for name in ("hideleg", "hedeleg", "henvcfg", "hcounteren"))
    for name in ("hideleg", "hedeleg", "henvcfg", "hcounteren"):
        body += put(name, 0)
    for csr in (
        0x606,
        0x608,
        0x609,
        0x60A,
        0x618,
        0x646,
        0x647,
        0x655,
        0x656,
        0x214,
        0x215,
        0x250,
        0x251,
        0xEB0,
        0xE12,
    ):
        body += f"{tag(csr)}li t3, 0\ncsrr t3, {csr:#x}\n{NOTE_T3}li t4, -1\ncsrw {csr:#x}, t4\ncsrw {csr:#x}, zero\n"
    return body


def counters() -> str:
    """Read counters in vVS and vVU under each setting of hcounteren and scounteren, and time under htimedelta."""
    body, number = "", 0
    for open_to_guest in (0, 2):  # the others are L0's to give: as of a flat guest
        for open_to_user in (0, 7):
            for user in (False, True):
                number += 1
                reads = "".join(
                    f"li t3, 0\n{text}\nsnez t3, t3\n{NOTE_T3}"
                    for text in (
                        "rdcycle t3",
                        "rdtime t3",
                        "rdinstret t3",
                        "csrr t3, hpmcounter3",
                        "csrr t3, hpmcounter31",
                    )
                )
                body += put("hcounteren", open_to_guest) + put("scounteren", open_to_user)
                body += tag(0x800 + number) + inside(f"c{number}", reads, user=user)
    body += put("hcounteren", 2) + put("scounteren", 2)
    for n, delta in enumerate((0, 5 << 40, -(1 << 60))):
        body += put("htimedelta", delta) + inside(f"d{n}", f"rdtime t3\nsrai t3, t3, 36\n{NOTE_T3}")
    return body + put("htimedelta", 0)


def floating_point() -> str:
    """Both gates of floating point, sstatus.FS and vsstatus.FS, and which of them an instruction makes dirty."""
    body, number = "", 0
    for outer in range(4):
        for inner in range(4):
            number += 1
            body += f"{tag(0x900 + number)}li t3, {3 << 13}\ncsrc sstatus, t3\nli t3, {outer << 13}\ncsrs sstatus, t3\n"
            body += put("vsstatus", inner << 13)
            work = f"fmv.d.x f1, zero\n{note('sstatus')}csrr t3, fflags\n{NOTE_T3}{note('sstatus')}"
            body += inside(f"f{number}", work) + note("sstatus", "vsstatus")
    return f"{body}li t3, {3 << 13}\ncsrs sstatus, t3\n"


def loads_as_guest() -> str:
    """HLV, HLVX and HSV under SPVP, SUM and MXR of either status, through both stages and one."""
    body, number = "", 0
    accesses = ("hlv.bu t3, (s7)", "hlvx.hu t3, (s7)", "hlvx.wu t3, (s7)", "hlv.d t3, (s7)", "hsv.w t3, (s7)")
    places = (2 << 30 | 0x30_0000, 4 << 30 | 0x30_0000, 6 << 30 | 0x30_0000, 7 << 30 | 0x30_0000)
    for hgatp in (0, SV39X4):
        for vsatp in (0, SV39):
            for outer in (0, MXR, SUM):
                for inner in (0, MXR, SUM):
                    for spvp in (0, SPVP):
                        number += 1
                        body += put("hgatp", hgatp) + put("vsatp", vsatp) + put("vsstatus", inner)
                        body += "hfence.gvma\nhfence.vvma\n"
                        body += f"{tag(0xA00 + number)}li t3, {SPVP:#x}\ncsrc hstatus, t3\n"
                        body += f"li t3, {spvp:#x}\ncsrs hstatus, t3\nli t3, {outer:#x}\ncsrs sstatus, t3\n"
                        for place in places if vsatp else (FREE, MAPPED + 0x3000):
                            body += f"li s7, {place:#x}\n" + "".join(f"li t3, 0x33\n{a}\n{NOTE_T3}" for a in accesses)
                        body += f"li t3, {outer:#x}\ncsrc sstatus, t3\n"
    return body + put("hgatp", 0) + put("vsatp", 0)


def tables_of_guest() -> list[tuple[int, bytes]]:
    """Tables of both stages, with gigabytes that may only be executed, or executed by user code."""
    execute = ALL & ~(PTE_R | PTE_W)
    return [
        *g_stage(8), *vs_stage(),
        (VS_ROOT + 8 * 6, pte(RAM, execute)), (VS_ROOT + 8 * 7, pte(RAM, execute | PTE_U)),
    ]  # fmt: skip


def readable_code() -> str:
    """The guest's own loads from what may only be executed, in either stage, with MXR of either status."""
    body, number = put("hgatp", SV39X4), 0
    for outer in (0, MXR):
        for inner in (0, MXR):
            for place in (MAPPED + 0x3000, MAPPED + 0x1000, FREE):
                number += 1
                load = f"li s7, {place:#x}\nli t3, 0\nld t3, 0(s7)\n{NOTE_T3}"
                body += (
                    f"{tag(0xB00 + number)}li t3, {outer:#x}\ncsrs sstatus, t3\n{put('vsstatus', inner)}hfence.gvma\n"
                )
                body += f"{inside(f'x{number}', load)}li t3, {outer:#x}\ncsrc sstatus, t3\n"
    return body


GUEST_FENCES = (
    *("hfence.gvma t5, zero", "hfence.gvma t5, t6", "hfence.gvma zero, t6", "hfence.gvma"),
    "sfence.w.inval\nhinval.gvma t5, t6\nsfence.inval.ir",
    "sfence.w.inval\nhinval.gvma zero, zero\nsfence.inval.ir",
)
VIRTUAL_FENCES = ("hfence.vvma t5, zero", "hfence.vvma zero, t6", "hfence.vvma t5, t6", "hfence.vvma")


def _changed(name: str, leaf: int, entry: bytes, given: str, place: int) -> str:
    """Assembly that changes a leaf, fences, and has the guest load."""
    text = f"{tag(0xC00)}li t3, {int.from_bytes(entry, 'little'):#x}\nli t4, {leaf:#x}\nsd t3, 0(t4)\n{given}\n"
    return text + inside(name, f"li s7, {place:#x}\nli t3, 0\nld t3, 0(s7)\n{NOTE_T3}")


def fences() -> str:
    """Change leaves of either stage and fence: by address, by VMID or ASID, by both, all; by Svinval too."""
    place, body = MAPPED + 0x1000 * WINDOWS, put("hgatp", SV39X4 | 3 << 44)
    entries = (pte(FREE + 0x2000, ALL | PTE_U), pte(FREE + 0x3000, ALL | PTE_U), bytes(8), pte(FREE, ALL))
    for number, fence in enumerate(GUEST_FENCES):
        for n, entry in enumerate(entries):
            given = f"li t5, {place >> 2:#x}\nli t6, 3\n{fence}"
            body += _changed(f"g{number}_{n}", LEAVES + 8 * WINDOWS, entry, given, place)
    body += put("hgatp", SV39X4) + "hfence.gvma\n" + put("vsatp", SV39)
    place = 9 << 30 | 0x30_2000
    for number, fence in enumerate(VIRTUAL_FENCES):
        for n, entry in enumerate((pte(RAM, ALL), bytes(8), pte(RAM, ALL | PTE_U))):
            given = f"li t5, {place:#x}\nli t6, 0\n{fence}"
            body += _changed(f"v{number}_{n}", VS_ROOT + 8 * 9, entry, given, place)
    return body + put("vsatp", 0)


def pages_of_fences() -> list[tuple[int, bytes]]:
    """The tables, and something to read in each page that `fences` maps."""
    return [*tables_of_guest(), *((FREE + 0x1000 * n, bytes([n]) * 8) for n in range(1, 8))]


PENDING = (  # hideleg and hvip
    *((0x444, 0x444), (0x444, 0x044), (0x444, 0x004), (0, 0x444), (0, 0x044)),
    *((0x400, 0x444), (0x040, 0x444), (0x004, 0x404)),
)


def vectors() -> str:
    """Vectored stvec and vstvec, and which of several pending interrupts is taken first."""
    body = "la t3, own_vectors\nori t3, t3, 1\ncsrw stvec, t3\nla t3, guest_vectors\nori t3, t3, 1\ncsrw vstvec, t3\n"
    body += put("vsie", 0x222) + put("hie", 0x1444)
    for number, (hideleg, hvip) in enumerate(PENDING):
        body += put("hideleg", hideleg) + put("vsie", 0x222) + put("vsstatus", 2) + put("hvip", hvip)
        body += f"{tag(0xE00 + number)}la s9, w{number}_out\n{enter(f'w{number}_in')}w{number}_in:\nnop\n"
        body += f"{note('sip')}ecall\nw{number}_out:\nli s9, 0\n{put('hvip', 0)}{note('scause', 'vscause', 'hip')}"
    body += "la t3, handler\ncsrw stvec, t3\nla t3, inner\ncsrw vstvec, t3\ncsrw hie, zero\nj vectors_end\n"
    for name, after in (("own", "jr s9\n"), ("guest", "csrw sie, zero\nsret\n")):
        csrs = ("scause", "sepc", "hstatus", "sstatus") if name == "own" else ("scause", "sepc", "sstatus", "sip")
        body += f".align 8\n{name}_vectors:\n" + "".join(f"j {name}_{n}\n" for n in range(16))
        body += "".join(f"{name}_{n}:\n{tag(0xF00 + n)}j {name}_all\n" for n in range(16))
        body += f"{name}_all:\n{note(*csrs)}{after}"
    return f"{body}vectors_end:\n"


def cache_blocks() -> str:
    """Cache-block instructions of vVS and vVU under each setting of henvcfg and senvcfg."""
    body, number = "", 0
    texts = ("cbo.clean (s7)", "cbo.flush (s7)", "cbo.inval (s7)", "cbo.zero (s7)")
    for outer in (0, 0x10, 0x30, 0x40, 0x80, 0xF0):
        for inner in (0, 0xF0, 0x50):
            for user in (False, True):
                number += 1
                body += (
                    put("henvcfg", outer) + put("senvcfg", inner) + f"li s7, {FREE + 0x4000:#x}\n{tag(0x1000 + number)}"
                )
                body += inside(f"z{number}", "".join(f"{text}\n" for text in texts), user=user)
    return body + put("henvcfg", 0) + put("senvcfg", 0)


OFFSETS = (1, 2, 3, 6, 7, -1, -2, -3, -5)
WIDTHS = ("lh", "lw", "ld", "sh", "sd", "lbu")


def misaligned() -> str:
    """Accesses of the guest at each offset in and across pages of each kind, with what they leave in registers."""
    body = put("hgatp", SV39X4 | 7 << 44) + "hfence.gvma\n"
    accesses = "".join(f"li t3, 0x55\n{name} t3, {o}(s7)\n{NOTE_T3}" for name in WIDTHS for o in OFFSETS)
    for number, page in enumerate((0, 2, 4, 7, len(KINDS), len(KINDS) + 1)):
        body += f"{tag(0x1100 + number)}li s7, {MAPPED + 0x1000 * page:#x}\n" + inside(f"y{number}", accesses)
    return body


def memory_types() -> str:
    """Leaves of 64 KiB, of memory types and with reserved bits, in both stages, by henvcfg.PBMTE and ADUE."""
    body, number = "", 0
    for henvcfg in (0, 1 << 62, 1 << 61, 3 << 61):
        body += put("henvcfg", henvcfg) + put("hgatp", SV39X4) + put("vsatp", SV39) + "hfence.gvma\nhfence.vvma\n"
        for place in [11 << 30 | 0x1000 * n for n in range(len(ODD))] + [3 << 30 | 0x30_0000]:
            number += 1
            text = f"li t3, 0\nld t3, 0(s7)\n{NOTE_T3}sd t3, 0(s7)\n"
            body += f"{tag(0x1200 + number)}li s7, {place:#x}\n" + inside(f"t{number}", text)
        body += put("vsatp", 0) + "hfence.vvma\n"
        for page in range(len(ODD)):
            number += 1
            text = f"li t3, 0\nld t3, 0(s7)\n{NOTE_T3}sd t3, 0(s7)\n"
            body += f"{tag(0x1300 + number)}li s7, {MAPPED + 0x1000 * (WINDOWS + page):#x}\n" + inside(
                f"u{number}", text
            )
    return body + put("henvcfg", 0)


_NAPOT = PTE_N | ALL
# What is added to a leaf that leads to FREE + 0x10000, in units of its own bits.
ODD = (
    *(_NAPOT | 8 << 10, _NAPOT | 4 << 10, _NAPOT | 1 << 10, _NAPOT, ALL | 1 << 61, ALL | 2 << 61, ALL | 3 << 61),
    *(
        ALL | 1 << 60,
        ALL | 1 << 57,
        _NAPOT | 8 << 10 | 1 << 61,
        ALL & ~(1 << 6),
        ALL & ~(1 << 7),
        PTE_V | PTE_W | PTE_X,
    ),
)


def odd_tables() -> list[tuple[int, bytes]]:
    """Tables for `memory_types`: VS_ROOT's gigabyte 11, and pages of MAPPED from WINDOWS on."""
    base = (FREE + 0x1_0000) >> 12 << 10
    directory, table = FREE + 0x7_0000, FREE + 0x7_1000
    found = [*tables_of_guest(), (VS_ROOT + 8 * 11, pte(directory, PTE_V)), (directory, pte(table, PTE_V))]
    for n, odd in enumerate(ODD):
        found.append((table + 8 * n, (base | odd).to_bytes(8, "little")))
        found.append((LEAVES + 8 * (WINDOWS + n), (base | odd | PTE_U).to_bytes(8, "little")))
    return found
