"""The hart that a guest hypervisor sees: what L0 does on its state, by the specification's own functions.

L1 believes that it runs in HS-mode of a hart with the Hypervisor extension. That hart exists: a state record of its
own, whose memory is the VM's. An instruction of L1 or L2 that traps to L0 is executed on it, a trap is taken on it, a
guest page fault is looked for in its G-stage. So permissions, WARL masks, delegation and trap entry are the hart's.
In this module `hart` is that hart.
"""

from __future__ import annotations

from collections.abc import Callable

from trapline.engine.decode_table import number_of
from trapline.isa.decode import declare
from trapline.lang.control import EXIT_WFI
from trapline.lang.functions import INSTRUCTIONS, Instruction, Trap, cold, dispatch, generated
from trapline.lang.late_table import LateTable
from trapline.lang.state import Hart
from trapline.lang.values import U64, u64
from trapline.privilege.deliver import deliver_decoded
from trapline.privilege.derived import update_derived
from trapline.privilege.fields import ATP_MODE_SHIFT, HSTATUS_GVA, HSTATUS_SPV
from trapline.privilege.interrupts import interrupt_waits
from trapline.privilege.modes import SUPERVISOR, TO_HS
from trapline.privilege.protection import KIND_DEVICE, check_physical, region_of
from trapline.privilege.pte import PTE_A, PTE_D, PTE_R, PTE_U, PTE_V, PTE_W, PTE_X
from trapline.privilege.translation import ACCESS_FAULT, g_stage
from trapline.privilege.trap import take_interrupt, take_trap

# What can trap because of the mode, a delegation or an enable: only these come to a hypervisor by cause 22.
EXECUTED = (
    *("csrrw", "csrrs", "csrrc", "csrrwi", "csrrsi", "csrrci", "mret", "sret", "wfi", "wrs.nto", "sfence.vma"),
    *("sinval.vma", "sfence.w.inval", "sfence.inval.ir", "hfence.vvma", "hfence.gvma", "hinval.vvma", "hinval.gvma"),
    *("hlv.b", "hlv.bu", "hlv.h", "hlv.hu", "hlv.w", "hlv.wu", "hlv.d", "hlvx.hu", "hlvx.wu"),
    *("hsv.b", "hsv.h", "hsv.w", "hsv.d", "cbo.inval", "cbo.clean", "cbo.flush", "cbo.zero"),
)
ANY_LEVEL = 4
WITHOUT_TRANSLATION = PTE_V | PTE_R | PTE_W | PTE_X | PTE_U | PTE_A | PTE_D


def _runner(declared: Instruction) -> Callable[..., None]:
    """Return a function of one signature for all instructions that executes this one."""
    assert declared.function is not None
    name = f"run_{declared.function.__name__}"
    given = ", ".join(["hart", *declared.operands])
    head = f"def {name}(hart: Hart, rd: U64, rs1: U64, rs2: U64, csr: U64) -> None:"
    text = f"{head}\n    {declared.function.__name__}({given})\n"
    function: Callable[..., None] = cold(
        generated(text, __name__=__name__, **{declared.function.__name__: declared.function})
    )
    return function


def _runners() -> dict[int, Callable[..., None]]:
    declare()
    return {number_of(i): _runner(i) for i in INSTRUCTIONS if i.name in EXECUTED}


def _fences(*names: str) -> dict[int, Callable[..., None]]:
    return {number: run for number, run in RUN.items() if INSTRUCTIONS[number].name in names}


RUN = LateTable(_runners)
GUEST_FENCES = LateTable(lambda: _fences("hfence.gvma", "hinval.gvma"))
VIRTUAL_FENCES = LateTable(lambda: _fences("hfence.vvma", "hinval.vvma"))


@cold
def execute(hart: Hart, number: U64, rd: U64, rs1: U64, rs2: U64, csr: U64) -> None:
    """Execute an instruction of the table RUN, whose bits are in hart.insn."""
    dispatch(RUN, number, hart, rd, rs1, rs2, csr)


@cold
def deliver(hart: Hart) -> None:
    """Take the trap described by hart.trap_*, which the instruction in hart.insn has raised."""
    deliver_decoded(hart)
    hart.pc = hart.next_pc


@cold
def take(hart: Hart, cause: U64, tval: U64, tval2: U64, tinst: U64, gva: U64) -> None:
    """Take a trap whose registers are known."""
    take_trap(hart, cause, hart.pc, tval, tval2, tinst, gva)
    hart.pc = hart.next_pc


@cold
def take_pending(hart: Hart) -> None:
    """Take the interrupt that is due, if one is."""
    update_derived(hart)
    if hart.irq_cause != 0:
        take_interrupt(hart)
        hart.pc = hart.next_pc


@cold
def supervisor_due(hart: Hart) -> None:
    """scratch[0]: 1 if an interrupt is due that HS-mode takes."""
    update_derived(hart)
    hart.scratch[0] = u64(hart.irq_cause != 0 and hart.irq_level == TO_HS)


@cold
def wakes(hart: Hart) -> None:
    """scratch[0]: 1 if an interrupt is there that ends a WFI."""
    update_derived(hart)
    hart.scratch[0] = u64(interrupt_waits(hart))


@cold
def stalls(hart: Hart) -> None:
    """scratch[0]: 1 if the instruction just executed waits."""
    hart.scratch[0] = u64(hart.exit_reason == EXIT_WFI)
    hart.exit_reason = 0


@cold
def trapped_to_supervisor(hart: Hart) -> None:
    """What a trap from V=0 that HS-mode took without L0 has left in the hypervisor's trap registers."""
    hart.hstatus = hart.hstatus & ~U64(HSTATUS_SPV | HSTATUS_GVA)
    hart.htval = 0
    hart.htinst = 0


@cold
def walk(hart: Hart, gpa: U64, kind: U64, va: U64, access: U64, pseudo: U64) -> None:
    """Where L2's access leads: scratch[0] L1's physical address, [1] whether a device is there, [2] leaf, [3] level.

    Raises what the hart raises: a guest page fault, or an access fault where nothing answers.
    """
    hart.walk_guest_pte = WITHOUT_TRANSLATION
    hart.walk_guest_level = ANY_LEVEL
    pa = gpa
    if hart.hgatp >> ATP_MODE_SHIFT != 0:
        pa = g_stage(hart, gpa, kind, va, access, U64(0), pseudo)
    if not check_physical(hart, pa, U64(1), kind, U64(SUPERVISOR)):
        raise Trap(ACCESS_FAULT[access], va, 0, 0, 1)
    hart.scratch[0] = pa
    hart.scratch[1] = u64(hart.region_kind[region_of(hart, pa)] == KIND_DEVICE)
    hart.scratch[2] = hart.walk_guest_pte
    hart.scratch[3] = hart.walk_guest_level
