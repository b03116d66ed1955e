"""A bare hypervisor of its own for nested probes: L1, whose guest L2 is the image of the flat probes.

What it does with a trap of L2 is data, taken from any policy: hedeleg, hideleg, hcounteren, VTW, and an action for
each cause. It maps L2's memory to itself by an Sv39x4 G-stage: pages that probes touch for the first time when they
fault, an MMIO page never, an access to that is emulated, which means skipped. It notes the exceptions
that it gets, as many as there is room for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from trapline.isa.assemble import assemble_program
from trapline.isa.system import WFI, WRS_NTO, WRS_STO
from trapline.lab.probe import image
from trapline.policies import Action, Policy, causes
from trapline.privilege.causes import GUEST_PAGE_FAULTS, LOAD_ACCESS, LOAD_GUEST_PAGE_FAULT, LOAD_PAGE_FAULT
from trapline.privilege.fields import ATP_MODE_SHIFT, ATP_SV39, HSTATUS_SPV, HSTATUS_SPVP, HSTATUS_VTW, MSTATUS_SPP
from trapline.privilege.pte import PTE_A, PTE_D, PTE_R, PTE_U, PTE_V, PTE_W, PTE_X

BASE, SIZE = 0x80A0_0000, 0x4_0000
ROOT, LOG, SAVED = BASE + 0x1_0000, BASE + 0x2_0000, BASE + 0x2_8000
LOG_SIZE = 0x1000
WORDS = 8  # of a note: scause, sepc, stval, htval, htinst, hstatus, sstatus, 0
KILLED, BROKEN = 0x1_3333, 0x2_3333  # written to the test finisher: L1 ends its guest; L1 itself trapped
DIES, REDIRECTS, MAPS, CALLS, EMULATES, SKIPS = range(6)
ACTIONS = {
    Action.REDIRECT: REDIRECTS,
    Action.MAP: MAPS,
    Action.MMIO: SKIPS,
    Action.SBI: CALLS,
    Action.EMULATE: EMULATES,
}
_LEAF = PTE_V | PTE_U | PTE_A | PTE_D
_UNREAD = 1 << LOAD_ACCESS | 1 << LOAD_PAGE_FAULT | 1 << LOAD_GUEST_PAGE_FAULT  # what hlvx finds where nothing is

_SOURCE = """
start:                        # a1: where L2 begins
  li sp, {saved:#x}
  csrw sscratch, sp
  la t0, handler
  csrw stvec, t0
  li t0, {log:#x}
  sd t0, 256(sp)
  li t0, {hedeleg:#x}
  csrw hedeleg, t0
  li t0, {hideleg:#x}
  csrw hideleg, t0
  li t0, 0x444
  csrw hie, t0
  csrw hvip, zero
  li t0, {hcounteren:#x}
  csrw hcounteren, t0
  csrw htimedelta, zero
  li t0, {henvcfg:#x}
  csrw henvcfg, t0
  li t0, {hgatp:#x}
  csrw hgatp, t0
  hfence.gvma
  csrw vsatp, zero
  csrw vsstatus, zero
  csrw vsie, zero
  li t0, {hstatus:#x}
  csrw hstatus, t0
  li t0, 0x2100               # FS initial, SPP
  csrs sstatus, t0
  csrw sepc, a1
  li a0, 0
  li a1, 0
  sret

  .align 2
handler:                      # sscratch is 0 while it runs
  csrrw sp, sscratch, sp
  beqz sp, own
{save}
  csrrw t0, sscratch, zero
  sd t0, 16(sp)
  csrr s0, scause
  csrr s1, sepc
  csrr s2, stval
  csrr s3, htval
  csrr s4, htinst
  csrr s5, hstatus
  csrr s6, sstatus
  li t0, {spv}
  and t0, t0, s5
  beqz t0, broken
  bltz s0, interrupt
{watch}
  jal note
  la t0, actions
  add t0, t0, s0
  lbu t0, 0(t0)
  j choose

interrupt:
  andi t0, s0, 1              # codes 2, 6, 10: an interrupt of L2 that is kept
  bnez t0, timer
  jal note
  csrw hvip, zero
  j resume
timer:                        # L1's own, which stands for L2's
  li t0, 32
  csrc sie, t0
  li t0, 64
  csrs hvip, t0
  j resume

note:
  ld t0, 256(sp)
  bgeu t0, sp, full           # what is saved lies behind the notes
  sd s0, 0(t0)
  sd s1, 8(t0)
  sd s2, 16(t0)
  sd s3, 24(t0)
  sd s4, 32(t0)
  sd s5, 40(t0)
  sd s6, 48(t0)
  addi t0, t0, {note}
  sd t0, 256(sp)
full:
  ret

choose:                       # t0: the action
  beqz t0, dies
  li t1, {redirects}
  beq t0, t1, redirect
  li t1, {maps}
  beq t0, t1, map
  li t1, {calls}
  beq t0, t1, call
  li t1, {emulates}
  beq t0, t1, emulate
  j skip

map:
  slli t1, s3, 2
  li t2, {virgin:#x}
  bltu t1, t2, outside
  li t2, {end:#x}
  bgeu t1, t2, outside
  srli t1, t1, 12
  slli t2, t1, 10
  ori t2, t2, {leaf}
  andi t1, t1, 511
  slli t1, t1, 3
  li t3, {virgin_table:#x}
  add t3, t3, t1
  sd t2, 0(t3)
  hfence.gvma
  j resume
outside:
  la t1, other_causes
  add t1, t1, s0
  lbu t2, 0(t1)
  la t0, outside_actions
  add t0, t0, s0
  lbu t0, 0(t0)
  mv s0, t2
  j choose

call:
  ld t0, 136(sp)              # a7
  beqz t0, set_timer
  li t1, 0x54494d45
  beq t0, t1, set_timer
called:
  sd zero, 80(sp)
  sd zero, 88(sp)
  addi s1, s1, 4
  j resume
set_timer:
  ld a0, 80(sp)
  li a7, 0x54494d45
  li a6, 0
  ecall
  li t0, 64
  csrc hvip, t0
  li t0, 32
  csrs sie, t0
  j called

emulate:
  li t0, {wfi:#x}
  beq s2, t0, wait
  li t0, {wrs_nto:#x}
  beq s2, t0, after4
  li t0, {wrs_sto:#x}
  beq s2, t0, after4
  li s0, 2
  j redirect
wait:
  wfi
after4:
  addi s1, s1, 4
  j resume

skip:
  andi t0, s4, 1
  bnez t0, skip_known
read:
  hlvx.hu s4, (s1)            # no instruction in htinst: read it
  andi t0, s4, 3
  addi s1, s1, 2
  li t1, 3
  bne t0, t1, resume
  addi s1, s1, 2
  j resume
skip_known:
  andi t0, s4, 2
  add s1, s1, t0
  addi s1, s1, 2
  j resume

own:                          # a trap of the handler's own, which only what reads an instruction of L2 may take
  csrr t0, sepc
  la t1, read
  bne t0, t1, broken
  csrr t0, scause
  li t1, {unread:#x}
  srl t1, t1, t0
  andi t1, t1, 1
  beqz t1, broken             # it has no such instruction
  csrrw sp, sscratch, sp
  hfence.vvma                 # L2 ran from an entry that is no more: its own fetch is to find that
  hfence.gvma
  csrw hstatus, s5            # where L2 was
  csrw sstatus, s6
  j resume

redirect:                     # what hardware does: s0, s1, s2 are cause, epc and tval
  csrr t0, vsstatus
  andi t1, t0, 2
  slli t1, t1, 4
  andi t2, s6, {spp}
  or t1, t1, t2
  li t2, {status}
  not t2, t2
  and t0, t0, t2
  or t0, t0, t1
  csrw vsstatus, t0
  csrw vscause, s0
  csrw vsepc, s1
  csrw vstval, s2
  csrr s1, vstvec
  andi s1, s1, -4
  li t0, {spp}
  csrs sstatus, t0
resume:
  csrw sepc, s1
  csrw sscratch, sp
{restore}
  ld sp, 16(sp)
  sret

dies:
  {dies}
  li t0, {killed:#x}
  j finish
broken:
  li t0, {broken:#x}
finish:
  li t1, {finisher:#x}
  sw t0, 0(t1)
  j finish
  .align 3
actions:
{actions}
outside_actions:
{outside}
other_causes:
{others}
{report}
"""


@dataclass(frozen=True, slots=True)
class Hypervisor:
    """L1 for one policy."""

    data: bytes  # at BASE
    tables: tuple[tuple[int, bytes], ...]

    @property
    def start(self) -> int:
        """Where it begins; a1 has the address at which L2 begins."""
        return BASE


def _bytes(values: list[int]) -> str:
    return "".join(f"  .byte {', '.join(str(v) for v in values[n : n + 16])}\n" for n in range(0, len(values), 16))


def _outside(policy: Policy, cause: int) -> tuple[int, int]:
    """What is done where there is no page for a guest page fault, and the cause that L2 gets if it gets one."""
    rule = policy.rule(cause)
    action = rule.without_slot if rule.without_slot is not None else Action.KILL
    if rule.action is Action.MMIO:
        action = Action.MMIO
    cause_given = causes.number(rule.without_slot_as) if rule.without_slot_as else cause
    return ACTIONS.get(action, DIES), cause_given


@lru_cache(maxsize=32)
def _assembled(text: str) -> bytes:
    return assemble_program(text, BASE).code


def _program(policy: Policy, watch: str = "", report: str = "") -> str:
    actions = [ACTIONS.get(policy.rule(c).action, DIES) for c in range(64)]
    outside, others = [0] * 64, list(range(64))
    for cause in GUEST_PAGE_FAULTS:
        outside[cause], others[cause] = _outside(policy, cause)
    registers = [n for n in range(1, 32) if n != 2]
    vtw = 0 if policy.has_feature("wfi-runs") else HSTATUS_VTW
    return _SOURCE.format(
        saved=SAVED, log=LOG, hedeleg=policy.hedeleg, hideleg=policy.hideleg, hcounteren=policy.hcounteren,
        henvcfg=0xF0, hgatp=ATP_SV39 << ATP_MODE_SHIFT | 1 << 44 | ROOT >> 12, spv=HSTATUS_SPV,
        hstatus=HSTATUS_SPV | HSTATUS_SPVP | vtw,
        spp=MSTATUS_SPP, status=MSTATUS_SPP | 0x22, note=WORDS * 8, redirects=REDIRECTS, maps=MAPS,
        calls=CALLS, emulates=EMULATES, virgin=image.VIRGIN, end=image.RAM + image.RAM_SIZE, virgin_table=ROOT + 0x7000,
        leaf=_LEAF | PTE_R | PTE_W | PTE_X, killed=KILLED, broken=BROKEN, finisher=image.FINISHER,
        save="\n".join(f"  sd x{n}, {8 * n}(sp)" for n in registers),
        restore="\n".join(f"  ld x{n}, {8 * n}(sp)" for n in registers),
        watch=watch, report=report, unread=_UNREAD, wfi=WFI, wrs_nto=WRS_NTO, wrs_sto=WRS_STO,
        dies="j report" if report else "", actions=_bytes(actions), outside=_bytes(outside), others=_bytes(others),
    )  # fmt: skip


def _g_stage(*, finisher: bool = True) -> tuple[tuple[int, bytes], ...]:
    """Tables that map what is L2's to itself; the last is that of the pages not yet touched."""
    tables = {ROOT: [0] * 2048, **{ROOT + 0x4000 + 0x1000 * n: [0] * 512 for n in range(7)}}

    def put(table: int, index: int, address: int, flags: int) -> None:
        tables[table][index] = address >> 2 | flags

    middle = [ROOT + 0x4000, ROOT + 0x5000, ROOT + 0x6000]
    for gib, table in enumerate(middle):
        put(ROOT, gib, table, PTE_V)
    put(middle[2], image.VIRGIN >> 21 & 511, ROOT + 0x7000, PTE_V)
    put(middle[2], image.RAM >> 21 & 511, image.RAM, _LEAF | PTE_R | PTE_W | PTE_X)
    small = (
        (image.FINISHER, 0x1000, PTE_R | PTE_W, ROOT + 0x8000),
        (image.HOLE, image.HOLE_SIZE, PTE_R | PTE_W | PTE_X, ROOT + 0x9000),
        (image.READ_ONLY, image.READ_ONLY_SIZE, PTE_R | PTE_X, ROOT + 0xA000),
    )
    for start, size, flags, table in small if finisher else small[1:]:
        put(middle[start >> 30], start >> 21 & 511, table, PTE_V)
        for page in range(start, start + size, 0x1000):
            put(table, page >> 12 & 511, page, _LEAF | flags)
    return tuple((at, b"".join(e.to_bytes(8, "little") for e in table)) for at, table in tables.items())


def hypervisor(policy: Policy) -> Hypervisor:
    """Return the program and its tables; its notes begin at LOG."""
    return Hypervisor(_assembled(_program(policy)), _g_stage())


def reporting_hypervisor(policy: Policy, watch: str, report: str) -> Hypervisor:
    """Return one for which the test finisher is not L2's: `watch` sees each exception of L2 before it is noted."""
    return Hypervisor(_assembled(_program(policy, watch, report)), _g_stage(finisher=False))
