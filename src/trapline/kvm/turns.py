"""The turns of several vCPUs as long as nothing needs Python: what kvm.schedule and KVM_RUN's loop do then.

A vCPU takes part if its word in turn_state says so (Vcpu.is_quiet): it is loaded, no exit of it waits for an
answer, and nobody wants to look at each of its exits. The words are those of lang.devices (`turn_`), of the VM's own
block.
"""

from __future__ import annotations

from trapline.kvm.entry import (
    cut_turn,
    enter_vcpu,
    guest_time,
    runnable,
    slice_left,
    spend_pauses,
    sync_pending,
    sync_timer,
    timer_tick,
)
from trapline.kvm.halts import waited, woke
from trapline.kvm.switch import preempt
from trapline.lang.control import EXIT_LIMIT, EXIT_TIMER, EXIT_WFI, run_engine
from trapline.lang.devices import HARTS, DeviceState, on_hart
from trapline.lang.functions import cold, hosted, inline
from trapline.lang.state import Hart
from trapline.lang.values import U64, udiv, urem
from trapline.privilege.fields import MSTATUS_FS
from trapline.privilege.interrupts import time_now
from trapline.privilege.memory import NO_RESERVATION
from trapline.privilege.passing import pass_time
from trapline.session.turns import FOREVER, NO_TICK, of_all, rounds_of

OF_PYTHON, QUIET, STOPPED = 0, 1, 2  # turn_state
TO_PYTHON, SPENT = 1, 2  # turn_stop
EXITS_AT_A_TIME = 1 << 16
FS_CLEAN = 2 << 13


@inline
def event_tick(hart: Hart, io: DeviceState) -> U64:
    """The tick at which the turn ends, or sooner where devices of the VMM want to go on."""
    if io.turn_due < io.turn_until:
        return io.turn_due if io.turn_due > time_now(hart) else time_now(hart) + 1
    return io.turn_until


@hosted
def plan_turn(hart: Hart, io: DeviceState) -> None:
    """How far KVM_RUN may go: to the end of the turn, or until the instructions of all vCPUs are spent."""
    end = event_tick(hart, io)
    limit = (end - time_now(hart)) * hart.time_ratio - urem(hart.instret, hart.time_ratio)
    left = io.turn_budget - io.turn_done
    hart.kvm_turn_until = end
    hart.kvm_turn_last = hart.instret + left
    if left < limit:
        limit = left
    hart.kvm_run_end = hart.instret + limit


@inline
def timer_event(hart: Hart) -> U64:
    """The tick, later than now, of the vCPU's timer; NO_TICK if there is none."""
    if (hart.kvm_sstc != 0 or hart.kvm_next_set != 0) and hart.kvm_next_cycles != NO_TICK:
        now = guest_time(hart)
        if hart.kvm_next_cycles > now:
            return time_now(hart) + (hart.kvm_next_cycles - now)
    return U64(NO_TICK)


@inline
def blocks(hart: Hart, end: U64) -> None:
    """A blocked vCPU lets its time pass, to its timer's event or the end of the turn."""
    tick = timer_event(hart)
    passes(hart, tick if tick < end else end)


@inline
def passes(hart: Hart, tick: U64) -> None:
    """Time passes without instructions (Vcpu.advance)."""
    now = time_now(hart)
    if tick > now:
        pass_time(hart, tick)
        if hart.kvm_blocked != 0:
            waited(hart, tick - now)
    timer_tick(hart)


@inline
def ready(hart: Hart) -> bool:
    """Whether the vCPU can run; what ends its WFI ends its wait."""
    if hart.kvm_blocked == 0:
        return True
    timer_tick(hart)
    if not runnable(hart):
        return False
    hart.kvm_blocked = 0
    woke(hart)
    return True


@cold
def runs(hart: Hart, io: DeviceState) -> U64:
    """Enter the guest until there is something else to look at; return why it came back."""
    if hart.kvm_in_guest == 0 and hart.guest_sstatus & MSTATUS_FS != 0:
        hart.guest_sstatus = (hart.guest_sstatus & ~U64(MSTATUS_FS)) | FS_CLEAN
    timer_tick(hart)
    enter_vcpu(hart)
    hart.kvm_exits_left = EXITS_AT_A_TIME
    before = hart.instret
    reason = run_engine(hart, slice_left(hart))
    io.turn_done = io.turn_done + (hart.instret - before)
    spend_pauses(hart)
    return reason


@hosted
def stalls(hart: Hart) -> None:
    """A wfi that does not trap waits here; a wrs.* gives the turn away, and its reservation with it."""
    if hart.reservation != NO_RESERVATION:
        hart.reservation = NO_RESERVATION
        hart.kvm_yielded = 1
        return
    preempt(hart)
    sync_pending(hart)
    sync_timer(hart)
    if not runnable(hart):
        hart.kvm_blocked = 1
        hart.kvm_blocked_at = time_now(hart)


@inline
def leaves_alone(hart: Hart, io: DeviceState, reason: U64) -> None:
    """A turn of several rounds ends with this one where others, or Python, may have to do with what comes."""
    if hart.kvm_alone_ticks == 0:
        return
    goes_on = reason == EXIT_LIMIT or reason == EXIT_TIMER
    if not goes_on or hart.kvm_blocked != 0 or hart.kvm_yielded != 0 or io.turn_done >= io.turn_budget:
        cut_turn(hart)
    if hart.kvm_turn_until < io.turn_until:
        io.turn_until = hart.kvm_turn_until
        hart.kvm_alone_ticks = 0


@hosted
def vcpu_turn(hart: Hart, io: DeviceState, number: U64) -> None:
    """Let one vCPU run up to the tick turn_until, or to what needs Python (turn_stop, turn_reason)."""
    for _ in range(FOREVER):
        if time_now(hart) >= io.turn_until:
            break
        if io.turn_tired != 0 or io.turn_due <= time_now(hart) or io.turn_state[number] == OF_PYTHON:
            io.turn_stop = TO_PYTHON
            break
        if io.turn_done >= io.turn_budget:
            io.turn_stop = SPENT
            break
        end = event_tick(hart, io)
        if io.turn_state[number] == STOPPED:
            passes(hart, end)
            continue
        plan_turn(hart, io)
        if not ready(hart):
            hart.kvm_turn_until = 0
            blocks(hart, end)
            continue
        reason = runs(hart, io)
        if reason == EXIT_WFI:
            stalls(hart)
        leaves_alone(hart, io, reason)
        if reason == EXIT_WFI:
            pass
        elif reason != EXIT_LIMIT and reason != EXIT_TIMER:
            io.turn_stop = TO_PYTHON
            io.turn_reason = reason
            break
        if hart.kvm_blocked != 0:
            waited(hart, time_now(hart) - hart.kvm_blocked_at)
        hart.kvm_turn_until = 0
        if hart.kvm_yielded != 0:
            hart.kvm_yielded = 0
            passes(hart, io.turn_until)


@cold
def note_alone(hart: Hart, io: DeviceState, number: U64) -> None:
    """turn_alone: 1 + the vCPU that can run, if no other can; turn_found: the tick before which none of those will."""
    if io.turn_state[number] == STOPPED or (io.turn_state[number] == QUIET and not may_run(hart)):
        note_timer(hart, io, number)
    elif io.turn_alone == 0 and io.turn_state[number] == QUIET and time_now(hart) < io.turn_round:
        io.turn_alone = number + 1
    else:
        io.turn_found = 0


note_all_alone = of_all(note_alone)


@inline
def may_run(hart: Hart) -> bool:
    """Whether the vCPU can run, if it gets a turn."""
    return hart.kvm_blocked == 0 or runnable(hart)


@hosted
def waits_for(hart: Hart, runs_at: U64) -> None:
    """While another one runs alone: who makes an interrupt pending here ends its turn."""
    hart.kvm_waits_for = runs_at


@hosted
def catch_up(hart: Hart, io: DeviceState, tick: U64) -> None:
    """The time has passed in which another one was alone."""
    hart.kvm_waits_for = 0
    passes(hart, tick)


@hosted
def begin_alone(hart: Hart, io: DeviceState) -> None:
    """A turn of several rounds begins."""
    hart.kvm_alone_from = io.turn_now
    hart.kvm_alone_ticks = io.turn_ticks
    if urem(io.turn_ticks * 1_000_000_000, hart.kvm_timebase) != 0 or hart.stops_base != 0:
        hart.kvm_alone_ticks = 0  # waits of single rounds have each their rounding; a stop is before an attempt
        io.turn_alone = 0


@hosted
def end_alone(hart: Hart) -> None:
    """It is over."""
    hart.kvm_alone_ticks = 0


@inline
def rounds_alone(io: DeviceState) -> U64:
    """How many rounds turn_alone may go on by itself."""
    last = io.turn_found if io.turn_found < io.turn_due else io.turn_due
    if last <= io.turn_now:
        return U64(0)
    rounds = udiv(last - io.turn_now, io.turn_ticks)
    most = io.turn_rounds if io.turn_rounds < io.turn_together else io.turn_together
    return rounds if rounds < most else most


@cold
def alone(io: DeviceState) -> None:
    """Where only one vCPU can run, its turns of the rounds that come are one; the last of them is under way behind it.

    As if each vCPU had had its turns: a round ends where it would, and the others' time has passed up to where it would
    have before and behind the one that ran.
    """
    io.turn_found = NO_TICK
    io.turn_alone = 0
    note_all_alone(io)
    rounds = rounds_alone(io)
    if io.turn_alone == 0 or io.turn_tired != 0 or rounds < 2:
        return
    runner = io.turn_alone - 1
    address = io.hart_at[runner]
    on_hart(address, begin_alone, io)
    if io.turn_alone == 0:
        return
    for number in range(HARTS):
        if number < io.clint_harts and number != runner:
            on_hart(io.hart_at[number], waits_for, address)
    io.turn_until = io.turn_now + rounds * io.turn_ticks
    on_hart(address, vcpu_turn, io, runner)
    on_hart(address, end_alone)
    io.turn_round = io.turn_until
    for number in range(HARTS):
        if number < io.clint_harts and number != runner:
            on_hart(io.hart_at[number], catch_up, io, io.turn_until - (io.turn_ticks if number > runner else U64(0)))
    io.turn_rounds = io.turn_rounds - udiv(io.turn_until - io.turn_now, io.turn_ticks) + 1
    io.turn_next = runner + (1 if io.turn_stop != 0 else 2)


@cold
def note_runs(hart: Hart, io: DeviceState, number: U64) -> None:
    """turn_found: not 0 if a vCPU that was asked can run."""
    if io.turn_state[number] != STOPPED and may_run(hart):
        io.turn_found = 1


@cold
def note_timer(hart: Hart, io: DeviceState, number: U64) -> None:
    """turn_found: the tick of the next timer's event."""
    if io.turn_state[number] != STOPPED and timer_event(hart) < io.turn_found:
        io.turn_found = timer_event(hart)


@cold
def note_event(hart: Hart, io: DeviceState, number: U64) -> None:
    """The same, or that of the devices' turn."""
    note_timer(hart, io, number)
    if io.turn_due < io.turn_found:
        io.turn_found = io.turn_due


@cold
def let_pass(hart: Hart, io: DeviceState, number: U64) -> None:
    """Pass the time of a vCPU that waits to the tick turn_found."""
    passes(hart, io.turn_found)


@inline
def is_stopped(io: DeviceState) -> bool:
    """Whether the round ends with the turn that has just been: only a turn that begins finds that nothing is left."""
    return io.turn_stop != 0


take_vcpu_turns = rounds_of(
    "take_vcpu_turns",
    turn=vcpu_turn,
    note_ready=note_runs,
    note_event=note_event,
    pass_on=let_pass,
    begun=alone,
    ends=is_stopped,
)
