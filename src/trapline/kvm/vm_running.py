"""Running a VM: its stops, hooks and checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, overload

from trapline.engine.stop_points import Stopped, Stops
from trapline.kvm.checkpoint import make_checkpoints
from trapline.kvm.schedule import VmResult, run_vcpus
from trapline.session.hooks import Answer, Hook, Hooked, Until, goes_on
from trapline.session.state.checkpoint import Checkpoints, Rewindable

if TYPE_CHECKING:
    from trapline.engine.api import Engine
    from trapline.kvm.report.trace import TrapRecord
    from trapline.kvm.vcpu import Vcpu
    from trapline.session.terminal.console import Console

Told = Callable[["TrapRecord"], object]


class _OnTrap:
    """`vm.on_trap`: a function for records, or, where it is called, a hook."""

    def __init__(self, vm: VmRunning) -> None:
        self._vm = vm

    def __call__(self, function: Answer | None = None, **which: Any) -> Hook:
        """`Hooked.on_trap`."""
        return Hooked.on_trap(self._vm, function, **which)


class _Records:
    """The attribute that takes the function."""

    @overload
    def __get__(self, vm: None, kind: type) -> _Records: ...
    @overload
    def __get__(self, vm: VmRunning, kind: type) -> _OnTrap: ...
    def __get__(self, vm: VmRunning | None, kind: type) -> _Records | _OnTrap:
        return self if vm is None else _OnTrap(vm)

    def __set__(self, vm: VmRunning, function: Told | None) -> None:
        vm.told_of_traps = function


class VmRunning(Rewindable, Hooked):
    """What a VM does beside holding a guest."""

    engine: Engine
    symbols: dict[str, int]
    stopped_by: Stopped | None
    told_of_traps: Told | None
    on_stop: Callable[[Vcpu], None] | None
    user_space: Rewindable | None
    on_trap = _Records()

    def run(
        self,
        vmm: Callable[[Vcpu], bool] | None = None,
        max_instructions: int | None = None,
        *,
        until: Until = None,
        limit: int | None = None,
    ) -> VmResult:
        """Run all vCPUs, in turns of fixed length, until something ends it.

        `vmm` is called when a vCPU leaves KVM_RUN; it returns whether to go on. Without it, the first
        such exit ends the run. `until` and `limit` are those of `Machine.run`.
        """
        vm: Any = self
        self._running = True
        try:
            with self._until(until):
                return run_vcpus(vm, vmm, max_instructions if limit is None else limit)
        finally:
            self._running = False

    @property
    def stops(self) -> Stops:
        """Breakpoints, watchpoints, catches of traps and of CSR writes: for what `run` comes back ("stop")."""
        return self.engine.stops

    def stopped(self, vcpu: Vcpu) -> bool:
        """A vCPU came back for a stop; return whether it goes on all the same."""
        self.stopped_by = self.stops.hit(vcpu.hart, vcpu.id)
        if goes_on(self.stopped_by, vcpu.hart):
            return True
        if self.on_stop is not None:
            self.on_stop(vcpu)
        return False

    def _make_checkpoints(self) -> Checkpoints:
        vm: Any = self
        return make_checkpoints(vm, (self,), (VmRunning,)) if self.user_space is None else self.user_space.checkpoints

    def _hook_parts(self) -> tuple[Stops, dict[str, int], Console | None]:
        console: Console | None = getattr(self.user_space, "console", None)
        return self.stops, self.symbols, console

    def _stop_at_text(self, text: bytes) -> None:
        user_space: Any = self.user_space
        user_space._stop_at_text(text)
