"""Traps of a guest hypervisor and of its guest, as L0 routes them: emulated, given to L1 or L2, or the flat KVM's.

Called first for a trap that reached hosted HS-mode, by hart or firmware. What L1 does with the H extension, and what L2
does that L1 did not delegate, is executed or taken on the hart that L1 sees (kvm.nested.virtual); that decides.
"""

from __future__ import annotations

from trapline.firmware.exit_log import (
    NESTED_EMULATE,
    NESTED_ENTER,
    NESTED_LEAVE,
    NESTED_MAP,
    NESTED_STAY,
    NO_GPA,
    VIA_FIRMWARE,
    note_exit,
)
from trapline.isa.system import SRET, is_csr
from trapline.kvm.exits.map_native import map_plain
from trapline.kvm.nested.bugs import (
    COUNTER_NOT_ROUTED,
    GVA_BY_CAUSE,
    KEPT_INTERRUPTS_LOST,
    NO_IRQ_EXIT,
    UNDELEGATED_KILL,
    has_bug,
)
from trapline.kvm.nested.instruction import (
    TRAP_CAUSE,
    TRAP_TINST,
    TRAP_TVAL,
    TRAP_TVAL2,
    execute_virtual,
    of_host_counters,
    of_hypervisor,
)
from trapline.kvm.nested.nacl import calls_nacl, go_on, serve_nacl, show_written, sync_before_sret
from trapline.kvm.nested.shadow import find_leaf, shadow
from trapline.kvm.nested.virtual import (
    stalls,
    supervisor_due,
    take,
    take_pending,
    trapped_to_supervisor,
    wakes,
    walk,
)
from trapline.kvm.nested.world import (
    HIDELEG,
    MIE,
    PC,
    SCRATCH,
    VIRT,
    get,
    pull,
    pull_clock,
    pull_l1,
    pull_l2,
    push,
    put,
    shows_guest,
    trap_returns,
    traps_to_vs,
)
from trapline.kvm.switch import preempt
from trapline.lang.control import EXIT_WFI
from trapline.lang.devices import on_hart, traps_on_hart
from trapline.lang.functions import cold, hosted, inline
from trapline.lang.state import Hart
from trapline.lang.state.words import LAYOUT
from trapline.lang.values import U64, u64
from trapline.privilege.causes import (
    BREAKPOINT,
    ECALL_VS,
    ILLEGAL_INST,
    INST_GUEST_PAGE_FAULT,
    LOAD_GUEST_PAGE_FAULT,
    STORE_GUEST_PAGE_FAULT,
    VIRTUAL_INST,
)
from trapline.privilege.csr import check_csr
from trapline.privilege.fields import ALL_ONES, HSTATUS_GVA, MSTATUS_SPP, VS_INTERRUPTS
from trapline.privilege.pte import PTE_R, PTE_W, PTE_X
from trapline.privilege.translation import (
    ACCESS_FETCH,
    ACCESS_LOAD,
    ACCESS_STORE,
    PSEUDO_READ_PTE,
    PSEUDO_WRITE_PTE,
)

IRQ_CAUSE, STIMER_AT = (LAYOUT.fields[n].index * 8 for n in ("irq_cause", "stimer_at"))
SOON = 100  # attempts
# Causes with an address of the guest's in stval, as two hypervisors list them; and those that a kernel delegates.
GIVEN_GVA = 1 << 0 | 1 << 1 | 0xF << 4 | 1 << 12 | 1 << 13 | 1 << 15
LIKELY_OF_L2 = 1 << 0 | 1 << 8 | 1 << 12 | 1 << 13 | 1 << 15
FLAT, DONE = 0, 1  # what nested_trap returns: nothing is done, the flat KVM's; all is done


@inline
def previous(hart: Hart) -> U64:
    """The guest's privilege when it was left: 0 user, 1 supervisor."""
    return U64(1) if hart.guest_sstatus & MSTATUS_SPP != 0 else U64(0)


@cold
def note(hart: Hart, kind: U64, cause: U64, origin: U64, gpa: U64, event: U64) -> None:
    """Count an exit that is done; `event` is the firmware's (note_exit)."""
    way = kind + VIA_FIRMWARE if event != 0 else kind
    hart.scratch[0] = hart.sepc
    hart.scratch[1] = hart.stval
    note_exit(hart, way, cause, origin, previous(hart), gpa, event)
    hart.scratch[7] = way


@cold
def finish(hart: Hart, virtual: U64, cause: U64, origin: U64, through_m: U64) -> None:
    """Load what goes on, and count the exit by where it came from and went."""
    came = hart.kvm_world
    go_on(hart, virtual)
    kind = U64(NESTED_EMULATE)
    if came != 0:
        kind = U64(NESTED_STAY)
        if hart.kvm_world == 0:
            kind = U64(NESTED_LEAVE)
    elif hart.kvm_world != 0:
        kind = U64(NESTED_ENTER)
    note(hart, kind, cause, origin, U64(NO_GPA), through_m)


@cold
def l1_instruction(hart: Hart, virtual: U64, through_m: U64) -> None:
    """L1 uses the H extension."""
    origin = previous(hart)
    pull_l1(hart, virtual)
    if hart.stval == SRET:
        sync_before_sret(hart, virtual)
    trapped = execute_virtual(hart, virtual, hart.stval)
    if trapped or get(virtual, U64(VIRT)) != 0 or get(virtual, U64(PC)) != hart.guest_sepc + 4:
        finish(hart, virtual, U64(VIRTUAL_INST), origin, through_m)
        return
    hart.guest_sepc = hart.guest_sepc + 4
    if hart.kvm_nacl_memory != 0 and is_csr(hart.stval):
        show_written(hart, virtual, hart.stval >> 20 & 0xFFF)
    if shows_guest(virtual):
        hart.kvm_traps_seen = traps_to_vs(hart)
    trap_returns(hart, virtual)
    note(hart, U64(NESTED_EMULATE), U64(VIRTUAL_INST), origin, U64(NO_GPA), through_m)


@inline
def kind_of(hart: Hart, access: U64) -> U64:
    """The access that the G-stage saw: to the VS-stage's entry, or the explicit one."""
    if hart.htinst == PSEUDO_READ_PTE:
        return U64(ACCESS_LOAD)
    return U64(ACCESS_STORE) if hart.htinst == PSEUDO_WRITE_PTE else access


@inline
def wanted(kind: U64) -> U64:
    """The permission that an access needs; a load of what is only executable is decided by MXR."""
    if kind == ACCESS_STORE:
        return U64(PTE_W)
    return U64(PTE_X) if kind == ACCESS_FETCH else U64(PTE_R | PTE_X)


@cold
def l2_page_fault(hart: Hart, virtual: U64, cause: U64, access: U64, through_m: U64) -> U64:
    """A guest page fault of L2: L1's to see, or one of the shadow's, or of memory that the VM has yet to map."""
    origin = previous(hart)
    kind = kind_of(hart, access)
    pseudo = hart.htinst if kind != access or hart.htinst == PSEUDO_READ_PTE else U64(0)
    if hart.htinst == PSEUDO_WRITE_PTE:
        pseudo = hart.htinst
    gpa = hart.htval << 2
    if pseudo == 0:
        gpa = gpa | (hart.stval & 3)
    if traps_on_hart(virtual, walk, gpa, kind, hart.stval, access, pseudo):
        tinst = get(virtual, U64(TRAP_TINST))
        if pseudo == 0 and get(virtual, U64(TRAP_CAUSE)) == cause:
            tinst = hart.htinst
        on_hart(
            virtual,
            take,
            get(virtual, U64(TRAP_CAUSE)),
            get(virtual, U64(TRAP_TVAL)),
            get(virtual, U64(TRAP_TVAL2)),
            tinst,
            U64(1),
        )
        finish(hart, virtual, cause, origin, through_m)
        return U64(DONE)
    pa = get(virtual, U64(SCRATCH))
    device = get(virtual, U64(SCRATCH + 8))
    guest = get(virtual, U64(SCRATCH + 16))
    guest_level = get(virtual, U64(SCRATCH + 24))
    host = find_leaf(hart, hart.kvm_hgatp, pa)
    if host == 0 and device == 0 and map_plain(hart, pa):
        host = find_leaf(hart, hart.kvm_hgatp, pa)
    if host & wanted(kind) == 0:
        # The flat KVM's, which takes htval for an address of the VM.
        hart.htval = pa >> 2
        hart.kvm_walked = 1
        return U64(FLAT)
    shadow(hart, gpa, pa, guest, guest_level, host, hart.scratch[4])
    note(hart, U64(NESTED_MAP), cause, origin, gpa, through_m)
    return U64(DONE)


@cold
def l2_instruction(hart: Hart, virtual: U64, through_m: U64) -> U64:
    """A virtual instruction of L2."""
    origin = previous(hart)
    pull_l2(hart, virtual)
    if of_host_counters(hart.stval):
        if has_bug(hart, U64(COUNTER_NOT_ROUTED)) or not counter_traps(hart, virtual, hart.stval):
            return U64(FLAT)
    execute_virtual(hart, virtual, hart.stval)
    finish(hart, virtual, U64(VIRTUAL_INST), origin, through_m)
    on_hart(virtual, stalls)
    if get(virtual, U64(SCRATCH)) != 0:
        hart.exit_reason = EXIT_WFI
    return U64(DONE)


@cold
def counter_traps(hart: Hart, virtual: U64, bits: U64) -> bool:
    """Whether L1 keeps L2 from a counter."""
    return traps_on_hart(virtual, check_csr, bits >> 20 & 0xFFF, u64(bits >> 12 & 3 == 1 or bits >> 15 & 31 != 0))


@cold
def l2_trap(hart: Hart, virtual: U64, cause: U64, through_m: U64) -> None:
    """A trap of L2 that it does not take itself: L1's."""
    origin = previous(hart)
    pull_l2(hart, virtual)
    gva = u64(hart.hstatus & HSTATUS_GVA != 0)
    if through_m != 0 or has_bug(hart, U64(GVA_BY_CAUSE)):
        gva = U64(GIVEN_GVA) >> cause & 1  # firmware's redirects leave the bit of an earlier trap
        if cause == BREAKPOINT and hart.stval != 0 and not has_bug(hart, U64(GVA_BY_CAUSE)):
            gva = U64(1)
    on_hart(virtual, take, cause, hart.stval, hart.htval, hart.htinst, gva)
    finish(hart, virtual, cause, origin, through_m)


@cold
def l2_interrupt(hart: Hart, virtual: U64) -> None:
    """An interrupt of L2's that L1 did not delegate to it, or one that L1's own lines raise."""
    pull_l2(hart, virtual)
    on_hart(virtual, take_pending)
    go_on(hart, virtual)
    hart.scratch[7] = U64(NESTED_LEAVE)


@cold
def l2_exit(hart: Hart, virtual: U64, cause: U64, through_m: U64) -> U64:
    """A trap from world 1."""
    if cause >> 63 != 0:
        l2_interrupt(hart, virtual)
        return U64(DONE)
    if cause == VIRTUAL_INST:
        return l2_instruction(hart, virtual, through_m)
    if cause == LOAD_GUEST_PAGE_FAULT or cause == STORE_GUEST_PAGE_FAULT or cause == INST_GUEST_PAGE_FAULT:
        pull_l2(hart, virtual)
        access = U64(ACCESS_LOAD)
        if cause == STORE_GUEST_PAGE_FAULT:
            access = U64(ACCESS_STORE)
        elif cause == INST_GUEST_PAGE_FAULT:
            access = U64(ACCESS_FETCH)
        return l2_page_fault(hart, virtual, cause, access, through_m)
    if U64(LIKELY_OF_L2) >> cause & 1 != 0 and has_bug(hart, U64(UNDELEGATED_KILL)):
        return U64(FLAT)
    l2_trap(hart, virtual, cause, through_m)
    return U64(DONE)


@hosted
def nested_trap(hart: Hart, through_m: U64) -> U64:
    """A trap of the guest has reached HS-mode, and guest_* is saved: DONE, or FLAT if it is the flat KVM's.

    scratch[7] has the kind of exit that it was.

    `through_m` is the firmware's event (note_exit) if it came that way.
    """
    virtual = hart.kvm_virtual
    cause = hart.scause
    if hart.kvm_walked != 0:
        return U64(FLAT)
    if hart.kvm_world == 0:
        if cause == ECALL_VS and calls_nacl(hart):
            origin = previous(hart)
            pull_l1(hart, virtual)
            serve_nacl(hart, virtual)
            finish(hart, virtual, cause, origin, through_m)
            return U64(DONE)
        if cause != VIRTUAL_INST or not of_hypervisor(hart.stval):
            return U64(FLAT)
        l1_instruction(hart, virtual, through_m)
        return U64(DONE)
    return l2_exit(hart, virtual, cause, through_m)


@hosted
def nested_redirect(hart: Hart, cause: U64, epc: U64, tval: U64) -> bool:
    """The flat KVM gives its guest a trap: in world 1 it is taken where L1 has it taken; True if that is done."""
    virtual = hart.kvm_virtual
    if hart.kvm_world != 0:
        pull_l2(hart, virtual)
        put(virtual, U64(PC), epc)
        on_hart(virtual, take, cause, tval, U64(0), U64(0), u64(cause != ILLEGAL_INST and cause != VIRTUAL_INST))
        go_on(hart, virtual)
        return True
    on_hart(virtual, trapped_to_supervisor)
    return False


@cold
def between(hart: Hart) -> None:
    """The guest is left, so that another context can take its place."""
    if hart.kvm_in_guest != 0:
        preempt(hart)


@inline
def keeps_interrupts(hart: Hart, virtual: U64) -> bool:
    """Whether L1 has enabled interrupts of its guest that it keeps for itself."""
    if get(virtual, U64(MIE)) & ~get(virtual, U64(HIDELEG)) & VS_INTERRUPTS == 0:
        return False
    return not has_bug(hart, U64(KEPT_INTERRUPTS_LOST))


@cold
def undelegated_due(hart: Hart, virtual: U64) -> bool:
    """Whether L1 has to take an interrupt of L2's that it kept for itself; its own lines are the hart's."""
    if not keeps_interrupts(hart, virtual):
        return False
    between(hart)
    pull_l1(hart, virtual)
    on_hart(virtual, supervisor_due)
    return get(virtual, U64(SCRATCH)) != 0


@cold
def supervisor_interrupts(hart: Hart, virtual: U64) -> bool:
    """Whether an interrupt of L1's ends the run of L2."""
    pull_clock(hart, virtual)
    on_hart(virtual, supervisor_due)
    if get(virtual, U64(SCRATCH)) == 0 or has_bug(hart, U64(NO_IRQ_EXIT)):
        return False
    of_guest = (U64(VS_INTERRUPTS) << 1) >> get(virtual, U64(IRQ_CAUSE)) & 1 != 0  # irq_cause is the code, plus 1
    return not (of_guest and has_bug(hart, U64(KEPT_INTERRUPTS_LOST)))


@hosted
def enter_nested(hart: Hart) -> None:
    """Before the guest is entered: an interrupt that L1 is to take, and the context that goes on."""
    virtual = hart.kvm_virtual
    hart.kvm_walked = 0
    inner = get(virtual, U64(VIRT))
    due = supervisor_interrupts(hart, virtual) if inner != 0 else undelegated_due(hart, virtual)
    if due:
        between(hart)
        if hart.kvm_world == inner:
            pull(hart, virtual)
        on_hart(virtual, take_pending)
        go_on(hart, virtual)
    elif inner != hart.kvm_world:
        between(hart)
        push(hart, virtual)


@hosted
def nested_wakes(hart: Hart) -> bool:
    """Whether something ends a WFI of world 1."""
    virtual = hart.kvm_virtual
    pull_clock(hart, virtual)
    on_hart(virtual, wakes)
    return get(virtual, U64(SCRATCH)) != 0


@hosted
def nested_deadline(hart: Hart) -> U64:
    """The instret at which a timer that is not the hart's must be looked at: L1's while L2 runs."""
    virtual = hart.kvm_virtual
    end = U64(ALL_ONES)
    if hart.kvm_world != 0:
        due = get(virtual, U64(STIMER_AT))
        if due > hart.instret:
            end = due
    elif keeps_interrupts(hart, virtual):
        # L1 keeps interrupts of its guest for itself; when it enables them it does not tell.
        end = hart.instret + SOON
    return end
