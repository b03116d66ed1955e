"""Hosted exits that never leave native code: what KVM_RUN's loop does for the commonest traps of a guest.

`hosted_exit` is called by the native engine when a trap has reached a hosted mode. It handles the whole of
it, up to the guest's next instruction, or nothing: then Python's hosted firmware and KVM do. Each step is
a function that they use too. What it may do for a cause is in hart.kvm_action (kvm.native_setup).
"""

from __future__ import annotations

from trapline.engine.observe.trace import is_much_unread
from trapline.engine.records import ACCESS_NOTHING, ACCESS_SIZE
from trapline.firmware.exit_log import (
    ACTION_REDIRECT,
    FIRMWARE_EMULATE,
    FIRMWARE_TO_VS,
    GSTAGE_MAP,
    KVM_ACTION,
    KVM_EMULATE,
    KVM_ILLEGAL,
    KVM_REDIRECT,
    MMIO_USER,
    NO_GPA,
    SBI_CALL,
    VIA_FIRMWARE,
    note_exit,
    note_firmware,
)
from trapline.firmware.handler import NOT_SERVED, previous_privilege, serve_trap
from trapline.firmware.redirect import WENT_TO_HS, WENT_TO_VS
from trapline.isa.system import WFI, WRS_NTO, WRS_STO, is_csr
from trapline.kvm.entry import (
    cut_turn,
    enter_vcpu,
    runnable,
    slice_left,
    spend_time,
    sync_pending,
    sync_timer,
    timer_tick,
    turn_end,
)
from trapline.kvm.exits.guest_fetch import fetches_guest
from trapline.kvm.exits.map_native import map_plain
from trapline.kvm.exits.mmio_access import DECODED, decode_access, finish_access, stored_data
from trapline.kvm.exits.outside import FAULT_SHIFT, FETCH, is_held
from trapline.kvm.exits.redirect import trap_redirect
from trapline.kvm.exits.sbi_native import serve_call
from trapline.kvm.flags import SERVES_MMIO, SERVES_WRS, WFI_OF_USER_IS_ILLEGAL
from trapline.kvm.nested.exits import FLAT, nested_trap
from trapline.kvm.switch import save_guest
from trapline.lang.control import (
    ATTENTION_RESUME,
    EXIT_HOSTED_HS,
    EXIT_HOSTED_M,
    EXIT_STOP,
    EXIT_TIMER,
    EXIT_WFI,
    call_action,
    user_mmio,
)
from trapline.lang.devices import call_registers
from trapline.lang.functions import cold, hosted, inline
from trapline.lang.state import Hart
from trapline.lang.values import U64, ctz, u64
from trapline.privilege.causes import (
    ILLEGAL_INST,
    INST_GUEST_PAGE_FAULT,
    LOAD_GUEST_PAGE_FAULT,
    STORE_GUEST_PAGE_FAULT,
)
from trapline.privilege.derived import update_derived
from trapline.privilege.fields import (
    HSTATUS_SPV,
    MSTATUS_FS,
    MSTATUS_MPV,
    MSTATUS_SPP,
)
from trapline.privilege.interrupts import time_now

# hart.kvm_action: by cause what to do (0 is Python's), and flags; from EVENT_SHIFT 1 + the firmware event that it is.
# STAT_SHIFT and WRS_SHIFT: numbers of the counters of what is done.
BY_PYTHON, BY_REDIRECT, BY_SBI, BY_PAGE_FAULT, BY_FUNCTION, BY_VIRTUAL = range(6)
FUNCTION_RESUMES = 1
ACTION_MASK, KEEPS_PRIVILEGE, NEEDS_SPV, ELSE_MMIO, STAT_SHIFT, EVENT_SHIFT, WRS_SHIFT = (
    0xFF, 1 << 8, 1 << 9, 1 << 10, 16, 24, 32,
)  # fmt: skip

# What hosted_exit returns: Python's, go on in the guest, leave and run again.
NOT_HANDLED, GO_ON, COME_BACK = 0, 1, 2

FS_CLEAN = 2 << 13


@inline
def previous_mode(hart: Hart) -> U64:
    """Where the guest was or will be: 0 VU, 1 VS."""
    return U64(1) if hart.guest_sstatus & MSTATUS_SPP != 0 else U64(0)


@cold
def move_counters(hart: Hart, cause: U64) -> None:
    """The counter of all exits, those of the cause's rule, and the firmware event that the guest's PMU may count."""
    if hart.kvm_exits_stat != 0:
        hart.kvm_stat[hart.kvm_exits_stat - 1] = hart.kvm_stat[hart.kvm_exits_stat - 1] + 1
    if cause >= 64:
        return
    event = hart.kvm_action[cause] >> EVENT_SHIFT & 15
    if event != 0:
        hart.kvm_events[event - 1] = hart.kvm_events[event - 1] + 1
    counters = hart.kvm_counters[cause]
    for _ in range(64):
        if counters == 0:
            break
        number = ctz(counters)
        hart.kvm_stat[number] = hart.kvm_stat[number] + 1
        counters = counters & (counters - 1)


@inline
def count_own(hart: Hart, cause: U64, shift: U64) -> None:
    """The counter of what is done with a cause, beside those of its rule."""
    number = hart.kvm_action[cause] >> shift & 63
    hart.kvm_stat[number] = hart.kvm_stat[number] + 1


@hosted
def begin_exit(hart: Hart, cause: U64) -> None:
    """What KVM does at each exit before it looks at the cause."""
    hart.kvm_in_guest = 0
    move_counters(hart, cause)
    sync_pending(hart)
    sync_timer(hart)


@inline
def finish_exit(hart: Hart, kind: U64, cause: U64, origin: U64, gpa: U64) -> None:
    """Count the exit and let the time pass that it is estimated to take."""
    event = hart.fw_event if hart.kvm_via != 0 else U64(0)
    place = kind + hart.kvm_via
    instructions = note_exit(hart, place, cause, origin, previous_mode(hart), gpa, event)
    spend_time(hart, instructions + hart.exit_cost[place])


@cold
def redirect_exit(hart: Hart, cause: U64) -> None:
    """The guest gets the trap that HS-mode got."""
    origin = previous_mode(hart)
    begin_exit(hart, cause)
    keep = U64(1) if hart.kvm_action[cause] & KEEPS_PRIVILEGE != 0 else U64(0)
    trap_redirect(hart, cause, hart.sepc, hart.stval, keep)
    hart.scratch[0] = hart.sepc
    hart.scratch[1] = hart.stval
    finish_exit(hart, U64(KVM_REDIRECT), cause, origin, trap_gpa(hart, cause))


@inline
def trap_gpa(hart: Hart, cause: U64) -> U64:
    """The guest physical address of a guest page fault, for the record."""
    if cause == INST_GUEST_PAGE_FAULT or cause == LOAD_GUEST_PAGE_FAULT or cause == STORE_GUEST_PAGE_FAULT:
        return (hart.htval << 2) | (hart.stval & 3)
    return U64(NO_GPA)


@cold
def function_exit(hart: Hart, cause: U64) -> None:
    """The policy's own action decides."""
    origin = previous_mode(hart)
    begin_exit(hart, cause)
    hart.scratch[0] = hart.sepc
    hart.scratch[1] = hart.stval
    gpa = trap_gpa(hart, cause)
    kind = U64(KVM_ACTION)
    if call_action(hart, hart.kvm_function[cause]) != FUNCTION_RESUMES:
        kind = U64(ACTION_REDIRECT)
        keep = u64(hart.kvm_action[cause] & KEEPS_PRIVILEGE != 0)
        trap_redirect(hart, cause, hart.sepc, hart.stval, keep)
    finish_exit(hart, kind, cause, origin, gpa)


@inline
def served_window(hart: Hart, gpa: U64, size: U64) -> U64:
    """Number of the window that the VMM serves without KVM_RUN coming back, 8 if it has none there."""
    found = U64(8)
    for i in range(8):
        if gpa >= hart.kvm_windows[i * 2] and gpa + size <= hart.kvm_windows[i * 2 + 1]:
            found = U64(0) + i
    return found


@cold
def vmm_access(hart: Hart, window: U64, gpa: U64, size: U64, store: U64, data: U64) -> U64:
    """The VMM's device: by its compiled registers, or by the VMM itself."""
    io = hart.kvm_window_io[window]
    if io == 0:
        cut_turn(hart)
        return user_mmio(hart, gpa, size | (store << 8), data)
    function = hart.kvm_window_load[window] if store == 0 else hart.kvm_window_store[window]
    return call_registers(hart, function, io, gpa - hart.kvm_windows[window * 2], size, data)


@cold
def mmio_exit(hart: Hart, cause: U64) -> bool:
    """An access to a device that the VMM serves at once; False, with nothing done, if it needs Python."""
    gpa = (hart.htval << 2) | (hart.stval & 3)
    store = u64(cause == STORE_GUEST_PAGE_FAULT)
    if decode_access(hart, store, gpa, hart.htinst) != DECODED or hart.kvm_mmio_access & ACCESS_NOTHING != 0:
        return False
    size = hart.kvm_mmio_access & ACCESS_SIZE
    window = served_window(hart, gpa, size)
    if window == 8:
        return False
    origin = previous_mode(hart)
    begin_exit(hart, cause)
    data = stored_data(hart) if store != 0 else U64(0)
    count_own(hart, cause, U64(STAT_SHIFT))
    hart.scratch[0] = hart.sepc
    hart.scratch[1] = hart.stval
    finish_exit(hart, U64(MMIO_USER), cause, origin, gpa)
    finish_access(hart, vmm_access(hart, window, gpa, size, store, data))
    # The VMM's thread has had the floating-point registers saved and restored: FS is Clean (vcpu_fp.c).
    if hart.guest_sstatus & MSTATUS_FS != 0:
        hart.guest_sstatus = (hart.guest_sstatus & ~U64(MSTATUS_FS)) | FS_CLEAN
    return True


@cold
def map_exit(hart: Hart, cause: U64) -> bool:
    """A guest page fault in plain RAM: map it."""
    gpa = trap_gpa(hart, cause)
    if not map_plain(hart, gpa):
        return False
    origin = previous_mode(hart)
    begin_exit(hart, cause)
    hart.scratch[0] = hart.sepc
    hart.scratch[1] = hart.stval
    finish_exit(hart, U64(GSTAGE_MAP), cause, origin, gpa)
    return True


@cold
def refused_exit(hart: Hart, cause: U64) -> bool:
    """An access to where nothing is that is an access fault to the guest; False, with nothing done, if not."""
    answer = hart.kvm_outside[cause - INST_GUEST_PAGE_FAULT]
    gpa = trap_gpa(hart, cause)
    if answer == 0 or is_held(hart, gpa, U64(0)):
        return False
    if answer & FETCH == 0:
        found = decode_access(hart, u64(cause == STORE_GUEST_PAGE_FAULT), gpa, hart.htinst)
        if (answer >> found) & 1 == 0 or (found == DECODED and is_held(hart, gpa, U64(1))):
            return False
    origin = previous_mode(hart)
    begin_exit(hart, cause)
    keep = u64(hart.kvm_action[cause] & KEEPS_PRIVILEGE != 0)
    trap_redirect(hart, (answer >> FAULT_SHIFT) & 63, hart.sepc, hart.stval, keep)
    hart.scratch[0] = hart.sepc
    hart.scratch[1] = hart.stval
    finish_exit(hart, U64(KVM_REDIRECT), cause, origin, gpa)
    return True


@cold
def page_fault_exit(hart: Hart, cause: U64) -> bool:
    """Map the page, or serve the access where the rule says so; False, with nothing done, if it is Python's."""
    if map_exit(hart, cause) or refused_exit(hart, cause):
        return True
    if hart.kvm_action[cause] & ELSE_MMIO == 0 or hart.kvm_flags & SERVES_MMIO == 0 or not mmio_exit(hart, cause):
        return False
    hart.kvm_run_end = turn_end(hart)
    return True


@cold
def wait_exit(hart: Hart, cause: U64, wrs: bool) -> None:
    """A WFI: the vCPU blocks unless something is pending that ends it. A WRS: the other vCPUs get the turn."""
    origin = previous_mode(hart)
    begin_exit(hart, cause)
    if wrs:
        count_own(hart, cause, U64(WRS_SHIFT))
        hart.kvm_yielded = u64(hart.kvm_peer_count > 1)
    else:
        count_own(hart, cause, U64(STAT_SHIFT))
        if not runnable(hart):
            hart.kvm_blocked = 1
            hart.kvm_blocked_at = time_now(hart)
    if hart.kvm_blocked != 0 or hart.kvm_yielded != 0:
        cut_turn(hart)
    hart.guest_sepc = hart.guest_sepc + 4
    hart.scratch[0] = hart.sepc
    hart.scratch[1] = hart.stval
    finish_exit(hart, U64(KVM_EMULATE), cause, origin, U64(NO_GPA))


@cold
def illegal_exit(hart: Hart, cause: U64, insn: U64) -> None:
    """The guest gets an illegal instruction exception with the bits in stval."""
    origin = previous_mode(hart)
    begin_exit(hart, cause)
    keep = U64(1) if hart.kvm_action[cause] & KEEPS_PRIVILEGE != 0 else U64(0)
    trap_redirect(hart, U64(ILLEGAL_INST), hart.guest_sepc, insn, keep)
    hart.scratch[0] = hart.sepc
    hart.scratch[1] = hart.stval
    finish_exit(hart, U64(KVM_ILLEGAL), cause, origin, U64(NO_GPA))


@cold
def virtual_exit(hart: Hart, cause: U64) -> bool:
    """A virtual instruction: WFI, WRS, or one that is illegal; CSR accesses are Python's."""
    insn = hart.stval
    if insn == 0:
        if not fetches_guest(hart):
            return False
        insn = hart.attempted
    if insn == WFI and (previous_mode(hart) != 0 or hart.kvm_flags & WFI_OF_USER_IS_ILLEGAL == 0):
        wait_exit(hart, cause, False)
        return True
    if (insn == WRS_NTO or insn == WRS_STO) and hart.kvm_flags & SERVES_WRS != 0:
        wait_exit(hart, cause, True)
        return True
    if is_csr(insn):
        return False
    illegal_exit(hart, cause, insn)
    return True


@cold
def sbi_exit(hart: Hart) -> bool:
    """An ecall from VS-mode, if it is one of those that are served here."""
    origin = previous_mode(hart)
    hart.scratch[0] = hart.sepc
    hart.scratch[1] = hart.stval
    if not serve_call(hart, U64(0)):
        return False
    begin_exit(hart, U64(10))
    serve_call(hart, U64(1))
    hart.x[10] = hart.scratch[2]
    hart.x[11] = hart.scratch[3]
    hart.guest_sepc = hart.guest_sepc + 4
    finish_exit(hart, U64(SBI_CALL), U64(10), origin, U64(NO_GPA))
    return True


@cold
def supervisor_exit(hart: Hart) -> bool:
    """A trap of the guest that entered HS-mode; False, with nothing done, if it is Python's."""
    cause = hart.scause
    if hart.kvm_virtual != 0 and nested_exit(hart):
        return True
    if cause >= 64:
        return False
    word = hart.kvm_action[cause]
    action = word & ACTION_MASK
    if action == BY_PYTHON or (word & NEEDS_SPV != 0 and hart.hstatus & HSTATUS_SPV == 0):
        return False
    save_guest(hart)
    if action == BY_REDIRECT:
        redirect_exit(hart, cause)
        return True
    if action == BY_FUNCTION:
        function_exit(hart, cause)
        return True
    if action == BY_VIRTUAL:
        return virtual_exit(hart, cause)
    if action == BY_PAGE_FAULT:
        return page_fault_exit(hart, cause)
    if action == BY_SBI:
        return sbi_exit(hart)
    return False


@cold
def nested_exit(hart: Hart) -> bool:
    """A trap of a guest hypervisor or of its guest; False, with nothing done, if it is an exit of any guest's."""
    if hart.hstatus & HSTATUS_SPV == 0:
        return False
    cause = hart.scause
    save_guest(hart)
    sync_pending(hart)
    sync_timer(hart)
    event = hart.fw_event if hart.kvm_via != 0 else U64(0)
    if nested_trap(hart, event) == FLAT:
        return False
    hart.kvm_in_guest = 0
    if cause < 64:
        move_counters(hart, cause)
    firmware = hart.fw_cost[event - 1] if event != 0 else U64(0)
    spend_time(hart, firmware + hart.exit_cost[hart.scratch[7]])
    return True


@cold
def machine_exit(hart: Hart) -> bool:
    """A trap of the guest that entered M-mode; False, with nothing done, if it is Python's.

    Where firmware hands it to HS-mode it is not done either: it is an exit to HS-mode then that came through firmware.
    """
    cause = hart.mcause
    origin = previous_privilege(hart)
    epc = hart.mepc
    tval = hart.mtval
    if hart.mstatus & MSTATUS_MPV == 0:
        return False
    went = serve_trap(hart)
    if went == NOT_SERVED:
        return False
    note_firmware(hart, went, cause, origin)
    if went == WENT_TO_HS:
        hart.kvm_via = VIA_FIRMWARE
        hart.exit_reason = EXIT_HOSTED_HS
        return False
    hart.scratch[0] = epc
    hart.scratch[1] = tval
    kind = U64(FIRMWARE_TO_VS) if went == WENT_TO_VS else U64(FIRMWARE_EMULATE)
    where = U64(1) if went == WENT_TO_VS else origin
    spend_time(hart, note_exit(hart, kind, cause, origin, where, U64(NO_GPA), hart.fw_event))
    return True


@hosted
def hosted_exit(hart: Hart) -> U64:
    """Handle the exit that native code is about to leave for, the hart's exit_reason."""
    handled = False
    hart.kvm_via = 0
    hart.kvm_exit_at = hart.instret
    hart.kvm_exit_offset = hart.time_offset
    if hart.instret >= hart.hpm_due:
        update_derived(hart)  # an overflow is noticed behind the very instruction, as Python's exits notice it
    if hart.exit_reason == EXIT_HOSTED_M:
        handled = machine_exit(hart)
    if not handled and hart.exit_reason == EXIT_HOSTED_HS:
        handled = supervisor_exit(hart)
    if not handled:
        return U64(NOT_HANDLED)
    hart.kvm_exits_left = hart.kvm_exits_left - 1
    if hart.exit_reason != EXIT_WFI and hart.trace_base != 0 and is_much_unread(hart):
        hart.exit_reason = EXIT_STOP
    stopped = hart.exit_reason == EXIT_STOP
    timer_tick(hart)
    if hart.exit_reason == EXIT_WFI:  # L2's own
        enter_vcpu(hart)
        return U64(COME_BACK)
    waits = hart.kvm_blocked != 0 or hart.kvm_yielded != 0
    if stopped or hart.kvm_exits_left == 0 or waits or hart.instret >= hart.kvm_run_end:
        if not stopped:
            hart.exit_reason = EXIT_TIMER
        return U64(COME_BACK)
    enter_vcpu(hart)
    hart.attention = ATTENTION_RESUME
    left = slice_left(hart)
    hart.ic_end = hart.instret + left
    hart.ic_left = left
    if hart.hpm_due < hart.ic_end and hart.hpm_due > hart.instret:
        hart.ic_left = hart.hpm_due - hart.instret
    return U64(GO_ON)
