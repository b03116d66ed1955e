"""The vCPU between two entries into the guest: its clock, its pending interrupts, its way in.

Subset functions over the vCPU's words in the hart's state. Python's KVM_RUN calls them, and exits that
native code handles by itself (kvm.native_exit) run them without leaving it.
"""

from __future__ import annotations

from trapline.kvm.flags import OVERFLOW_WAKES
from trapline.kvm.nested.exits import enter_nested, nested_deadline, nested_wakes
from trapline.kvm.switch import enter_guest
from trapline.lang.control import flush_translations
from trapline.lang.devices import on_hart
from trapline.lang.functions import hosted, inline
from trapline.lang.state import Hart
from trapline.lang.values import U64, signed, udiv, urem
from trapline.privilege.causes import IRQ_SEI, IRQ_VSEI
from trapline.privilege.csr import csr_read, csr_write
from trapline.privilege.csr_numbers import HVICTL, HVIP, VSTIMECMP
from trapline.privilege.derived import follow_time, update_derived
from trapline.privilege.fields import HVICTL_IID_SHIFT, LCOFIP, S_INTERRUPTS, VSSIP, VSTIP
from trapline.privilege.interrupts import deadline, guest_enabled, time_now
from trapline.privilege.passing import is_tired, pass_pauses

NEVER = 0xFFFF_FFFF_FFFF_FFFF
REQUEST_TRANSLATIONS = 1


@inline
def guest_time(hart: Hart) -> U64:
    """The guest's time, in ticks."""
    return time_now(hart) + hart.kvm_time_delta


@inline
def change_pending(hart: Hart, bit: U64, level: U64) -> None:
    """Make a VS-level interrupt pending (level 1), or take it back (0)."""
    if level != 0:
        hart.kvm_irqs = hart.kvm_irqs | bit
    else:
        hart.kvm_irqs = hart.kvm_irqs & ~bit
    hart.kvm_irqs_mask = hart.kvm_irqs_mask | bit


@hosted
def flush_pending(hart: Hart) -> None:
    """Move what changed since the last entry into hvip (kvm_riscv_vcpu_flush_interrupts)."""
    mask = hart.kvm_irqs_mask
    if mask == 0:
        return
    hart.kvm_irqs_mask = 0
    hart.kvm_hvip = (hart.kvm_hvip & ~mask) | (hart.kvm_irqs & mask)
    if hart.kvm_world != 0:
        return
    csr_write(hart, U64(HVIP), hart.kvm_hvip)
    if hart.kvm_aia != 0:
        csr_write(hart, U64(HVICTL), (IRQ_SEI << HVICTL_IID_SHIFT) | ((hart.kvm_hvip >> IRQ_VSEI) & 1))


@hosted
def sync_pending(hart: Hart) -> None:
    """After an exit: learn vsie, and whether the guest changed its software interrupt or took its PMU's back."""
    if hart.kvm_world != 0:
        return
    hart.kvm_vsie = guest_enabled(hart)
    hvip = csr_read(hart, U64(HVIP))
    changed = hart.kvm_hvip ^ hvip
    if changed & VSSIP != 0 and hart.kvm_irqs_mask & VSSIP == 0:
        hart.kvm_irqs_mask = hart.kvm_irqs_mask | VSSIP
        hart.kvm_irqs = (hart.kvm_irqs & ~VSSIP) | (hvip & VSSIP)
    if changed & ~hvip & LCOFIP != 0:
        change_pending(hart, U64(LCOFIP), U64(0))


@inline
def sync_timer(hart: Hart) -> None:
    """After an exit: learn what the guest wrote to stimecmp."""
    if hart.kvm_sstc != 0 and hart.kvm_world == 0:
        hart.kvm_next_cycles = hart.vstimecmp


@hosted
def timer_tick(hart: Hart) -> None:
    """Without Sstc: inject when the host's timer has expired."""
    if hart.kvm_sstc == 0 and hart.kvm_next_set != 0 and guest_time(hart) >= hart.kvm_next_cycles:
        hart.kvm_next_set = 0
        change_pending(hart, U64(VSTIP), U64(1))


@hosted
def program_timer(hart: Hart, cycles: U64) -> None:
    """SBI set_timer: clear the pending interrupt, raise it at `cycles`."""
    hart.kvm_next_cycles = cycles
    if hart.kvm_sstc != 0:
        csr_write(hart, U64(VSTIMECMP), cycles)
        return
    change_pending(hart, U64(VSTIP), U64(0))
    hart.kvm_next_set = 1


@inline
def runnable(hart: Hart) -> bool:
    """Whether something ends a WFI: an interrupt that the guest has enabled, or its timer, enabled or not."""
    if hart.kvm_world != 0:
        return nested_wakes(hart)
    enabled = (hart.kvm_vsie & S_INTERRUPTS) << 1
    if hart.kvm_flags & OVERFLOW_WAKES != 0:
        enabled = enabled | (hart.kvm_vsie & LCOFIP)
    if hart.kvm_irqs & (enabled | VSTIP) != 0:
        return True
    return (hart.kvm_sstc != 0 or hart.kvm_next_set != 0) and guest_time(hart) >= hart.kvm_next_cycles


@inline
def turn_end(hart: Hart) -> U64:
    """The instret at which the vCPU's turn is over: its tick is reached, or its instructions are spent."""
    end = hart.instret
    left = hart.kvm_turn_until - hart.time_offset
    if signed(left) > 0 and left * hart.time_ratio > end:
        end = left * hart.time_ratio
    return end if end < hart.kvm_turn_last else hart.kvm_turn_last


@hosted
def spend_pauses(hart: Hart) -> None:
    """The time of pauses passes as that of an exit does."""
    if is_tired(hart):
        hart.kvm_exit_at = hart.instret
        hart.kvm_exit_offset = hart.time_offset
        pass_pauses(hart)
        if hart.kvm_turn_until != 0:
            hart.kvm_run_end = turn_end(hart)


@hosted
def cut_turn(hart: Hart) -> None:
    """A turn of several rounds is to end with the round in which the last attempt began: others may run, or Python."""
    if hart.kvm_alone_ticks == 0 or hart.kvm_turn_until == 0:
        return
    offset = hart.kvm_exit_offset if hart.kvm_exit_at == hart.instret else hart.time_offset
    began = offset + udiv(hart.instret - 1, hart.time_ratio)
    rounds = udiv(began - hart.kvm_alone_from, hart.kvm_alone_ticks) + 1
    end = hart.kvm_alone_from + rounds * hart.kvm_alone_ticks
    if end < hart.kvm_turn_until:
        hart.kvm_turn_until = end
        hart.kvm_run_end = turn_end(hart)


@hosted
def set_pending(hart: Hart, bit: U64, level: U64) -> None:
    """As change_pending, for hosted software: the vCPU may run now."""
    change_pending(hart, bit, level)
    if hart.kvm_waits_for != 0:
        on_hart(hart.kvm_waits_for, cut_turn)


@hosted
def spend_time(hart: Hart, instructions: U64) -> None:
    """Let time pass for what hosted levels are estimated to execute, as for the guest's own instructions."""
    total = hart.kvm_unspent + instructions
    ticks = udiv(total, hart.time_ratio)
    hart.kvm_unspent = urem(total, hart.time_ratio)
    if ticks != 0:
        hart.time_offset = hart.time_offset + ticks
        # A turn among vCPUs is a length of time: what the host executes is part of it.
        if hart.kvm_turn_until != 0:
            hart.kvm_run_end = turn_end(hart)
        follow_time(hart)
        timer_tick(hart)


@hosted
def slice_left(hart: Hart) -> U64:
    """How many attempts may run, once the guest is entered, before kvm_run_end or a timer to look at; at least 1."""
    end = hart.kvm_run_end
    if hart.timer_due < end:
        end = hart.timer_due
    if hart.kvm_sstc == 0 and hart.kvm_next_set != 0 and hart.kvm_next_cycles != NEVER:
        due = deadline(hart, guest_time(hart), hart.kvm_next_cycles)
        if due != 0 and due < end:
            end = due
    if hart.kvm_virtual != 0:
        timer = nested_deadline(hart)
        if timer < end:
            end = timer
    if end <= hart.instret:
        return U64(1)
    return end - hart.instret


@hosted
def enter_vcpu(hart: Hart) -> None:
    """Enter the guest, or go on in it with the interrupts of now."""
    if hart.kvm_requests != 0:
        requests = hart.kvm_requests
        hart.kvm_requests = 0
        if requests & REQUEST_TRANSLATIONS != 0:
            flush_translations(hart)
    if hart.kvm_virtual != 0:
        enter_nested(hart)
    flush_pending(hart)
    if hart.kvm_in_guest == 0:
        enter_guest(hart)
        hart.kvm_in_guest = 1
    else:
        update_derived(hart)
