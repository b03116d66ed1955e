"""Several vCPUs in turns: the same order, the same lengths, the same trace every time.

In each round every vCPU runs up to the same tick. The clock of one that blocks advances without
instructions; when all block, all clocks jump to the next timer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from trapline.kvm.entry import NEVER
from trapline.kvm.numbers import MpState
from trapline.kvm.vcpu import RunStop, Vcpu
from trapline.machine.clint import time_of

if TYPE_CHECKING:
    from trapline.kvm.death import Death
    from trapline.kvm.vm import Vm

# What exits are estimated to take is part of a turn, though it takes no such time here.
ALONE = 16  # a turn of a vCPU that is alone, in slices
QUANTUM = 20_000  # instructions of a turn with more than one vCPU; part of the behaviour


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
    alone = vm.engine.turn if len(vm.vcpus) == 1 else 0
    length = alone * ALONE or QUANTUM
    ratio = int(vm.vcpus[0].hart.time_ratio)
    last = None if max_instructions is None else vm.instructions + max_instructions
    while True:
        # A round that was cut short goes on where it was: how a run is cut changes nothing.
        first, until = vm.open_round or (0, min(time_of(v.hart) for v in vm.vcpus) + max(1, length // ratio))
        vm.open_round = None
        for vcpu in vm.vcpus[first:]:
            result = _turn(vm, vcpu, vmm, until, last, alone or NEVER)
            if result is not None:
                vm.open_round = (vcpu.id, until)
                return result
        if any(_can_run(v) for v in vm.vcpus):
            continue
        if vm.on_idle is not None and vm.on_idle():
            return VmResult("idle")
        if not skip(vm):
            return VmResult("halted")


def _turn(vm: Vm, vcpu: Vcpu, vmm: Vmm, until: int, last: int | None, most: int) -> VmResult | None:
    ratio = int(vcpu.hart.time_ratio)
    while time_of(vcpu.hart) < until:
        if _looks(vm, vcpu) and vm.poll is not None and vm.poll():
            return VmResult("stop", vcpu)
        due = vm.turns.due
        end = until if due is None else min(until, max(due, time_of(vcpu.hart) + 1))
        limit = (end - time_of(vcpu.hart)) * ratio - int(vcpu.hart.instret) % ratio
        left = most if last is None else min(most, last - vm.instructions)
        if left <= 0:
            return VmResult("limit", vcpu)
        goal = vm.goal[1] if vm.goal is not None and vm.goal[0] == vcpu.id else None
        if goal is not None:
            left = min(left, goal - int(vcpu.hart.instret))
            if left <= 0:
                vm.goal = None
                return VmResult("goal", vcpu)
        limit = min(limit, left)
        vcpu.hart.kvm_turn_until = end
        vcpu.hart.kvm_turn_last = min(NEVER, int(vcpu.hart.instret) + left)
        vcpu.vmm_waits = vmm is not None
        stop = vcpu.run(max(1, limit))
        vcpu.vmm_waits = False
        vcpu.hart.kvm_turn_until = 0
        if stop is RunStop.EXIT:
            if vmm is None or not vmm(vcpu):
                return VmResult("exit", vcpu)
        elif stop is RunStop.BLOCKED:
            deadline = vcpu.timer.deadline() if vcpu.mp_state is not MpState.STOPPED else None
            vcpu.advance(end if deadline is None else min(end, deadline))
        elif stop is RunStop.YIELD:
            vcpu.advance(until)
        elif stop in _ENDS:
            return VmResult(_ENDS[stop], vcpu)
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
