"""Sweeps: a guest that makes many calls and accesses in a row, and notes what became of each.

An event (lab.probe.events) is compared in every field, a sweep's item in few: what the guest read, what it trapped
with, what KVM_RUN returned. For that there can be thousands: every SBI function, every CSR.

The guest runs in VS-mode with paging off and interrupts off. An item is a row of the table: where its code is,
the mode, and a0 to a7. The code returns with `jr ra`; from VU-mode that is an ecall. A record says how it ended:

    state (1 under way, 2 returned, 3 trapped), a0, a1, cause + 1, stval, sepc - code, changed registers, sstatus
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from trapline.conform.payload import HOLE_BACKING
from trapline.isa.assemble import assemble_program
from trapline.lab.probe import image as probe
from trapline.lang.values import MASK64
from trapline.privilege.fields import MSTATUS_SPIE, MSTATUS_SPP

RAM, RAM_SIZE = probe.RAM, probe.RAM_SIZE
TABLE = RAM + 0x2_0000
RECORDS = RAM + 0x10_0000
CURSOR = RAM + 0x1F_0000
SCRATCH = RAM + 0x20_0000  # what items read and write: shared memory, mailboxes
NONE, NONE_SIZE = probe.PROT_NONE, probe.PROT_NONE_SIZE  # a slot whose memory the VMM itself may not touch
NO_SLOT = 0x3000_0000
LATE, LATE_SIZE, LATE_SLOT = 0x4C00_0000, 0x1_0000, 4  # a slot whose memory the VMM takes away when it is told to
# A store here tells the VMM to do something: the low byte says what, the rest to what.
CONTROL = 0x20_0000
TAKE_AWAY, SET_SIP, YIELD = 1, 2, 3
ROW, RECORD = struct.Struct("<10Q"), struct.Struct("<8Q")
MAX_ITEMS = 8192
RETURNED, TRAPPED = 2, 3

_PROGRAM = f"""
start:                        # s0: item, s1: its row, s2: its record
  fence.i                     # the VMM has written the code, where another sweep's may have been
  la t0, handler
  csrw stvec, t0
  csrw satp, zero
next:
  csrw sie, zero
  csrci sstatus, 2
  li t0, {CURSOR:#x}
  ld s0, 0(t0)
  ld t1, 8(t0)
  bltu s0, t1, 1f
  li t0, {probe.FINISHER:#x}
  li t1, {probe.END:#x}
  sw t1, 0(t0)
2:j 2b
1:li t0, {ROW.size}
  mul s1, s0, t0
  li t0, {TABLE:#x}
  add s1, s1, t0
  slli s2, s0, 6
  li t0, {RECORDS:#x}
  add s2, s2, t0
  li t0, 1
  sd t0, 0(s2)
  ld t0, 0(s1)
  csrw sepc, t0
  li t0, {MSTATUS_SPP | MSTATUS_SPIE:#x}
  csrc sstatus, t0
  ld t0, 8(s1)
  csrs sstatus, t0
  la ra, back
  bnez t0, 3f
  la ra, back_user
3:ld a0, 16(s1)
  ld a1, 24(s1)
  ld a2, 32(s1)
  ld a3, 40(s1)
  ld a4, 48(s1)
  ld a5, 56(s1)
  ld a6, 64(s1)
  ld a7, 72(s1)
  sret

back_user:
  ecall
back:
  li t0, 2
over:
  sd a0, 8(s2)
  sd a1, 16(s2)
  li t1, 0
{
    "".join(
        f'''  ld t2, {16 + 8 * n}(s1)
  xor t2, t2, a{n}
  snez t2, t2
  slli t2, t2, {n}
  or t1, t1, t2
'''
        for n in range(2, 8)
    )
}
  sd t1, 48(s2)
  sd t0, 0(s2)
  li t0, {CURSOR:#x}
  addi s0, s0, 1
  sd s0, 0(t0)
  j next

  .align 4
handler:
  csrr t0, scause
  csrr t1, sepc
  la t2, back_user
  bne t1, t2, 1f
  li t2, 8
  beq t0, t2, back
1:addi t0, t0, 1
  sd t0, 24(s2)
  csrr t0, stval
  sd t0, 32(s2)
  ld t0, 0(s1)
  sub t1, t1, t0
  sd t1, 40(s2)
  csrr t0, sstatus
  sd t0, 56(s2)
  csrci sstatus, 2
  li t0, 3
  j over
"""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that the guest does. `varies` names what depends on time: a0, a1."""

    name: str
    code: str  # name of a piece of code in the sweep
    args: tuple[int, ...] = ()
    mode: str = "VS"
    varies: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Sweep:
    """A list of items, the code that they use by name, and how the VM is made."""

    name: str
    text: str  # what it does, for people
    items: tuple[Item, ...]
    code: dict[str, str | bytes]  # by name, assembler text or instructions; each piece ends with `jr ra`
    enable: tuple[int, ...] = ()  # SBI extensions by KVM's index, switched on by the VMM
    vcpus: tuple[int, ...] = (0,)
    memory: dict[int, bytes] = field(default_factory=dict)  # what stands in RAM at the start, by address


@dataclass(frozen=True, slots=True)
class SweepImage:
    """What both sides run."""

    data: bytes
    start: int
    manifest: str


def build(sweep: Sweep) -> SweepImage:
    """Assemble a sweep; AssertionError if it outgrew its place."""
    assert len(sweep.items) <= MAX_ITEMS, sweep.name
    start, code, symbols = _assemble(sweep.code)
    assert len(code) <= TABLE - RAM, (sweep.name, len(code))
    data = bytearray(SCRATCH - RAM)
    data[: len(code)] = code
    for n, item in enumerate(sweep.items):
        args = [a & MASK64 for a in item.args] + [0] * (8 - len(item.args))
        mode = MSTATUS_SPP if item.mode == "VS" else 0
        ROW.pack_into(data, TABLE - RAM + n * ROW.size, symbols[item.code], mode, *args)
    struct.pack_into("<2Q", data, CURSOR - RAM, 0, len(sweep.items))
    for at, content in sorted(sweep.memory.items()):
        end = at - RAM + len(content)
        data += bytes(max(0, end - len(data)))
        data[at - RAM : end] = content
    return SweepImage(bytes(data), start, _manifest(sweep, start))


def _assemble(pieces: dict[str, str | bytes]) -> tuple[int, bytes, dict[str, int]]:
    """Return where the program starts, all code, and where each piece of the items' code is."""
    text, names = [_PROGRAM], dict[str, str]()
    for name, piece in pieces.items():
        if isinstance(piece, str):
            names[name] = f"piece_{len(names)}"
            text.append(f"  .align 2\n{names[name]}:\n{piece}")
    program = assemble_program("\n".join(text), RAM)
    symbols = {name: program.symbols[label] for name, label in names.items()}
    code = bytearray(program.code)
    for name, piece in pieces.items():
        if isinstance(piece, bytes):
            code += bytes(-len(code) % 4)
            symbols[name] = RAM + len(code)
            code += piece
    return program.symbols["start"], bytes(code), symbols


def slots(sweep: Sweep) -> list[tuple[int, int, str, int]]:
    """Return the memory slots of a sweep: address, size, kind, and what is behind a hole."""
    return [
        (RAM, RAM_SIZE, "ram", 0),
        (probe.HOLE, probe.HOLE_SIZE, "hole", HOLE_BACKING),
        (probe.READ_ONLY, probe.READ_ONLY_SIZE, "ro", 0),
        (NONE, NONE_SIZE, "none", 0),
        (LATE, LATE_SIZE, "ram", 0),
    ]


def _manifest(sweep: Sweep, start: int) -> str:
    lines = [f"name {sweep.name}", f"start {start:#x}", f"cursor {CURSOR:#x} {len(sweep.items):#x}"]
    lines += [f"slot {gpa:#x} {size:#x} {kind} {backing:#x}" for gpa, size, kind, backing in slots(sweep)]
    lines += [f"vcpu {n}" for n in sweep.vcpus]
    lines.append(f"records {RECORDS:#x} {len(sweep.items) * RECORD.size:#x}")
    lines += [f"finisher {probe.FINISHER:#x} {CONTROL:#x}", f"enable {sum(1 << n for n in sweep.enable):#x}"]
    return "\n".join(lines) + "\n"
