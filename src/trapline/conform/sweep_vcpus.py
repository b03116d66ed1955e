"""Sweeps with several vCPUs: started, interrupted, halted and stopped by the first, which looks at each step."""

from __future__ import annotations

from collections.abc import Iterator

from trapline.conform.sweep import CONTROL, SCRATCH, YIELD, Item, Sweep
from trapline.conform.sweep_calls import ALL, CALL, call
from trapline.isa.assemble import assemble
from trapline.sbi.numbers import Eid

WORKER = SCRATCH + 0x8000
# The mailbox of a hart: starts, a0, a1, sip, the command and how many were obeyed.
BOX = SCRATCH + 0x1_0000
BOX_SIZE = 64
STARTS, A0, A1, SIP, COMMAND, DONE = (8 * n for n in range(6))
CLEAR, STOP, HALT = 1, 2, 3
TRIES = 400  # turns that the first vCPU gives away before it stops waiting

_WORKER = f"""
  csrw satp, zero
  li t0, {BOX:#x}
  slli t1, a0, 6
  add s0, t0, t1
  sd a0, {A0}(s0)
  sd a1, {A1}(s0)
  ld t0, {STARTS}(s0)
  addi t0, t0, 1
  sd t0, {STARTS}(s0)
  li s1, {CLEAR}
  li s2, {STOP}
  li s3, {HALT}
1:csrr t0, sip
  sd t0, {SIP}(s0)
  ld t1, {COMMAND}(s0)
  beqz t1, 1b
  sd zero, {COMMAND}(s0)
  bne t1, s1, 2f
  csrci sip, 2
  j 4f
2:bne t1, s3, 3f
  csrsi sie, 2
  wfi
  csrw sie, zero
  j 4f
3:ld t0, {DONE}(s0)
  addi t0, t0, 1
  sd t0, {DONE}(s0)
  li a7, {Eid.HSM:#x}
  li a6, 1
  ecall
4:ld t0, {DONE}(s0)
  addi t0, t0, 1
  sd t0, {DONE}(s0)
  j 1b
"""

_CODE: dict[str, str | bytes] = {
    "call": CALL,
    "peek": "  ld a0, 0(a0)\n  li a1, 0\n  jr ra\n",
    "poke": "  sd a1, 0(a0)\n  jr ra\n",
    # Until the word at a0 has all bits of a1: gives turns away. a0 is those bits in the end.
    "wait": f"""
  mv s4, a0
  li s5, {TRIES}
  li s6, {CONTROL:#x}
  li s7, {YIELD}
1:ld a0, 0(s4)
  and a0, a0, a1
  beq a0, a1, 2f
  sd s7, 0(s6)
  addi s5, s5, -1
  bnez s5, 1b
2:jr ra
""",
    # Until HSM says that hart a0 has the state a1. a1 is the state in the end.
    "status": f"""
  mv s4, a0
  mv s8, a1
  li s5, {TRIES}
  li s6, {CONTROL:#x}
  li s7, {YIELD}
1:mv a0, s4
  li a6, 2
  li a7, {Eid.HSM:#x}
  ecall
  beq a1, s8, 2f
  sd s7, 0(s6)
  addi s5, s5, -1
  bnez s5, 1b
2:li a6, 0
  li a7, 0
  jr ra
""",
}  # fmt: skip


def _box(hart: int, word: int) -> int:
    return BOX + hart * BOX_SIZE + word


def _one(hart: int) -> Iterator[Item]:
    """Everything that the first vCPU does with another one."""
    done = 0

    def obey(command: int, what: str) -> Iterator[Item]:
        nonlocal done
        done += 1
        yield Item(f"hart {hart} is told to {what}", "poke", (_box(hart, COMMAND), command))

    yield call(f"HSM status of hart {hart} before its start", Eid.HSM, 2, hart)
    yield call(f"IPI to the stopped hart {hart}", Eid.IPI, 0, 1, hart)
    yield call(f"HSM start of hart {hart}", Eid.HSM, 0, hart, WORKER, 0x1234_5678_9ABC)
    yield Item(f"hart {hart} has started", "wait", (_box(hart, STARTS), 1))
    yield Item(f"a0 of hart {hart}", "peek", (_box(hart, A0),))
    yield Item(f"a1 of hart {hart}", "peek", (_box(hart, A1),))
    yield Item(f"HSM status of hart {hart}, started", "status", (hart, 0))
    yield call(f"HSM start of hart {hart} again", Eid.HSM, 0, hart, WORKER, 0)
    yield from obey(CLEAR, "clear its interrupt")
    yield Item(f"hart {hart} has cleared it", "wait", (_box(hart, DONE), done))
    for mask, base in ((1 << hart & ALL if hart < 64 else 1, 0 if hart < 64 else hart), (1, hart), (0, ALL)):
        yield call(f"IPI mask {mask:#x} base {base:#x}", Eid.IPI, 0, mask, base)
        yield Item(f"hart {hart} sees the IPI", "wait", (_box(hart, SIP), 2))
        yield from obey(CLEAR, "clear its interrupt")
        yield Item(f"hart {hart} has cleared it", "wait", (_box(hart, DONE), done))
    for fid in range(7):
        yield call(f"RFENCE {fid} to hart {hart}", Eid.RFENCE, fid, 1, hart, 0x1000, 0x1000, 1)
    yield from obey(HALT, "wait for an interrupt")
    yield Item(f"HSM status of hart {hart} while it waits", "status", (hart, 4))
    yield call(f"IPI to the waiting hart {hart}", Eid.IPI, 0, 1, hart)
    yield Item(f"hart {hart} has woken up", "wait", (_box(hart, DONE), done))
    yield Item(f"HSM status of hart {hart}, awake", "status", (hart, 0))
    yield from obey(STOP, "stop")
    yield Item(f"hart {hart} stops", "wait", (_box(hart, DONE), done))
    yield Item(f"HSM status of hart {hart}, stopped", "status", (hart, 1))
    yield call(f"HSM start of hart {hart} once more", Eid.HSM, 0, hart, WORKER, hart)
    yield Item(f"hart {hart} has started twice", "wait", (_box(hart, STARTS), 2))
    yield Item(f"a1 of hart {hart}, then", "peek", (_box(hart, A1),))


def _together(ids: tuple[int, ...]) -> Iterator[Item]:
    """Masks over all harts, of which some may not exist."""
    for mask, base in ((7, 0), (6, 0), (ALL, 0), (5, 0), (3, 1), (1, 3), (0xFF, 60), (1, ids[1])):
        yield call(f"IPI mask {mask:#x} base {base:#x}, all", Eid.IPI, 0, mask, base)
        for fid in range(7):
            yield call(f"RFENCE {fid} mask {mask:#x} base {base:#x}, all", Eid.RFENCE, fid, mask, base)
    for hart in ids[1:]:
        yield Item(f"hart {hart} has its interrupt", "wait", (_box(hart, SIP), 2))


def _sweep(name: str, text: str, ids: tuple[int, ...]) -> Sweep:
    items = (*(i for n in ids[1:] for i in _one(n)), *_together(ids))
    return Sweep(name, text, items, _CODE, vcpus=ids, memory={WORKER: assemble(_WORKER, WORKER)})


def sweeps() -> list[Sweep]:
    """Return the sweeps of this file."""
    return [
        _sweep("vcpus", "three vCPUs: HSM, IPI, RFENCE", (0, 1, 2)),
        _sweep("vcpus-far", "three vCPUs, made out of order and far apart", (0, 70, 1)),
    ]
