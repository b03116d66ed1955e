"""What `trapline stat` is told of a guest. Reading it changes nothing that the program can see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from trapline.kvm.uapi.numbers import MpState
from trapline.lab.counted import Before, instructions_since, rows_since
from trapline.lab.symbols import absolute_names

if TYPE_CHECKING:
    from trapline.kvm.vcpu import Vcpu
    from trapline.lab.guest_run import RunOptions
    from trapline.vmm.guest import Guest


class GuestSource:
    """A guest that runs under a policy."""

    def __init__(self, guest: Guest, options: RunOptions, before: Before) -> None:
        self._guest, self._options, self._before = guest, options, before
        self._symbols = absolute_names(options.observe.symbols)
        self._programs = absolute_names([options.guest] if options.guest else [])

    def sample(self) -> dict[str, Any]:
        """Return counts since the run began, and where each vCPU is."""
        guest, settings = self._guest, self._options.settings
        rows = rows_since(guest, self._before, settings.policy.release)
        instructions = instructions_since(guest, rows, self._before)
        everything = sum(instructions.values())
        return {
            **settings.head(),
            "command": "run",
            "program": self._options.guest or str(self._options.snapshots.restore),
            "symbols": self._symbols,
            "programs": self._programs,
            "held": guest.console.held,
            "ticks": guest.position()[1],
            "instructions": instructions,
            "estimated": ["HS", "M"],
            "traps": [row.as_data(everything) for row in rows if row.count],
            "counters": self._before.counted_by_kvm(guest),
            "vcpus": [self._vcpu(vcpu) for vcpu in guest.vm.vcpus],
        }

    def places(self) -> Iterator[tuple[str, int]]:
        """Yield (mode, pc) of each vCPU that runs."""
        for vcpu in self._guest.vm.vcpus:
            if _state(vcpu) == "runs":
                yield vcpu.present_mode(), vcpu.pc

    def _vcpu(self, vcpu: Vcpu) -> dict[str, Any]:
        handler = int(vcpu.hart.vstvec) if vcpu.loaded else int(vcpu.csrs.vstvec)
        return {
            "id": vcpu.id,
            "mode": vcpu.present_mode(),
            "pc": vcpu.pc,
            "state": _state(vcpu),
            "instructions": int(vcpu.hart.instret),
            "handlers": {"VS": handler & ~3},
        }


def _state(vcpu: Vcpu) -> str:
    if vcpu.mp_state is MpState.STOPPED:
        return "stopped"
    return "waits" if vcpu.blocked else "runs"
