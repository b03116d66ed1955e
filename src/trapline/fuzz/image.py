"""The guest that runs made programs, one behind the other: a kernel of a few dozen instructions, tables, and slots.

For each program the kernel loads every register from tables, enters the program's mode, notes each exception of it
(scause, sepc, stval, sstatus), and goes on behind the instruction; an exception outside of the program, or the last
that is allowed, ends it. Then all registers are noted. Behind the last program it writes END to the test finisher.
The addresses are those of `lab.probe.image`, so that a hypervisor in the middle (`lab.nested.image`) can run it, too.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random

from trapline.isa.assemble import assemble, assemble_program
from trapline.lab.probe import image as probe
from trapline.privilege.fields import ATP_MODE_SHIFT, ATP_SV39
from trapline.privilege.pte import PTE_A, PTE_D, PTE_G, PTE_N, PTE_R, PTE_U, PTE_V, PTE_W, PTE_X

RAM = probe.RAM
CODE = RAM + 0x1_0000  # slots of programs
SLOT, PROGRAMS = 128, 256
ZOOS = 64  # tables of odd entries
ROOM = SLOT - 16  # bytes of a program
LOG, RECORDS, STRIDE = RAM + 0x4_0000, 7, 1024  # of a program
LOG_SIZE = PROGRAMS * STRIDE
CONTROL = RAM + 0x8_0000  # the kernel's variables
DESCRIPTORS = RAM + 0x8_1000
DATA = RAM + 0x9_0000  # what programs write to
TABLE, MIDDLE, ZOO, USER_MIDDLE, USER_PAGES = (RAM + 0x10_0000 + 0x1000 * n for n in range(5))
MAPPED = 0x10_5000  # of RAM, from its start: what the kernel and the programs have
EDGE = RAM + 0x9_1000  # the page behind it belongs to others
CODE_SIZE, DATA_SIZE = PROGRAMS * SLOT, 0x2000
GIB = 1 << 30
MMIO = 0x1000_8000  # the last virtio transport of `trapline run`, where nothing is plugged in
USER = probe.USER
END, MARK = probe.END, 0x1111
ECALL, EBREAK = (0x73).to_bytes(4, "little"), (0x10_0073).to_bytes(4, "little")
# Where the words of the kernel's variables lie.
_T0, _T1, _T2, _RECORD, _BASE, _FIRST, _LAST, _INDEX, _COUNT, _LEFT, _WINDOW = (8 * n for n in range(11))
INDEX = CONTROL + _INDEX  # how many programs have begun
REGISTERS, FCSR, FLOATS = 256, 504, 512  # in a program's log
_ALL = PTE_V | PTE_R | PTE_W | PTE_X | PTE_A | PTE_D

_SOURCE = """
start:
  li tp, {control:#x}
  la t0, handler
  csrw stvec, t0
  li t0, {satp:#x}
  csrw satp, t0
  sfence.vma
  li t0, 7
  csrw scounteren, t0
  li t0, 0xf0
  csrw senvcfg, t0
  fence.i
  j next

  .align 2
handler:
  {enter}
  sd t0, {t0}(tp)
  sd t1, {t1}(tp)
  sd t2, {t2}(tp)
  csrr t0, scause
  bltz t0, interrupt
  ld t1, {record}(tp)
  sd t0, 0(t1)
  csrr t2, sepc
  sd t2, 8(t1)
  csrr t0, stval
  sd t0, 16(t1)
  csrr t0, sstatus
  sd t0, 24(t1)
  addi t1, t1, 32
  sd t1, {record}(tp)
  ld t0, {left}(tp)
  addi t0, t0, -1
  sd t0, {left}(tp)
  beqz t0, done
  ld t0, {first}(tp)
  bltu t2, t0, done
  ld t0, {last}(tp)
  bgeu t2, t0, done
  ld t0, {window}(tp)
  sub t0, t2, t0
  lhu t0, 0(t0)
  andi t0, t0, 3
  addi t0, t0, -3
  addi t2, t2, 2
  bnez t0, 1f
  addi t2, t2, 2
1:csrw sepc, t2
  j back
interrupt:
  csrw sie, zero
back:
  ld t0, {t0}(tp)
  ld t1, {t1}(tp)
  ld t2, {t2}(tp)
  {leave}
  sret

done:
  li t1, {fs:#x}
  csrs sstatus, t1
  ld t1, {base}(tp)
{save}
  ld t0, {t0}(tp)
  sd t0, {at_t0}(t1)
  ld t0, {t1}(tp)
  sd t0, {at_t1}(t1)
  ld t0, {t2}(tp)
  sd t0, {at_t2}(t1)
  {save_tp}
  csrr t0, fcsr
  sd t0, {fcsr}(t1)
next:
  ld t0, {index}(tp)
  ld t1, {count}(tp)
  bgeu t0, t1, over
  slli t1, t0, 4
  addi t2, t0, 1
  sd t2, {index}(tp)
  li t2, {descriptors:#x}
  add t1, t1, t2
  ld t2, 8(t1)
  sd t2, {last}(tp)
  ld t2, 0(t1)
  sd t2, {first}(tp)
  csrw sepc, t2
  slli t0, t0, {stride_shift}
  li t1, {log:#x}
  add t0, t0, t1
  sd t0, {base}(tp)
  sd t0, {record}(tp)
  li t0, {records}
  sd t0, {left}(tp)
  {again}
  li t0, {status_off:#x}
  csrc sstatus, t0
  li t0, {status_on:#x}
  csrs sstatus, t0
  li t0, {floats:#x}
{load_floats}
  fscsr zero
  li t1, {data:#x}
  sc.d zero, zero, (t1)
  li t1, {values:#x}
{load}
  {load_tp}
  ld t1, 48(t1)
  {leave}
  sret

over:
  {over}
  li t0, {finisher:#x}
  li t1, {end:#x}
1:sw t1, 0(t0)
  j 1b
"""
# Another vCPU that a program starts: a1 says where it goes on, with the registers of a program. Its first exception or
# interrupt stops it.
_SECOND = """
  la t0, over
  csrw stvec, t0
  li t0, {satp:#x}
  csrw satp, t0
  sfence.vma
  csrw sepc, a1
  li t0, 0x2100
  csrs sstatus, t0
  li t1, {values:#x}
{load}
  ld t1, 48(t1)
  sret
  .align 2
over:
  csrw sie, zero
  li a7, 0x48534d
  li a6, 1
  ecall
1:wfi
  j 1b
"""
SECOND = RAM + 0x8000
_VALUES = CONTROL + 0x400  # x0 to x31; behind them the floating-point registers
_FLOAT_VALUES = CONTROL + 0x600
_AGAIN = """la t0, handler
  csrw stvec, t0
  li t0, {satp:#x}
  csrw satp, t0
  sfence.vma
  csrw sie, zero
  li t0, 7
  csrw scounteren, t0
  li t0, 0xf0
  csrw senvcfg, t0"""


@dataclass(frozen=True, slots=True)
class Image:
    """The assembled guest; programs are put into it with `batch`."""

    mode: str
    parts: tuple[tuple[int, bytes], ...]  # (guest physical address, bytes), without programs
    window: int  # added to addresses in the programs' mode
    symbols: dict[str, int]
    last: list[tuple[Sequence[bytes], int, int, list[tuple[int, bytes]]]] = field(default_factory=list, compare=False)

    @property
    def start(self) -> int:
        """Where the kernel begins."""
        return RAM

    def batch(self, programs: Sequence[bytes], zoo: int = 0, begun: int = 0) -> list[tuple[int, bytes]]:
        """Return what puts programs into memory: their code, where each begins and ends, how many; and odd entries.

        The first `begun` of them are passed over.
        """
        for known, *numbers, parts in self.last:  # asked once for each machine
            if known is programs and numbers == [zoo, begun]:
                return parts
        ends = array("Q")
        for first, program in zip(range(CODE + self.window, 1 << 63, SLOT), programs, strict=False):
            ends.extend((first, first + len(program)))
        fill = _FILL[self.mode]
        code = b"".join([(program + fill)[:SLOT] for program in programs])
        count = begun.to_bytes(8, "little") + len(programs).to_bytes(8, "little")
        parts = [(CODE, code), (DESCRIPTORS, ends.tobytes()), (INDEX, count), (ZOO, odd_entries(zoo))]
        self.last[:] = [(programs, zoo, begun, parts)]
        return parts


# What ends a program: an exception of its mode that its kernel gets.
_FILL = {"VU": ECALL * (SLOT // 4), "VS": EBREAK * (SLOT // 4)}


# Registers of a program: where they point. The first word says what a generator may use each for.
POINTERS: dict[int, tuple[str, int]] = {
    2: ("mmio", MMIO),
    8: ("ram", DATA + 0x100),
    9: ("mmio", MMIO + 0x10),
    11: ("misaligned", DATA + 0x201),
    12: ("hole", probe.HOLE + 0x100),
    13: ("read-only", probe.READ_ONLY + 0x80),
    15: ("untouched", probe.VIRGIN + 0x3000),
    18: ("nowhere", 0x2000_0000),
    19: ("unmapped", 3 * GIB),
    20: ("odd tables", 8 * GIB),
    21: ("other mode", DATA),
    22: ("edge", EDGE + 0xFFC),
    23: ("non-canonical", 0x7000_0000_0000_0000),
    24: ("read-only untouched", probe.READ_ONLY_UNTOUCHED + 0x3000),
    25: ("mmio edge", MMIO + 0xFFD),
    26: ("hole edge", probe.HOLE - 4),
    27: ("table in a hole", 5 * GIB),
    28: ("table nowhere", 6 * GIB),
    29: ("table read-only", 7 * GIB),
    1: ("code", CODE),
}
NUMBERS = {
    3: 0x0123_4567_89AB_CDEF, 4: 0xFFFF_FFFF_0000_0001, 5: 0x10, 6: 0xFFFF_FFFF_FFFF_FFFF, 7: 0x8000_0000_0000_0000,
    10: 5, 14: 0xFFFF_FFFF_FFFF_FFFF, 16: 0, 17: 0x10, 30: 0x7FFF_FFFF, 31: 3,
}  # fmt: skip
_WITHOUT_WINDOW = {"unmapped", "odd tables", "non-canonical"}
FLOATS_AT_START = (
    0, 0x3FF0_0000_0000_0000, 0x7FF8_0000_0000_0000, 0xFFF0_0000_0000_0000, 1, 0x7FF0_0000_0000_0001,
    0xFFFF_FFFF_3F80_0000, 0xFFFF_FFFF_7F80_0001,
)  # fmt: skip


def _values(mode: str, window: int) -> bytes:
    values = [0] * 32
    for n, value in NUMBERS.items():
        values[n] = value
    for n, (name, address) in POINTERS.items():
        if name == "other mode":
            values[n] = address + USER - window
        else:
            values[n] = address + (0 if name in _WITHOUT_WINDOW else window)
    if mode == "VS":
        values[4] = CONTROL
    return b"".join(v.to_bytes(8, "little") for v in values)


@lru_cache(maxsize=ZOOS)
def odd_entries(seed: int) -> bytes:
    """Return a table of entries that are odd in every way an entry can be; the first is sound."""
    rng = Random(seed)
    pages = (DATA, DATA, DATA, probe.VIRGIN + 0x5000, probe.HOLE, probe.READ_ONLY, MMIO, 0x2000_0000,
             CODE, ZOO, probe.READ_ONLY_UNTOUCHED + 0x5000, 1 << 45, 0)  # fmt: skip
    entries = [DATA >> 2 | _ALL | PTE_U]
    while len(entries) < 512:
        flags = PTE_V | PTE_A | PTE_D | rng.getrandbits(3) << 1 | rng.choice((0, PTE_U, PTE_U)) | rng.choice((0, PTE_G))
        odd = rng.random()
        if odd < 0.1:
            flags = rng.getrandbits(10)
        elif odd < 0.15:
            flags |= 1 << rng.randrange(54, 61)
        elif odd < 0.2:
            flags |= rng.randrange(1, 4) << 61
        elif odd < 0.25:
            flags |= PTE_N | (8 << 10 if rng.random() < 0.5 else 0)
        entries.append(rng.choice(pages) >> 2 | flags)
    return b"".join(e.to_bytes(8, "little") for e in entries)


def _tables() -> list[tuple[int, bytes]]:
    root, middle = [0] * 512, [0] * 512
    for window, user in ((0, 0), (64, PTE_U)):
        for gib in range(3):
            root[window + gib] = gib << 28 | _ALL | user
        root[window + 4] = 2 << 28 | PTE_V | PTE_R | PTE_A | PTE_D | user
        root[window + 5] = probe.HOLE >> 2 | PTE_V
        root[window + 6] = probe.NO_SLOT_TABLE >> 2 | PTE_V
        root[window + 7] = probe.READ_ONLY_UNTOUCHED >> 2 | PTE_V
    root[66] = USER_MIDDLE >> 2 | PTE_V
    root[8] = MIDDLE >> 2 | PTE_V
    root[9] = 1 << 20 >> 2 | _ALL | PTE_U  # misaligned
    middle[0] = ZOO >> 2 | PTE_V
    middle[1] = RAM >> 2 | _ALL | PTE_U
    middle[2] = RAM + 0x1000 >> 2 | _ALL | PTE_U  # misaligned

    def data(entries: list[int]) -> bytes:
        return b"".join(e.to_bytes(8, "little") for e in entries)

    user_middle, small = [0] * 512, [0] * 512
    user_middle[RAM >> 21 & 511] = USER_PAGES >> 2 | PTE_V
    user_middle[probe.VIRGIN >> 21 & 511] = probe.VIRGIN >> 2 | _ALL | PTE_U
    for page in (*range(CODE, CODE + CODE_SIZE, 4096), *range(DATA, DATA + DATA_SIZE, 4096)):
        small[page >> 12 & 511] = page >> 2 | _ALL | PTE_U
    pages = (root, middle, user_middle, small)
    return [*zip((TABLE, MIDDLE, USER_MIDDLE, USER_PAGES), map(data, pages), strict=True)]


@lru_cache(maxsize=4)
def build(mode: str, over: str = "") -> Image:
    """Assemble the guest for programs of a mode, VU or VS; `over` is code before its end, which may go on elsewhere."""
    user = mode == "VU"
    window, swap = (USER, "csrrw tp, sscratch, tp") if user else (0, "")
    satp = ATP_SV39 << ATP_MODE_SHIFT | TABLE >> 12
    saved = [n for n in range(1, 32) if n not in (4, 5, 6, 7)]
    program = assemble_program(
        _SOURCE.format(
            control=CONTROL, satp=satp, enter=swap, leave=swap, t0=_T0, t1=_T1, t2=_T2, record=_RECORD, base=_BASE,
            first=_FIRST, last=_LAST, index=_INDEX, count=_COUNT, left=_LEFT, window=_WINDOW, fs=0x6000,
            save="\n".join(
                [f"  sd x{n}, {REGISTERS + 8 * (n - 1)}(t1)" for n in saved]
                + [f"  fsd f{n}, {FLOATS + 8 * n}(t1)" for n in range(32)]
            ),
            at_t0=REGISTERS + 8 * 4, at_t1=REGISTERS + 8 * 5, at_t2=REGISTERS + 8 * 6, fcsr=FCSR,
            save_tp=f"csrr t0, sscratch\n  sd t0, {REGISTERS + 8 * 3}(t1)" if user else "",
            descriptors=DESCRIPTORS, stride_shift=STRIDE.bit_length() - 1, log=LOG, records=RECORDS,
            again="" if user else _AGAIN.format(satp=satp),
            status_off=0xC_0122 | (0x100 if user else 0), status_on=0x2000 | (0 if user else 0x100),
            floats=_FLOAT_VALUES, load_floats="\n".join(f"  fld f{n}, {8 * n}(t0)" for n in range(32)),
            data=DATA, values=_VALUES,
            load="\n".join(f"  ld x{n}, {8 * n}(t1)" for n in range(1, 32) if n not in (4, 6)),
            load_tp="ld t0, 32(t1)\n  csrw sscratch, t0\n  ld t0, 40(t1)" if user else "",
            finisher=probe.FINISHER, end=END, over=over,
        ),
        RAM,
    )  # fmt: skip
    second = assemble(
        _SECOND.format(
            satp=satp, values=_VALUES,
            load="\n".join(f"  ld x{n}, {8 * n}(t1)" for n in range(1, 32) if n not in (4, 6)),
        ),
        SECOND,
    )  # fmt: skip
    floats = b"".join(FLOATS_AT_START[n % len(FLOATS_AT_START)].to_bytes(8, "little") for n in range(32))
    control = bytearray(0x800)
    control[_WINDOW : _WINDOW + 8] = window.to_bytes(8, "little")
    control[_VALUES - CONTROL : _VALUES - CONTROL + 256] = _values(mode, window)
    control[_FLOAT_VALUES - CONTROL : _FLOAT_VALUES - CONTROL + 256] = floats
    data = bytes(n * 37 & 255 for n in range(DATA_SIZE))
    parts = ((RAM, program.code), (SECOND, second), (CONTROL, bytes(control)), (DATA, data), *_tables())
    return Image(mode, parts, window, program.symbols)
