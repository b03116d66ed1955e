"""Several vCPUs in turns: the same order, the same lengths, the same trace every time.

In each round every vCPU runs up to the same tick. The clock of one that blocks advances without
instructions; when all block, all clocks jump to the next timer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from trapline.dataclass import dataclass
from trapline.kvm.exits.native_setup import collect, note_stopped, prepare
from trapline.kvm.run_stop import RunStop
from trapline.kvm.turns import OF_PYTHON, QUIET, STOPPED, TO_PYTHON, take_vcpu_turns
from trapline.kvm.uapi.numbers import MpState
from trapline.kvm.vcpu import Vcpu
from trapline.lang.devices import DeviceState
from trapline.machine.devices.clint import time_of
from trapline.session.turns import NO_TICK, QUANTUM

if TYPE_CHECKING:
    from trapline.kvm.report.death import Death
    from trapline.kvm.vm import Vm

# What exits are estimated to take is part of a turn, though it takes no such time here.
ALONE = 16  # a turn of a vCPU that is alone, in slices


@dataclass(frozen=True, slots=True)
class VmResult:
    """Why `Vm.run` came back. reason: exit, killed, limit, halted, hung, stop, idle, goal (`Vm.goal`)."""

    reason: str
    vcpu: Vcpu | None = None

    @property
    def death(self) -> Death | None:
        """What is known of a killed guest."""
        return self.vcpu.death if self.vcpu is not None and self.reason == "killed" else None


class Turns(Protocol):
    """Devices of the VMM that have work for later."""

    due: int | None  # the tick at which they want to go on
    tired: bool  # they have done much since `tick` was last called

    def tick(self, now: int) -> bool:
        """Let them go on, if that is due; return whether limits should be looked at."""


class NoTurns:
    """Nothing is ever left for later."""

    due: int | None = None
    tired = False

    def tick(self, now: int) -> bool:
        """Return that nothing was due."""
        return False


Vmm = Callable[[Vcpu], bool] | None

_ENDS = {RunStop.ERROR: "killed", RunStop.HUNG: "hung", RunStop.STOP: "stop", RunStop.INTR: "stop"}


def run_vcpus(vm: Vm, vmm: Vmm, max_instructions: int | None) -> VmResult:
    """Run until the VMM says stop, the guest dies, nothing can run any more, or the limit is reached."""
    # A vCPU that is alone runs for long before the VMM looks around.
    if len(vm.vcpus) > 1:
        return _run_several(vm, vmm, max_instructions)
    alone = vm.engine.turn
    length = alone * ALONE
    ratio = int(vm.vcpus[0].hart.time_ratio)
    last = None if max_instructions is None else vm.instructions + max_instructions
    while True:
        # A round that was cut short goes on where it was: how a run is cut changes nothing.
        first, until = vm.open_round or (0, min(time_of(v.hart) for v in vm.vcpus) + max(1, length // ratio))
        vm.open_round = None
        for vcpu in vm.vcpus[first:]:
            result = _turn(vm, vcpu, vmm, until, last, alone)
            if result is not None:
                vm.open_round = (vcpu.id, until)
                return result
        idle = _idle(vm)
        if idle is not None:
            return idle


def _idle(vm: Vm) -> VmResult | None:
    """After a round: if all block, jump to the next event; the result if there is none."""
    if any(_can_run(v) for v in vm.vcpus):
        return None
    if vm.on_idle is not None and vm.on_idle():
        return VmResult("idle")
    return None if skip(vm) else VmResult("halted")


def _run_several(vm: Vm, vmm: Vmm, max_instructions: int | None) -> VmResult:
    """The same for several vCPUs: their turns are kvm.turns' as long as nothing needs Python, then one step here."""
    words = vm.turn_words
    last = None if max_instructions is None else vm.instructions + max_instructions
    words.answered = True
    while True:
        if words.answered:
            words.answered = False
            words.prepare(vmm is not None)
        words.take_turns(NO_TICK if last is None else last - vm.instructions)
        handled = words.has_exit
        if handled:  # before anything else: nobody else knows of it
            result = _step(vm, vmm, last, words)
            if result is not None:
                return result
        if vm.poll is not None and vm.poll():
            return VmResult("stop", vm.vcpus[0])
        if handled:
            continue
        if vm.open_round is None:
            idle = _idle(vm)
            if idle is not None:
                return idle
        elif words.waits_for_python or (last is not None and vm.instructions >= last):
            result = _step(vm, vmm, last, words)
            if result is not None:
                return result


def _step(vm: Vm, vmm: Vmm, last: int | None, words: TurnWords) -> VmResult | None:
    """Let the vCPU whose turn it is do one KVM_RUN, or go on in the one that it came back from."""
    assert vm.open_round is not None
    index, until = vm.open_round
    return _turn(vm, vm.vcpus[index], vmm, until, last, NO_TICK, words)


class TurnWords:
    """The words through which kvm.turns and the schedule of several vCPUs of a VM speak (lang.devices, `turn_`)."""

    def __init__(self, vm: Vm) -> None:
        self._vm = vm
        self._io: DeviceState | None = None
        self.answered = False  # the VMM has had its turn: it may have changed anything
        # Rounds that may be one turn of the only vCPU that can run: what a run does is the same.
        self.together = NO_TICK

    @property
    def io(self) -> DeviceState:
        """The block, made when it is first asked for."""
        if self._io is None:
            self._io = DeviceState()
            self._io.clint_harts = len(self._vm.vcpus)
            for number, vcpu in enumerate(self._vm.vcpus):
                self._io.hart_at[number] = vcpu.hart.address
        return self._io

    @property
    def waits_for_python(self) -> bool:
        """Whether the vCPU whose turn it is needs what only Python does."""
        return self.io.turn_stop == TO_PYTHON

    @property
    def has_exit(self) -> bool:
        """Whether a vCPU came back whose exit nobody has handled yet."""
        return self.io.turn_reason != 0

    def prepare(self, vmm_waits: bool) -> None:
        """What exits must know, for vCPUs that KVM_RUN has prepared before."""
        for vcpu in self._vm.vcpus:
            if vcpu.loaded:
                vcpu.vmm_waits = vmm_waits
                prepare(vcpu)
                vcpu.vmm_waits = False

    def note_devices(self) -> None:
        """Devices of the VMM may want to go on at another time."""
        if self._io is not None:
            turns = self._vm.turns
            self._io.turn_due = NO_TICK if turns.due is None else turns.due
            self._io.turn_tired = int(turns.tired)

    def noted(self, value: int) -> int:
        """Return the VMM's answer to an access, after which its devices may have other plans."""
        self.note_devices()
        return value

    def take_turns(self, budget: int) -> None:
        """Let the vCPUs take turns until one needs Python, `budget` is spent, all block, or for a while."""
        vm, io = self._vm, self.io
        if self.has_exit:  # an exception came between
            return
        next_, until = (0, 0) if vm.open_round is None else (vm.open_round[0] + 1, vm.open_round[1])
        io.turn_next, io.turn_round, io.turn_now = next_, until, 0
        io.turn_ticks = max(1, QUANTUM // int(vm.vcpus[0].hart.time_ratio))
        io.turn_rounds = max(1, vm.engine.turn // QUANTUM)
        io.turn_together, io.turn_latest = self.together, NO_TICK
        io.turn_done, io.turn_budget = 0, min(budget, 2 * max(vm.engine.turn, QUANTUM * len(vm.vcpus)))
        io.turn_stop = io.turn_reason = 0
        for number, vcpu in enumerate(vm.vcpus):
            io.turn_state[number] = _state(vcpu)
        self.note_devices()
        note_stopped(vm)
        native = getattr(type(vm.engine), "call_turns", None)
        try:
            if native is not None:
                native(vm.engine, take_vcpu_turns, vm.vcpus[0].hart, io)
            else:
                take_vcpu_turns(vm.vcpus[0].hart, io)
        finally:
            vm.open_round = (int(io.turn_next) - 1, int(io.turn_round)) if io.turn_next != 0 else None
            for vcpu in vm.vcpus:
                collect(vcpu)

    def reason(self) -> int:
        """Return why the vCPU came back whose turn it is (EXIT_*), once; 0: it has not been entered."""
        found, self.io.turn_reason = int(self.io.turn_reason), 0
        return found


def _state(vcpu: Vcpu) -> int:
    """Whether a vCPU's turns need Python (kvm.turns)."""
    if vcpu.mp_state is MpState.STOPPED:
        return STOPPED
    vm = vcpu.vm
    if vm.told_of_traps is not None or vm.goal is not None or not vcpu.is_quiet():
        return OF_PYTHON
    if not vcpu.in_guest:
        vm.update_hgatp(vcpu)
    return QUIET


def _turn(
    vm: Vm, vcpu: Vcpu, vmm: Vmm, until: int, last: int | None, most: int, words: TurnWords | None = None
) -> VmResult | None:
    """Run one vCPU up to the tick `until`; with `words`, for one KVM_RUN, which may be under way."""
    reason = 0 if words is None else words.reason()
    held = vars(vcpu)  # what is written at each KVM_RUN, past the check of names
    if vcpu.yielded and not reason:  # a stop came between
        vcpu.yielded = False
        vcpu.advance(until)
    while reason or time_of(vcpu.hart) < until:
        limit = 0
        if not reason:
            if _looks(vm, vcpu) and vm.poll is not None and vm.poll():
                return VmResult("stop", vcpu)
            result = _plan(vm, vcpu, until, last, most)
            if result is not None:
                return result
            limit = int(vcpu.hart.kvm_run_end) - int(vcpu.hart.instret)
        held["vmm_waits"] = vmm is not None
        stop = vcpu.resume(reason) if reason else vcpu.run(max(1, limit))
        held["vmm_waits"] = False
        end, vcpu.hart.kvm_turn_until = int(vcpu.hart.kvm_turn_until), 0
        if stop is RunStop.EXIT:
            if vmm is None or not vmm(vcpu):
                return VmResult("exit", vcpu)
            if words is not None:
                words.answered = True
        elif stop is RunStop.BLOCKED:
            deadline = vcpu.timer.deadline() if vcpu.mp_state is not MpState.STOPPED else None
            vcpu.advance(end if deadline is None else min(end, deadline))
        elif stop is RunStop.YIELD:
            vcpu.advance(until)
        elif stop in _ENDS:
            return VmResult(_ENDS[stop], vcpu)
        if vcpu.is_trace_full():
            return VmResult("stop", vcpu)
        if words is not None:
            break
        reason = 0
    return None


def _plan(vm: Vm, vcpu: Vcpu, until: int, last: int | None, most: int) -> VmResult | None:
    """How far KVM_RUN may go (kvm_turn_until, kvm_turn_last, kvm_run_end); a result if it may not go on at all."""
    hart = vcpu.hart
    due = vm.turns.due
    end = until if due is None else min(until, max(due, time_of(hart) + 1))
    ratio = int(hart.time_ratio)
    limit = (end - time_of(hart)) * ratio - int(hart.instret) % ratio
    left = most if last is None else min(most, last - vm.instructions)
    if left <= 0:
        return VmResult("limit", vcpu)
    goal = vm.goal[1] if vm.goal is not None and vm.goal[0] == vcpu.id else None
    if goal is not None:
        left = min(left, goal - int(hart.instret))
        if left <= 0:
            vm.goal = None
            return VmResult("goal", vcpu)
    hart.kvm_turn_until = end
    hart.kvm_turn_last = min(NO_TICK, int(hart.instret) + left)
    hart.kvm_run_end = int(hart.instret) + min(limit, left)
    return None


def _looks(vm: Vm, vcpu: Vcpu) -> bool:
    turns = vm.turns
    return (turns.due is not None or turns.tired) and turns.tick(time_of(vcpu.hart))


def _can_run(vcpu: Vcpu) -> bool:
    return vcpu.mp_state is not MpState.STOPPED and (not vcpu.blocked or vcpu.runnable())


def skip(vm: Vm, latest: int | None = None) -> bool:
    """All block: jump to the next timer, or to tick `latest` if that is sooner; return whether there is one."""
    waiting = [v for v in vm.vcpus if v.mp_state is not MpState.STOPPED]
    ticks = [tick for v in waiting if (tick := v.timer.deadline()) is not None]
    ticks += [tick for tick in (latest, vm.turns.due) if tick is not None]
    if not ticks:
        return False
    for vcpu in vm.vcpus:
        vcpu.advance(min(ticks))
    return True
