"""The world switch: which of a guest hypervisor's two contexts is in the hart's VS-level registers.

L1 (vHS, vU) and its guest L2 (vVS, vVU) both run in VS- and VU-mode of the hart. In world 0 the hart's VS-level
registers are the S-level registers that L1 sees, in world 1 those VS-level registers that L1 sees. Whichever is loaded
runs as any guest does: its own status, tables, timer and interrupts are the hart's, and trap nowhere.
"""

from __future__ import annotations

from trapline.kvm.nested.bugs import KEPT_INTERRUPTS_LOST, SIP_MASK_SHIFTED, has_bug
from trapline.kvm.nested.shadow import settle_fences, shadow_hgatp
from trapline.lang.devices import on_hart
from trapline.lang.functions import cold, hosted, inline
from trapline.lang.memory import host_load, host_store
from trapline.lang.state import Hart
from trapline.lang.state.words import LAYOUT
from trapline.lang.values import U64, ctz
from trapline.privilege.csr_table import HEDELEG_WRITABLE
from trapline.privilege.derived import update_derived
from trapline.privilege.fields import (
    HSTATUS_GVA,
    HSTATUS_SPV,
    HSTATUS_VTSR,
    HSTATUS_VTVM,
    HSTATUS_VTW,
    HVICTL_VTI,
    LOCAL_INTERRUPTS,
    MSTATUS_FS,
    MSTATUS_MXR,
    MSTATUS_SPP,
    S_INTERRUPTS,
    SSTATUS_WRITABLE,
    VS_INTERRUPTS,
)
from trapline.privilege.interrupts import update_timers

OF_VS = ("vstvec", "vsscratch", "vsepc", "vscause", "vstval", "vsatp")
OF_S = ("stvec", "sscratch", "sepc", "scause", "stval", "satp")
STVEC, SSCRATCH, SEPC, SCAUSE, STVAL, SATP = (LAYOUT.fields[n].index * 8 for n in OF_S)
VSTVEC, VSSCRATCH, VSEPC, VSCAUSE, VSTVAL, VSATP = (LAYOUT.fields[n].index * 8 for n in OF_VS)
# pull_six and push_six count on the six lying side by side.
assert (SATP - STVEC, VSATP - VSTVEC) == (40, 40)
_STATUS = ("mstatus", "vsstatus", "hstatus", "mie", "mip", "hvip", "hideleg", "hedeleg", "hcounteren", "henvcfg")
MSTATUS, VSSTATUS, HSTATUS, MIE, MIP, HVIP, HIDELEG, HEDELEG, HCOUNTEREN, HENVCFG = (
    LAYOUT.fields[n].index * 8 for n in _STATUS
)
_TIME = ("stimecmp", "vstimecmp", "htimedelta", "instret", "time_offset", "time_ratio", "timer_offset", "timer_ratio")
STIMECMP, VSTIMECMP, HTIMEDELTA, INSTRET, TIME_OFFSET, TIME_RATIO, TIMER_OFFSET, TIMER_RATIO = (
    LAYOUT.fields[n].index * 8 for n in _TIME
)
SCOUNTEREN, SENVCFG, MENVCFG = (LAYOUT.fields[n].index * 8 for n in ("scounteren", "senvcfg", "menvcfg"))
_MODE = ("pc", "next_pc", "priv", "virt", "x", "insn", "htval", "htinst", "hgatp", "scratch", "hstateen", "mstateen")
PC, NEXT_PC, PRIV, VIRT, X, INSN, HTVAL, HTINST, HGATP, SCRATCH, HSTATEEN, MSTATEEN = (
    LAYOUT.fields[n].index * 8 for n in _MODE
)
SWITCHED = SSTATUS_WRITABLE
TO_VS_OF_VU, TO_VS_OF_VS = 4 << 2 | 2, 5 << 2 | 2  # of trap_count's index (privilege.trap.count_trap)


@inline
def get(virtual: U64, field: U64) -> U64:
    """A word of the hart that L1 sees."""
    return host_load(virtual + field, 8)


@inline
def put(virtual: U64, field: U64, value: U64) -> None:
    """Write a word of the hart that L1 sees."""
    host_store(virtual + field, 8, value)


@cold
def traps_to_vs(hart: Hart) -> U64:
    """How many traps VS-mode has taken without L0: the counts of what can be delegated, and what firmware handed on."""
    total = U64(0) + hart.kvm_traps_by_firmware
    causes = U64(HEDELEG_WRITABLE) | (VS_INTERRUPTS << 32)
    if hart.has_ssaia != 0:
        causes = causes | (LOCAL_INTERRUPTS << 32)
    for _ in range(64):
        if causes == 0:
            break
        row = ctz(causes) * 32
        total = total + hart.trap_count[row + TO_VS_OF_VU] + hart.trap_count[row + TO_VS_OF_VS]
        causes = causes & (causes - 1)
    return total


@inline
def shows_guest(virtual: U64) -> bool:
    """Whether L1's trap registers hold anything that a trap of its own would clear."""
    status = get(virtual, U64(HSTATUS)) & (HSTATUS_SPV | HSTATUS_GVA)
    return status | get(virtual, U64(HTVAL)) | get(virtual, U64(HTINST)) != 0


@cold
def pull_clock(hart: Hart, virtual: U64) -> None:
    """Time, and the lines that drive L1's interrupts."""
    put(virtual, U64(INSTRET), hart.instret)
    put(virtual, U64(TIME_OFFSET), hart.time_offset + hart.kvm_time_delta)
    put(virtual, U64(MIP), (hart.kvm_irqs & VS_INTERRUPTS) >> 1)
    put(virtual, U64(SCOUNTEREN), hart.scounteren)
    put(virtual, U64(SENVCFG), hart.senvcfg)


@inline
def pull_comparator(virtual: U64, field: U64, value: U64) -> None:
    """A comparator that the guest may have moved: whoever derives what is due recomputes the deadlines then."""
    if get(virtual, field) != value:
        put(virtual, field, value)
        put(virtual, U64(TIMER_RATIO), U64(0))


@cold
def settle_timers(virtual: U64) -> None:
    """Before hip, sip or vsip of the hart that L1 sees is read: deadlines by its time and comparators."""
    moved = get(virtual, U64(TIME_OFFSET)) != get(virtual, U64(TIMER_OFFSET))
    if moved or get(virtual, U64(TIME_RATIO)) != get(virtual, U64(TIMER_RATIO)):
        on_hart(virtual, update_timers)


@inline
def pull_mode(hart: Hart, virtual: U64) -> None:
    """Where the guest was when it was left."""
    put(virtual, U64(PC), hart.guest_sepc)
    put(virtual, U64(PRIV), U64(1) if hart.guest_sstatus & MSTATUS_SPP != 0 else U64(0))


@inline
def pull_six(hart: Hart, virtual: U64, first: U64) -> None:
    """vstvec to vsatp into the six registers from `first` on that L1 sees: stvec to satp, or vstvec to vsatp."""
    put(virtual, first, hart.vstvec)
    put(virtual, first + 8, hart.vsscratch)
    put(virtual, first + 16, hart.vsepc)
    put(virtual, first + 24, hart.vscause)
    put(virtual, first + 32, hart.vstval)
    put(virtual, first + 40, hart.vsatp)


@inline
def push_six(hart: Hart, virtual: U64, first: U64) -> None:
    """The way back."""
    hart.vstvec = get(virtual, first)
    hart.vsscratch = get(virtual, first + 8)
    hart.vsepc = get(virtual, first + 16)
    hart.vscause = get(virtual, first + 24)
    hart.vstval = get(virtual, first + 32)
    hart.vsatp = get(virtual, first + 40)


@cold
def pull_l1(hart: Hart, virtual: U64) -> None:
    """World 0: the hart's VS-level registers into the S-level registers that L1 sees."""
    pull_clock(hart, virtual)
    pull_mode(hart, virtual)
    put(virtual, U64(MSTATUS), (get(virtual, U64(MSTATUS)) & ~SWITCHED) | (hart.vsstatus & SWITCHED))
    pull_six(hart, virtual, U64(STVEC))
    pull_comparator(virtual, U64(STIMECMP), hart.vstimecmp)
    enabled = (hart.mie & VS_INTERRUPTS) >> 1
    put(virtual, U64(MIE), (get(virtual, U64(MIE)) & ~S_INTERRUPTS) | enabled)
    if shows_guest(virtual):
        if traps_to_vs(hart) != hart.kvm_traps_seen:
            put(virtual, U64(HSTATUS), get(virtual, U64(HSTATUS)) & ~(HSTATUS_SPV | HSTATUS_GVA))
            put(virtual, U64(HTVAL), U64(0))
            put(virtual, U64(HTINST), U64(0))


@inline
def enabled_of_l2(hart: Hart, virtual: U64) -> U64:
    """The VS-level interrupts whose enables are in the hart while L2 runs."""
    if has_bug(hart, U64(KEPT_INTERRUPTS_LOST)):
        return get(virtual, U64(HIDELEG)) & VS_INTERRUPTS
    return U64(VS_INTERRUPTS)


@inline
def interrupts_of_l2(hart: Hart, virtual: U64) -> None:
    """The interrupts that L1 has injected into L2, its enables and its timer."""
    hart.mie = (hart.mie & ~VS_INTERRUPTS) | (get(virtual, U64(MIE)) & enabled_of_l2(hart, virtual))
    hart.hvip = get(virtual, U64(HVIP)) & VS_INTERRUPTS
    hart.vstimecmp = get(virtual, U64(VSTIMECMP))


@cold
def pull_l2(hart: Hart, virtual: U64) -> None:
    """World 1: the hart's VS-level registers into those that L1 sees; FS of both levels is in force."""
    pull_clock(hart, virtual)
    pull_mode(hart, virtual)
    outer = hart.guest_sstatus & MSTATUS_FS
    put(virtual, U64(MSTATUS), (get(virtual, U64(MSTATUS)) & ~MSTATUS_FS) | outer)
    put(virtual, U64(VSSTATUS), hart.vsstatus)
    pull_six(hart, virtual, U64(VSTVEC))
    pull_comparator(virtual, U64(VSTIMECMP), hart.vstimecmp)
    put(virtual, U64(HVIP), hart.hvip)
    enabled = enabled_of_l2(hart, virtual)
    put(virtual, U64(MIE), (get(virtual, U64(MIE)) & ~enabled) | (hart.mie & enabled))


@inline
def push_mode(hart: Hart, virtual: U64) -> None:
    """Where the guest goes on."""
    hart.guest_sepc = get(virtual, U64(PC))
    hart.guest_sstatus = hart.guest_sstatus & ~U64(MSTATUS_SPP)
    if get(virtual, U64(PRIV)) != 0:
        hart.guest_sstatus = hart.guest_sstatus | MSTATUS_SPP


@inline
def trap_returns(hart: Hart, virtual: U64) -> None:
    """L1's SRET comes to L0 only while it leads into L2."""
    hart.guest_hstatus = hart.guest_hstatus & ~U64(HSTATUS_VTSR | HSTATUS_VTVM | HSTATUS_VTW)
    hart.guest_hstatus = hart.guest_hstatus | (hart.kvm_hstatus & HSTATUS_VTW)
    if get(virtual, U64(HSTATUS)) & HSTATUS_SPV != 0:
        hart.guest_hstatus = hart.guest_hstatus | HSTATUS_VTSR


@cold
def push_l1(hart: Hart, virtual: U64) -> None:
    """The context of L1 into the hart's VS-level registers."""
    push_mode(hart, virtual)
    trap_returns(hart, virtual)
    if hart.kvm_world != 0:
        own = hart.kvm_fs
        if get(virtual, U64(MSTATUS)) & MSTATUS_FS == MSTATUS_FS:
            own = U64(MSTATUS_FS)
        hart.guest_sstatus = (hart.guest_sstatus & ~U64(MSTATUS_FS | MSTATUS_MXR)) | own
    hart.vsstatus = (hart.vsstatus & ~SWITCHED) | (get(virtual, U64(MSTATUS)) & SWITCHED)
    push_six(hart, virtual, U64(STVEC))
    hart.mie = (hart.mie & ~VS_INTERRUPTS) | ((get(virtual, U64(MIE)) & S_INTERRUPTS) << 1)
    if hart.kvm_world != 0:
        hart.kvm_world = 0
        hart.hedeleg = hart.kvm_hedeleg
        hart.hideleg = hart.kvm_hideleg
        hart.hcounteren = hart.kvm_hcounteren
        hart.henvcfg = hart.kvm_henvcfg
        hart.hstateen[0] = hart.kvm_hstateen0
        hart.htimedelta = hart.kvm_time_delta
        hart.vstimecmp = get(virtual, U64(STIMECMP))
        hart.hvip = hart.kvm_hvip
        hart.hgatp = hart.kvm_hgatp
        hart.hvictl = 0
        update_timers(hart)
    hart.kvm_traps_seen = traps_to_vs(hart)
    update_derived(hart)


@cold
def push_l2(hart: Hart, virtual: U64) -> None:
    """The context of L2: L1's choices within what L1 itself was given, its G-stage through the shadow of it."""
    push_mode(hart, virtual)
    status = get(virtual, U64(HSTATUS))
    hart.guest_hstatus = hart.guest_hstatus & ~U64(HSTATUS_VTSR | HSTATUS_VTVM)
    hart.guest_hstatus = hart.guest_hstatus | HSTATUS_VTW | (status & (HSTATUS_VTSR | HSTATUS_VTVM))
    if hart.kvm_world == 0:
        hart.kvm_fs = hart.guest_sstatus & MSTATUS_FS
        outer = get(virtual, U64(MSTATUS)) & (MSTATUS_FS | MSTATUS_MXR)
        hart.guest_sstatus = (hart.guest_sstatus & ~U64(MSTATUS_FS | MSTATUS_MXR)) | outer
    hart.vsstatus = get(virtual, U64(VSSTATUS))
    push_six(hart, virtual, U64(VSTVEC))
    if hart.kvm_world == 0:
        hart.kvm_world = 1
        interrupts_of_l2(hart, virtual)
        hart.hideleg = get(virtual, U64(HIDELEG)) & VS_INTERRUPTS
        hart.hedeleg = get(virtual, U64(HEDELEG))
        hart.hcounteren = get(virtual, U64(HCOUNTEREN)) & hart.kvm_hcounteren
        hart.henvcfg = get(virtual, U64(HENVCFG)) & get(virtual, U64(MENVCFG)) & hart.kvm_henvcfg
        hart.hstateen[0] = get(virtual, U64(HSTATEEN)) & hart.kvm_hstateen0
        hart.htimedelta = hart.kvm_time_delta + get(virtual, U64(HTIMEDELTA))
        hart.hgatp = shadow_hgatp(hart, get(virtual, U64(HGATP)))
        settle_fences(hart)
        if has_bug(hart, U64(SIP_MASK_SHIFTED)):
            hart.hvictl = U64(HVICTL_VTI)  # no AIA for its interrupts: only sip, sie and stimecmp trap
        update_timers(hart)
    elif hart.hvictl != 0:
        interrupts_of_l2(hart, virtual)
        update_timers(hart)
    update_derived(hart)


@cold
def pull(hart: Hart, virtual: U64) -> None:
    """What is loaded, into the hart that L1 sees."""
    if hart.kvm_world != 0:
        pull_l2(hart, virtual)
    else:
        pull_l1(hart, virtual)


@cold
def push(hart: Hart, virtual: U64) -> None:
    """What the hart that L1 sees goes on with."""
    if get(virtual, U64(VIRT)) != 0:
        push_l2(hart, virtual)
    else:
        push_l1(hart, virtual)


@hosted
def leave_l2(hart: Hart) -> None:
    """The vCPU is put: whoever looks at its registers finds L1's, and where it goes on."""
    if hart.kvm_world != 0:
        pull_l2(hart, hart.kvm_virtual)
        push_l1(hart, hart.kvm_virtual)
