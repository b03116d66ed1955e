"""Reset (Privileged spec, reset): the CSRs that the specification names; the rest becomes zero."""

from __future__ import annotations

from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege.derived import update_derived
from trapline.privilege.fields import (
    ALL_ONES,
    ENVCFG_ADUE,
    PMP_A_SHIFT,
    PMP_NAPOT,
    PMP_R,
    PMP_W,
    PMP_X,
    SXL_64,
    UXL_64,
    VSXL_64,
)
from trapline.privilege.interrupts import update_timers
from trapline.privilege.modes import MACHINE
from trapline.privilege.protection import PMP_ADDRESS_BITS, update_pmp

CLEARED = (
    "mtvec medeleg mideleg mie mip mcounteren mcountinhibit mscratch mepc mcause mtval mtval2 mtinst menvcfg "
    "stvec sscratch sepc scause stval satp scounteren senvcfg hedeleg hideleg hcounteren hgeie hgeip htval htinst "
    "henvcfg htimedelta hgatp hvip vstvec vsscratch vsepc vscause vstval vsatp hpm_near hpm_traps hpm_tlb "
    "scontext hcontext fflags frm seip_software virt fp_ready data_virt irq_cause attention exit_reason insn "
    "access_va hvien hvictl mvien mvip miselect siselect vsiselect sie_virtual vsie_virtual hviprio1 hviprio2 "
    "iprio_used virtual_used"
).split()
CLEARED_ARRAYS = (
    *("mhpmevent", "mhpmcounter", "hpm_start", "pmpcfg", "pmpaddr", "mstateen", "sstateen", "hstateen", "ctx_base"),
    *("miprio", "siprio", "imsic_eidelivery", "imsic_eithreshold", "imsic_eip", "imsic_eie"),
)


def reset(hart: Hart, hartid: int, pc: int) -> None:
    """Put a configured hart into M-mode at `pc`; memory, counters of traps and time go on.

    PMP entry 0 permits everything, for software that knows no PMP, and the walker sets A and D where there
    is Svadu and nobody asked for Svade, for software that knows no menvcfg; the specification lets the
    platform choose (QEMU's virt does so too).
    """
    for name in CLEARED:
        setattr(hart, name, 0)
    for name in CLEARED_ARRAYS:
        words = getattr(hart, name)
        for i in range(len(words)):
            words[i] = 0
    for i in range(33):
        hart.x[U64(i)] = 0  # and the word behind x31
    for i in range(32):
        hart.f[i] = 0
    hart.mhartid = hartid
    hart.pc = hart.next_pc = pc
    hart.priv = hart.data_priv = MACHINE
    hart.mstatus = UXL_64 | SXL_64
    hart.hstatus = VSXL_64 if hart.has_h != 0 else 0
    hart.vsstatus = UXL_64 if hart.has_h != 0 else 0
    hart.mideleg = hart.mideleg_ones
    hart.hpm_due = ALL_ONES
    hart.menvcfg = ENVCFG_ADUE if hart.has_svadu != 0 and hart.has_svade == 0 else 0
    hart.stimecmp = hart.vstimecmp = 0
    hart.reservation = ALL_ONES
    if hart.time_ratio == 0:
        hart.time_ratio = 1
    if hart.pmp_count != 0:
        hart.pmpaddr[0] = (1 << PMP_ADDRESS_BITS) - 1
        hart.pmpcfg[0] = PMP_R | PMP_W | PMP_X | PMP_NAPOT << PMP_A_SHIFT
    update_pmp(hart)
    update_timers(hart)
    update_derived(hart)
