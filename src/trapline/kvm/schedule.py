"""vCPUs in turns: the same order, the same lengths, the same trace every time (session.schedule).

The clock of one that blocks advances without instructions; when all block, all clocks jump to the next event.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from trapline.dataclass import dataclass
from trapline.kvm.exits.native_setup import collect, note_stopped, prepare
from trapline.kvm.run_stop import RunStop
from trapline.kvm.turns import OF_PYTHON, QUIET, STOPPED, TO_PYTHON, plan_turn, take_vcpu_turns
from trapline.kvm.uapi.numbers import MpState
from trapline.kvm.vcpu import Vcpu
from trapline.lang.devices import DeviceState
from trapline.machine.devices.clint import time_of
from trapline.session.schedule import Rounds
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


Vmm = Callable[[Vcpu], bool] | None

_ENDS = {RunStop.ERROR: "killed", RunStop.HUNG: "hung", RunStop.STOP: "stop", RunStop.INTR: "stop"}


def run_vcpus(vm: Vm, vmm: Vmm, max_instructions: int | None) -> VmResult:
    """Run until the VMM says stop, the guest dies, nothing can run any more, or the limit is reached.

    Turns are kvm.turns' as long as nothing needs Python, then there is one step here.
    """
    schedule = vm.schedule
    last = None if max_instructions is None else vm.instructions + max_instructions
    schedule.answered = True
    while True:
        if schedule.answered:
            schedule.answered = False
            schedule.prepare(vmm is not None)
        schedule.take_turns(None if last is None else last - vm.instructions)
        result = None
        if vm.open_round is None:
            result = _idle(vm)
        elif schedule.io.turn_stop == TO_PYTHON or (last is not None and vm.instructions >= last):
            result = _turn(vm, *vm.open_round, vmm, last)
        if result is None and vm.poll is not None and vm.poll():
            result = VmResult("stop", vm.vcpus[0])
        if result is not None:
            return result


def _idle(vm: Vm) -> VmResult | None:
    """After a round: if all block, jump to the next event; the result if there is none."""
    if not vm.schedule.all_wait():
        return None
    if vm.on_idle is not None and vm.on_idle():
        return VmResult("idle")
    tick = vm.schedule.next_event()
    if tick is None:
        return VmResult("halted")
    vm.schedule.skip_to(tick)
    return None


class VmSchedule(Rounds):
    """The turns of a VM's vCPUs."""

    longer = 16  # what exits are estimated to take fills a round: a loop of redirects has a hundredth of the attempts

    def __init__(self, vm: Vm) -> None:
        super().__init__(vm, [v.hart for v in vm.vcpus], DeviceState(), take_vcpu_turns)
        self._vm = vm
        self.answered = False  # the VMM has had its turn: it may have changed anything
        # Rounds that may be one turn of the only vCPU that can run: what a run does is the same.
        self.together = NO_TICK
        self.io.clint_harts, self.io.turn_latest = len(self.harts), NO_TICK
        for number, hart in enumerate(self.harts):
            self.io.hart_at[number] = hart.address

    @property
    def open_round(self) -> tuple[int, int] | None:
        """As Rounds has it."""
        return self._vm.open_round

    @open_round.setter
    def open_round(self, value: tuple[int, int] | None) -> None:
        self._vm.open_round = value

    def prepare(self, vmm_waits: bool) -> None:
        """What exits must know, for vCPUs that KVM_RUN has prepared before."""
        for vcpu in self._vm.vcpus:
            if vcpu.loaded:
                vcpu.vmm_waits = vmm_waits
                prepare(vcpu)
                vcpu.vmm_waits = False

    def noted(self, value: int) -> int:
        """Return the VMM's answer to an access, after which its devices may have other plans."""
        self.note_devices()
        return value

    def take_turns(self, budget: int | None) -> None:
        """Let the vCPUs take turns until one needs Python, `budget` is spent, all block, or for a while."""
        if self.io.turn_reason == 0:  # else an exception came between
            engine = self._vm.engine
            self.take(engine, engine.turn, engine.turn * ALONE, budget)

    def put(self) -> None:
        """Put what Python knows into the words."""
        super().put()
        io = self.io
        io.turn_now, io.turn_together, io.turn_stop = 0, self.together, 0
        states = [_state(vcpu) for vcpu in self._vm.vcpus]
        for number, state in enumerate(states):
            io.turn_state[number] = state
        io.turn_skips = int(OF_PYTHON not in states and not (self._vm.on_idle is not None and self._vm.on_idle()))
        note_stopped(self._vm)

    def get(self) -> None:
        """Take it out again."""
        super().get()
        for vcpu in self._vm.vcpus:
            collect(vcpu)

    def reason(self) -> int:
        """Return why the vCPU came back whose turn it is (EXIT_*), once; 0: it has not been entered."""
        found, self.io.turn_reason = int(self.io.turn_reason), 0
        return found

    def can_run(self, number: int) -> bool:
        """Return whether a vCPU is on, and does not block."""
        vcpu = self._vm.vcpus[number]
        return vcpu.mp_state is not MpState.STOPPED and (not vcpu.blocked or vcpu.runnable())

    def event_of(self, number: int) -> int | None:
        """Return the tick of a vCPU's next timer, or of a turn of devices before that."""
        vcpu, due = self._vm.vcpus[number], self._vm.turns.due
        timer = vcpu.timer.deadline() if vcpu.mp_state is not MpState.STOPPED else None
        return timer if due is None or (timer is not None and timer < due) else due

    def pass_time(self, number: int, tick: int) -> None:
        """Let the time of a vCPU that blocks pass."""
        self._vm.vcpus[number].advance(tick)


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


def _turn(vm: Vm, number: int, until: int, vmm: Vmm, last: int | None) -> VmResult | None:
    """Run one vCPU up to the tick `until`, or for one KVM_RUN if then Python is not needed; that may be under way."""
    vcpu, reason = vm.vcpus[number], vm.schedule.reason()
    held = vars(vcpu)  # what is written at each KVM_RUN, past the check of names
    if vcpu.yielded and not reason:  # a stop came between
        vcpu.yielded = False
        vcpu.advance(until)
    while reason or time_of(vcpu.hart) < until:
        limit = 0
        if not reason:
            if _looks(vm, vcpu) and vm.poll is not None and vm.poll():
                return VmResult("stop", vcpu)
            result = _plan(vm, vcpu, until, last)
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
            vm.schedule.answered = True
        elif stop is RunStop.BLOCKED:
            deadline = vcpu.timer.deadline() if vcpu.mp_state is not MpState.STOPPED else None
            vcpu.advance(end if deadline is None else min(end, deadline))
        elif stop is RunStop.YIELD:
            vcpu.advance(until)
        elif stop in _ENDS:
            return VmResult(_ENDS[stop], vcpu)
        if vcpu.is_trace_full():
            return VmResult("stop", vcpu)
        if _state(vcpu) == QUIET:
            break
        reason = 0
    return None


def _plan(vm: Vm, vcpu: Vcpu, until: int, last: int | None) -> VmResult | None:
    """How far KVM_RUN may go (kvm.turns: plan_turn); a result if it may not go on at all."""
    hart, io = vcpu.hart, vm.schedule.io
    left = max(vm.engine.turn, QUANTUM)  # a vCPU that is alone comes back all the same
    if last is not None:
        left = min(left, last - vm.instructions)
    if left <= 0:
        return VmResult("limit", vcpu)
    goal = vm.goal[1] if vm.goal is not None and vm.goal[0] == vcpu.id else None
    if goal is not None:
        left = min(left, goal - int(hart.instret))
        if left <= 0:
            vm.goal = None
            return VmResult("goal", vcpu)
    io.turn_until, io.turn_done, io.turn_budget = until, 0, left
    vm.schedule.note_devices()
    hart.call(plan_turn, io)
    return None


def _looks(vm: Vm, vcpu: Vcpu) -> bool:
    turns = vm.turns
    return (turns.due is not None or turns.tired) and turns.tick(time_of(vcpu.hart))
