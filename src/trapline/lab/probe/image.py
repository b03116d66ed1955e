"""The guest that raises the events: one image, an entry for each event and mode.

An entry starts in VS-mode with paging off, as a vCPU is reset. It sets up page tables, a trap handler
and the event's registers, enters the event's mode, writes MARK to the test finisher, runs the event, and
writes END. The handler notes scause, sepc, stval and sstatus of every exception in a log and
goes on behind the event; it disarms the timer if that is what interrupted.

Sv39, one table: entry n maps the GiB at n << 30 to itself for the kernel, entry 64 + n the same for user
code, so that no access of the set-up ever needs a page of the other privilege.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from trapline.isa.assemble import assemble_program
from trapline.lab.probe.events import Event, selected
from trapline.privilege.fields import ATP_MODE_SHIFT, ATP_SV39
from trapline.privilege.pte import PTE_A, PTE_D, PTE_R, PTE_U, PTE_V, PTE_W, PTE_X

RAM, RAM_SIZE = 0x8020_0000, 0x40_0000  # behind firmware, where S-mode programs begin
RAM_GIB = 0x8000_0000
FINISHER = 0x10_0000
MMIO_PAGE = 0x1000_0000
HOLE, HOLE_SIZE = 0x1800_0000, 0x1_0000  # nothing is there on QEMU and Spike either
READ_ONLY, READ_ONLY_SIZE = 0x4400_0000, 0x1_0000
READ_ONLY_UNTOUCHED = READ_ONLY + 0x1000
PROT_NONE, PROT_NONE_SIZE = 0x4402_0000, 0x1_0000
NO_SLOT_TABLE = 0x3000_0000
TABLE = RAM + 0x10_0000
LOG = RAM + 0x11_0000
LOG_SIZE = 0x1000
SCRATCH = RAM + 0x12_0000
VIRGIN = RAM + 0x20_0000  # one page for each entry
USER = 64 << 30

MARK, END = 0x1111, 0x5555
RECORD = 32

ALL = PTE_V | PTE_R | PTE_W | PTE_X | PTE_A | PTE_D

_JR_T2 = 0x0003_8067  # what a fetch from a page never touched finds
# Taken for a page table, it has a megapage without A and D as its third entry.
UNTOUCHED = b"".join(w.to_bytes(8, "little") for w in (_JR_T2, 0, RAM >> 2 | ALL & ~(PTE_A | PTE_D) | PTE_U))

_COMMON = f"""
first:                        # nobody starts here, unless lab.replay makes a program of its own out of this
  j first
common:                       # t2: event, t3: preparation, t4: virgin page, t5: SPP or 0, t6: behind the event
  la t0, vector
  ld t0, 0(t0)
  csrw stvec, t0
  li t0, {ATP_SV39 << ATP_MODE_SHIFT | TABLE >> 12:#x}
  csrw satp, t0
  sfence.vma
  li t0, 0x2100               # FS initial, SPP
  csrs sstatus, t0
  li t0, 7
  csrw scounteren, t0
  li t0, 0xf0                 # cache-block operations for user code
  csrw senvcfg, t0
  la s0, log_area
  li s2, {MMIO_PAGE:#x}
  li s3, {HOLE:#x}
  mv s4, t4
  li s5, {SCRATCH:#x}
  li s6, {3 << 30:#x}
  li s7, {(4 << 30) + SCRATCH - RAM_GIB:#x}
  li s8, {SCRATCH + USER:#x}
  bnez t5, 1f
  li s8, {SCRATCH:#x}
  csrc sstatus, t0
  li t0, 0x100
  csrc sstatus, t0
1:li s9, {READ_ONLY:#x}
  li s10, {5 << 30:#x}
  li s11, {6 << 30:#x}
  la gp, finisher
  ld gp, 0(gp)
  add s1, t6, tp
  add s2, s2, tp
  add s3, s3, tp
  add s4, s4, tp
  add s5, s5, tp
  add s6, s6, tp
  add s7, s7, tp
  add s9, s9, tp
  add s10, s10, tp
  add s11, s11, tp
  add gp, gp, tp
  mv sp, s2
  mv a5, s2
  li a4, 0
  li a2, {MARK:#x}
  li a3, {END:#x}
  add t2, t2, tp
  csrw sepc, t2
  jr t3

ready:
  sret

  .align 6
vectors:                      # vectored mode: exceptions at the base, interrupts at 4 * cause
  j handler
  j timer
  j timer
  j timer
  j timer
  j timer
handler:
  csrr t0, scause
  sd t0, 0(s0)
  csrr t1, sepc
  sd t1, 8(s0)
  csrr t1, stval
  sd t1, 16(s0)
  csrr t1, sstatus
  sd t1, 24(s0)
  addi s0, s0, {RECORD}
  csrw sepc, s1
  sret
timer:                        # no more of it
  li t0, 32
  csrc sie, t0
  sret

  .align 3
vector:
  .dword vectors + 1
finisher:
  .dword {FINISHER:#x}
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """An event in a mode: where it starts, and where its instruction stands (in its mode's window)."""

    event: Event
    mode: str
    start: int
    at: int
    code: bytes  # the instructions under test
    virgin: int  # the page that this entry alone may touch
    contents: int  # a page of RAM: what is in it

    @property
    def after(self) -> int:
        """Where the code goes on behind the event, as the kernel's window has it."""
        return self.at + len(self.code) - (USER if self.mode == "VU" else 0)


@dataclass(frozen=True, slots=True)
class Image:
    """The assembled guest."""

    data: bytes
    entries: tuple[Entry, ...]
    symbols: dict[str, int]  # the handlers, and the words that hold stvec and the address of the test finisher

    @property
    def size(self) -> int:
        """Bytes from the start of RAM."""
        return len(self.data)

    def entry(self, event: str, mode: str) -> Entry:
        """Return the entry of an event in a mode; KeyError if there is none."""
        for entry in self.entries:
            if entry.event.id == event and entry.mode == mode:
                return entry
        raise KeyError(f"no probe {event!r} from {mode}")


def _stub(event: Event, mode: str, virgin: int) -> str:
    name = event.id.replace("-", "_")
    window, spp = (USER, 0) if mode == "VU" else (0, 1)
    return f"""
{mode}_{name}:
  la t2, event_{name}
  la t3, prepare_{name}
  la t6, after_{name}
  li t4, {virgin:#x}
  li t5, {spp}
  li tp, {window:#x}
  j common"""


def _virgin(event: Event, number: int) -> int:
    return READ_ONLY_UNTOUCHED if event.untouched == "ro" else VIRGIN + number * 0x1000


def _block(event: Event) -> str:
    name = event.id.replace("-", "_")
    return f"""
  .align 2
prepare_{name}:
  {event.prepare}
  j ready
  .align 2
event_{name}:
  {event.before}
  sw a2, 0(gp)
code_{name}:
  {event.code}
after_{name}:
  sw a3, 0(gp)
1:j 1b"""


def _table() -> bytes:
    """Return the root page table."""
    table = [0] * 512
    for window, user in ((0, 0), (64, PTE_U)):
        for gib in range(3):
            table[window + gib] = gib << 28 | ALL | user
        table[window + 4] = RAM_GIB >> 2 | PTE_V | PTE_R | PTE_A | PTE_D | user
        table[window + 5] = HOLE >> 2 | PTE_V
        table[window + 6] = NO_SLOT_TABLE >> 2 | PTE_V
        table[window + 7] = PROT_NONE >> 2 | PTE_V
        table[window + 8] = READ_ONLY_UNTOUCHED >> 2 | PTE_V
    return b"".join(entry.to_bytes(8, "little") for entry in table)


@lru_cache(maxsize=8)
def build(extensions: frozenset[str], only: frozenset[str] | None = None, extra: tuple[Event, ...] = ()) -> Image:
    """Assemble the guest for a hart with these extensions, with all events and `extra`, or only those named."""
    events = [e for e in (*selected(set(extensions)), *extra) if only is None or e.id in only]
    pairs = [(event, mode) for event in events for mode in event.modes]
    text = [f".equ log_area, {LOG:#x}", _COMMON]
    text += [_stub(e, mode, _virgin(e, n)) for n, (e, mode) in enumerate(pairs)]
    text += [_block(e) for e in events]
    program = assemble_program("\n".join(text), RAM)
    symbols, code = program.symbols, program.code
    if len(code) > TABLE - RAM or VIRGIN + len(pairs) * 0x1000 > RAM + RAM_SIZE:
        raise AssertionError("the probe image outgrew its place")
    data = bytearray(VIRGIN - RAM + len(pairs) * 0x1000)
    data[: len(code)] = code
    data[TABLE - RAM : TABLE - RAM + 4096] = _table()
    for n in range(len(pairs)):
        at = VIRGIN - RAM + n * 0x1000
        data[at : at + len(UNTOUCHED)] = UNTOUCHED
    entries = []
    for n, (event, mode) in enumerate(pairs):
        name = event.id.replace("-", "_")
        first, last = symbols[f"code_{name}"], symbols[f"after_{name}"]
        window = USER if mode == "VU" else 0
        bits, contents = code[first - RAM : last - RAM], VIRGIN + n * 0x1000
        start = symbols[f"{mode}_{name}"]
        entries.append(Entry(event, mode, start, first + window, bits, _virgin(event, n), contents))
    return Image(bytes(data), tuple(entries), {n: symbols[n] for n in ("handler", "timer", "vector", "finisher")})


@lru_cache(maxsize=16)
def parts(data: bytes) -> tuple[tuple[int, bytes], ...]:
    """Return the runs of pages of an image that are not all zeros, with their offsets: memory of nobody is zero."""
    found: list[tuple[int, bytes]] = []
    first = None
    for at in range(0, len(data) + 0x1000, 0x1000):
        if any(data[at : at + 0x1000]):
            first = at if first is None else first
        elif first is not None:
            found.append((first, data[first:at]))
            first = None
    return tuple(found)
