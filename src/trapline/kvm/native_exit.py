"""Hosted exits that never leave native code: what KVM_RUN's loop does for the commonest traps of a guest.

`hosted_exit` is called by the native engine when a trap has reached a hosted mode. It handles the whole of
it, up to the guest's next instruction, or nothing: then Python's hosted firmware and KVM do. Each step is
a function that they use too. What native code may do for a cause is in hart.kvm_action (kvm.native_setup).
"""

from __future__ import annotations

from typing import Any

from trapline.engine.decode_block import find_entry, register_bytes, word
from trapline.engine.decode_table import (
    ACCESS,
    ACCESS_SIZE,
    ACCESS_STORE,
    NUMBER,
)
from trapline.firmware.emulate import emulate_plain, instruction_at, write_loaded
from trapline.firmware.exit_log import (
    ACTION_REDIRECT,
    FIRMWARE_ACTION,
    FIRMWARE_ACTION_REDIRECT,
    FIRMWARE_EMULATE,
    FIRMWARE_TO_HS,
    FIRMWARE_TO_VS,
    GSTAGE_MAP,
    KVM_ACTION,
    KVM_EMULATE,
    KVM_REDIRECT,
    MMIO_USER,
    NO_GPA,
    SBI_CALL,
    note_exit,
)
from trapline.firmware.redirect import EMULATES_MISALIGNED, FETCHES, goes_to_vs, redirect_trap
from trapline.kvm.entry import (
    enter_vcpu,
    runnable,
    slice_left,
    spend_time,
    sync_pending,
    sync_timer,
    timer_tick,
    turn_end,
)
from trapline.kvm.map_native import map_plain
from trapline.kvm.nested.exits import FLAT, nested_trap
from trapline.kvm.redirect import trap_redirect
from trapline.kvm.sbi_native import serve_call
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
from trapline.lang.values import U64, u64
from trapline.privilege.causes import (
    ILLEGAL_INST,
    INST_GUEST_PAGE_FAULT,
    LOAD_ACCESS,
    LOAD_GUEST_PAGE_FAULT,
    LOAD_MISALIGNED,
    STORE_ACCESS,
    STORE_GUEST_PAGE_FAULT,
    STORE_MISALIGNED,
)
from trapline.privilege.fields import (
    HSTATUS_SPV,
    MSTATUS_FS,
    MSTATUS_GVA,
    MSTATUS_MPP_SHIFT,
    MSTATUS_MPV,
    MSTATUS_SPP,
)
from trapline.privilege.memory import guest_load
from trapline.privilege.modes import MACHINE
from trapline.privilege.returns import mret
from trapline.privilege.translation import PSEUDO_READ_PTE, PSEUDO_WRITE_PTE

# hart.kvm_action: by cause what to do (0 is Python's), and flags.
BY_PYTHON, BY_REDIRECT, BY_SBI, BY_PAGE_FAULT, BY_FUNCTION, BY_WFI = range(6)
FUNCTION_RESUMES = 1
ACTION_MASK, KEEPS_PRIVILEGE, HAS_EVENT, ELSE_MMIO, STAT_SHIFT = 0xFF, 1 << 8, 1 << 9, 1 << 10, 16
# hart.kvm_flags, besides those of kvm.sbi_native.
SERVES_MMIO, COUNTS_EVENTS = 16, 32

# What hosted_exit returns: Python's, go on in the guest, leave and run again.
NOT_HANDLED, GO_ON, COME_BACK = 0, 1, 2

SYSTEM_OPCODE, WFI = 0x73, 0x10500073
FS_CLEAN = 2 << 13
HTIMEDELTA, COUNTERS = 0x605, 0xC00
# hart.fw_cost: redirects by event, then the accesses that are emulated.
COST_ILLEGAL, COST_ATOMIC, COST_ACCESS, COST_PLAIN, COST_ILLEGAL_TO_VS, COST_AMO, COST_EMULATED = range(7)


@inline
def previous_mode(hart: Any) -> U64:
    """Where the guest was or will be: 0 VU, 1 VS."""
    return U64(1) if hart.guest_sstatus & MSTATUS_SPP != 0 else U64(0)


@cold
def move_counters(hart: Any, cause: U64) -> None:
    """The counter of all exits, and those of the cause's rule."""
    if hart.kvm_exits_stat != 0:
        hart.kvm_stat[hart.kvm_exits_stat - 1] = hart.kvm_stat[hart.kvm_exits_stat - 1] + 1
    counters = hart.kvm_counters[cause]
    for _ in range(8):
        if counters == 0:
            break
        number = (counters & 255) - 1
        hart.kvm_stat[number] = hart.kvm_stat[number] + 1
        counters = counters >> 8


@inline
def count_own(hart: Any, cause: U64) -> None:
    """The counter of what is done with a cause, beside those of its rule."""
    number = hart.kvm_action[cause] >> STAT_SHIFT & 63
    hart.kvm_stat[number] = hart.kvm_stat[number] + 1


@inline
def begin_exit(hart: Any, cause: U64) -> None:
    """An exit that will be handled here: what KVM does before it looks at the cause."""
    hart.kvm_in_guest = 0
    move_counters(hart, cause)
    sync_pending(hart)
    sync_timer(hart)


@inline
def finish_exit(hart: Any, kind: U64, cause: U64, origin: U64, gpa: U64, event: U64) -> None:
    """Count the exit and let the time pass that it is estimated to take; `event` is the firmware's (note_exit)."""
    instructions = note_exit(hart, kind, cause, origin, previous_mode(hart), gpa, event)
    spend_time(hart, instructions + hart.exit_cost[kind])


@cold
def redirect_exit(hart: Any, kind: U64, cause: U64, event: U64) -> None:
    """The guest gets the trap that HS-mode got; `event` is that of firmware which handed it on."""
    origin = previous_mode(hart)
    begin_exit(hart, cause)
    keep = U64(1) if hart.kvm_action[cause] & KEEPS_PRIVILEGE != 0 else U64(0)
    trap_redirect(hart, cause, hart.sepc, hart.stval, keep)
    hart.scratch[0] = hart.sepc
    hart.scratch[1] = hart.stval
    finish_exit(hart, kind, cause, origin, U64(NO_GPA), event)


@inline
def trap_gpa(hart: Any, cause: U64) -> U64:
    """The guest physical address of a guest page fault, for the record."""
    if cause == INST_GUEST_PAGE_FAULT or cause == LOAD_GUEST_PAGE_FAULT or cause == STORE_GUEST_PAGE_FAULT:
        return (hart.htval << 2) | (hart.stval & 3)
    return U64(NO_GPA)


@cold
def function_exit(hart: Any, resumed: U64, redirected: U64, cause: U64, event: U64) -> None:
    """The policy's own action decides; `resumed` and `redirected` are the kinds of exit that it can make this."""
    origin = previous_mode(hart)
    begin_exit(hart, cause)
    hart.scratch[0] = hart.sepc
    hart.scratch[1] = hart.stval
    gpa = trap_gpa(hart, cause)
    kind = resumed
    if call_action(hart, hart.kvm_function[cause]) != FUNCTION_RESUMES:
        kind = redirected
        keep = u64(hart.kvm_action[cause] & KEEPS_PRIVILEGE != 0)
        trap_redirect(hart, cause, hart.sepc, hart.stval, keep)
    finish_exit(hart, kind, cause, origin, gpa, event)


@inline
def served_window(hart: Any, gpa: U64, size: U64) -> U64:
    """Number of the window that the VMM serves without KVM_RUN coming back, 8 if it has none there."""
    found = U64(8)
    for i in range(8):
        if gpa >= hart.kvm_windows[i * 2] and gpa + size <= hart.kvm_windows[i * 2 + 1]:
            found = U64(0) + i
    return found


@cold
def vmm_access(hart: Any, window: U64, gpa: U64, size: U64, store: U64, data: U64) -> U64:
    """The VMM's device: by its compiled registers, or by the VMM itself."""
    io = hart.kvm_window_io[window]
    if io == 0:
        return user_mmio(hart, gpa, size | (store << 8), data)
    function = hart.kvm_window_load[window] if store == 0 else hart.kvm_window_store[window]
    return call_registers(hart, function, io, gpa - hart.kvm_windows[window * 2], size, data)


@cold
def mmio_exit(hart: Any, cause: U64) -> bool:
    """An access to a device of the VMM; False, with nothing done, if it needs Python."""
    if hart.htinst == PSEUDO_READ_PTE or hart.htinst == PSEUDO_WRITE_PTE:
        return False
    bits = hart.htinst | 3
    length = U64(2) if hart.htinst & 2 == 0 else U64(4)
    if hart.htinst & 1 == 0:
        bits = guest_load(hart, hart.guest_sepc, U64(2), U64(1))
        length = U64(2)
        if bits & 3 == 3:
            bits = bits | (guest_load(hart, hart.guest_sepc + 2, U64(2), U64(1)) << 16)
            length = U64(4)
    entry = find_entry(hart, bits)
    if entry == 0:
        return False
    access = word(entry, U64(ACCESS))
    number = word(entry, U64(NUMBER))
    size = access & ACCESS_SIZE
    gpa = (hart.htval << 2) | (hart.stval & 3)
    store = u64(cause == STORE_GUEST_PAGE_FAULT)
    known = (hart.kvm_mmio_known[number >> 6 & 7] >> (number & 63)) & 1 != 0
    if access == 0 or not known or u64(access & ACCESS_STORE != 0) != store:
        return False
    window = served_window(hart, gpa, size)
    if gpa & (size - 1) != 0 or window == 8:
        return False
    origin = previous_mode(hart)
    begin_exit(hart, cause)
    registers = register_bytes(bits, entry)
    data = U64(0)
    if store != 0:
        data = hart.x[registers >> 16 & 31] & (U64(0xFFFF_FFFF_FFFF_FFFF) >> ((64 - size * 8) & 63))
    count_own(hart, cause)
    hart.scratch[0] = hart.sepc
    hart.scratch[1] = hart.stval
    finish_exit(hart, U64(MMIO_USER), cause, origin, gpa, U64(0))
    answer = vmm_access(hart, window, gpa, size, store, data)
    if store == 0:
        write_loaded(hart, registers, access, answer)
    hart.guest_sepc = hart.guest_sepc + length
    # The VMM's thread has had the floating-point registers saved and restored: FS is Clean (vcpu_fp.c).
    if hart.guest_sstatus & MSTATUS_FS != 0:
        hart.guest_sstatus = (hart.guest_sstatus & ~U64(MSTATUS_FS)) | FS_CLEAN
    return True


@cold
def map_exit(hart: Any, cause: U64) -> bool:
    """A guest page fault in plain RAM: map it."""
    gpa = trap_gpa(hart, cause)
    if not map_plain(hart, gpa):
        return False
    origin = previous_mode(hart)
    begin_exit(hart, cause)
    hart.scratch[0] = hart.sepc
    hart.scratch[1] = hart.stval
    finish_exit(hart, U64(GSTAGE_MAP), cause, origin, gpa, U64(0))
    return True


@cold
def page_fault_exit(hart: Any, cause: U64) -> bool:
    """Map the page, or serve the access where the rule says so; False, with nothing done, if it is Python's."""
    if map_exit(hart, cause):
        return True
    if hart.kvm_action[cause] & ELSE_MMIO == 0 or hart.kvm_flags & SERVES_MMIO == 0 or not mmio_exit(hart, cause):
        return False
    hart.kvm_run_end = turn_end(hart)
    return True


@cold
def wfi_exit(hart: Any, cause: U64) -> bool:
    """A WFI that does not block, since something is pending already; False if it blocks or is another instruction."""
    sync_pending(hart)
    sync_timer(hart)
    if hart.stval != WFI or hart.kvm_aia != 0 or not runnable(hart):
        return False
    origin = previous_mode(hart)
    begin_exit(hart, cause)
    count_own(hart, cause)
    hart.guest_sepc = hart.guest_sepc + 4
    hart.scratch[0] = hart.sepc
    hart.scratch[1] = hart.stval
    finish_exit(hart, U64(KVM_EMULATE), cause, origin, U64(NO_GPA), U64(0))
    return True


@cold
def sbi_exit(hart: Any) -> bool:
    """An ecall from VS-mode, if it is one of those that are served here."""
    origin = previous_mode(hart)
    hart.scratch[0] = hart.sepc
    hart.scratch[1] = hart.stval
    if not serve_call(hart, U64(0)):
        return False
    begin_exit(hart, U64(10))
    serve_call(hart, U64(1))
    hart.x[10] = U64(0)
    hart.x[11] = U64(0)
    hart.guest_sepc = hart.guest_sepc + 4
    finish_exit(hart, U64(SBI_CALL), U64(10), origin, U64(NO_GPA), U64(0))
    return True


@inline
def action_for(hart: Any, cause: U64) -> U64:
    """What native code does with a cause; the guest's PMU counts some of them in Python."""
    action = hart.kvm_action[cause]
    if action & HAS_EVENT != 0 and hart.kvm_flags & COUNTS_EVENTS != 0:
        return U64(BY_PYTHON)
    return action & ACTION_MASK


@cold
def supervisor_exit(hart: Any) -> bool:
    """A trap of the guest that entered HS-mode; False, with nothing done, if it is Python's."""
    cause = hart.scause
    if hart.kvm_virtual != 0 and nested_exit(hart, U64(0)):
        return True
    if cause >= 64 or hart.hstatus & HSTATUS_SPV == 0:
        return False
    action = action_for(hart, cause)
    if action == BY_PYTHON:
        return False
    save_guest(hart)
    if action == BY_REDIRECT:
        redirect_exit(hart, U64(KVM_REDIRECT), cause, U64(0))
        return True
    if action == BY_FUNCTION:
        function_exit(hart, U64(KVM_ACTION), U64(ACTION_REDIRECT), cause, U64(0))
        return True
    if action == BY_WFI:
        return wfi_exit(hart, cause)
    if action == BY_PAGE_FAULT:
        return page_fault_exit(hart, cause)
    if action == BY_SBI:
        return sbi_exit(hart)
    return False


@cold
def nested_exit(hart: Any, through_m: U64) -> bool:
    """A trap of a guest hypervisor or of its guest; False, with nothing done, if it is an exit of any guest's."""
    if hart.hstatus & HSTATUS_SPV == 0:
        return False
    cause = hart.scause
    save_guest(hart)
    sync_pending(hart)
    sync_timer(hart)
    if nested_trap(hart, through_m) == FLAT:
        return False
    hart.kvm_in_guest = 0
    if cause < 64:
        move_counters(hart, cause)
    spend_time(hart, hart.exit_cost[hart.scratch[7]])
    return True


@inline
def redirect_event(cause: U64, to_vs: bool) -> U64:
    """What it is that firmware does when it hands a trap on: 1 + its place in hart.fw_cost."""
    event = U64(COST_PLAIN)
    if cause == ILLEGAL_INST:
        event = U64(COST_ILLEGAL_TO_VS) if to_vs else U64(COST_ILLEGAL)
    elif cause == LOAD_MISALIGNED:
        event = U64(COST_ATOMIC)
    elif cause == STORE_MISALIGNED:
        event = U64(COST_AMO)
    elif cause == LOAD_ACCESS or cause == STORE_ACCESS:
        event = U64(COST_ACCESS)
    return event + 1


@cold
def firmware_redirect(hart: Any, cause: U64, priv: U64, virt: U64) -> bool:
    """Firmware hands a trap to VS, or to HS where the hosted KVM redirects it."""
    to_vs = goes_to_vs(hart, cause, virt)
    action = action_for(hart, cause)
    inner = hart.kvm_world != 0 and not to_vs
    if not to_vs and not inner and action != BY_REDIRECT and action != BY_FUNCTION:
        return False
    tval2 = hart.mtval2
    tinst = hart.mtinst
    gva = U64(1) if hart.mstatus & MSTATUS_GVA != 0 else U64(0)
    if cause == ILLEGAL_INST:
        tval2 = U64(0)
        tinst = U64(0)
        gva = U64(0)
    epc = hart.mepc
    tval = hart.mtval
    event = redirect_event(cause, to_vs)
    redirect_trap(hart, cause, epc, tval, tval2, tinst, gva, priv, virt)
    mret(hart)
    hart.pc = hart.next_pc
    if to_vs:
        hart.scratch[0] = epc
        hart.scratch[1] = tval
        spend_time(hart, note_exit(hart, U64(FIRMWARE_TO_VS), cause, priv, U64(1), U64(NO_GPA), event))
        return True
    if inner:
        spend_time(hart, hart.fw_cost[event - 1])
        return nested_exit(hart, event)
    save_guest(hart)
    if action == BY_FUNCTION:
        function_exit(hart, U64(FIRMWARE_ACTION), U64(FIRMWARE_ACTION_REDIRECT), cause, event)
    else:
        redirect_exit(hart, U64(FIRMWARE_TO_HS), cause, event)
    return True


@inline
def truly_illegal(bits: U64) -> bool:
    """Whether firmware knows from the bits alone that it does not emulate this: all but reads of counters."""
    if bits & 0x7F != SYSTEM_OPCODE:
        return bits != 0
    number = bits >> 20 & 0xFFF
    reads = bits >> 12 & 2 != 0 and bits >> 15 & 31 == 0
    return not (reads and (number == HTIMEDELTA or number >> 5 == COUNTERS >> 5))


@cold
def machine_exit(hart: Any) -> bool:
    """A trap of the guest that entered M-mode; False, with nothing done, if it is Python's."""
    cause = hart.mcause
    priv = (hart.mstatus >> MSTATUS_MPP_SHIFT) & 3
    if cause >= 64 or hart.mstatus & MSTATUS_MPV == 0 or priv == MACHINE:
        return False
    if cause == LOAD_MISALIGNED or cause == STORE_MISALIGNED:
        if hart.fw_flags & EMULATES_MISALIGNED == 0:
            return firmware_redirect(hart, cause, priv, U64(1))
        return firmware_emulate(hart, cause, priv)
    if cause == ILLEGAL_INST and not truly_illegal(hart.mtval):
        return False
    if (cause == LOAD_ACCESS or cause == STORE_ACCESS) and hart.fw_flags & FETCHES != 0 and hart.mtinst & 1 == 0:
        if instruction_at(hart, hart.mepc, priv, U64(1)) == 0:
            return False
    if cause == 9 or cause == 10 or cause == 11:
        return False
    return firmware_redirect(hart, cause, priv, U64(1))


@cold
def firmware_emulate(hart: Any, cause: U64, priv: U64) -> bool:
    """Firmware does a misaligned access for the guest."""
    epc = hart.mepc
    tval = hart.mtval
    done = emulate_plain(hart, epc, tval, hart.mtinst, priv, U64(1))
    if done == 0:
        return False
    mret(hart)
    hart.pc = hart.next_pc
    hart.scratch[0] = epc
    hart.scratch[1] = tval
    spend_time(hart, note_exit(hart, U64(FIRMWARE_EMULATE), cause, priv, priv, U64(NO_GPA), done + COST_EMULATED))
    return True


@hosted
def hosted_exit(hart: Any) -> U64:
    """Handle the exit that native code is about to leave for. kvm_left is then how many attempts may follow."""
    handled = False
    if hart.exit_reason == EXIT_HOSTED_HS:
        handled = supervisor_exit(hart)
    elif hart.exit_reason == EXIT_HOSTED_M:
        handled = machine_exit(hart)
    if not handled:
        return U64(NOT_HANDLED)
    hart.kvm_exits_left = hart.kvm_exits_left - 1
    stopped = hart.exit_reason == EXIT_STOP
    timer_tick(hart)
    if hart.exit_reason == EXIT_WFI:  # L2's own
        enter_vcpu(hart)
        return U64(COME_BACK)
    if stopped or hart.kvm_exits_left == 0 or hart.instret >= hart.kvm_run_end:
        if not stopped:
            hart.exit_reason = EXIT_TIMER
        return U64(COME_BACK)
    enter_vcpu(hart)
    hart.attention = ATTENTION_RESUME
    hart.ic_left = slice_left(hart)
    hart.ic_end = hart.instret + hart.ic_left
    return U64(GO_ON)
