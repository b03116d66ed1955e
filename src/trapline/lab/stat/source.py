"""What `trapline stat` is told of a guest and of a board. Reading it changes nothing that the program can see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trapline.kvm.uapi.numbers import MpState
from trapline.lab.counted import Before, instructions_since, rows_since
from trapline.lab.symbols import LEVELS
from trapline.privilege.causes import cause_name
from trapline.privilege.modes import mode_name
from trapline.session.observe.trap_counts import instructions_by_mode, summed, trap_rows

if TYPE_CHECKING:
    from trapline.kvm.vcpu import Vcpu
    from trapline.lab.boot import BootOptions
    from trapline.lab.guest_run import RunOptions
    from trapline.machine.machine import Machine
    from trapline.vmm.guest import Guest


class GuestSource:
    """A guest that runs under a policy."""

    def __init__(self, guest: Guest, options: RunOptions, before: Before) -> None:
        self._guest, self._options, self._before = guest, options, before
        self._symbols = _whole(options.observe.symbols)
        self._programs = _whole([options.guest] if options.guest else [])

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


class BoardSource:
    """A board with real M-mode code."""

    def __init__(self, machine: Machine, options: BootOptions, traps: Counter[int], levels: Counter[str]) -> None:
        self._machine, self._options, self._traps, self._levels = machine, options, traps, levels
        self._symbols = _whole(options.observe.symbols)
        self._programs = _whole([p for p in (options.image, options.bios, options.kernel) if p])

    def sample(self) -> dict[str, Any]:
        """Return counts since the run began, and where each hart is."""
        from trapline.lab.boot import instructions

        machine, options = self._machine, self._options
        levels = instructions(machine)
        levels.subtract(self._levels)
        return {
            "command": "boot",
            "program": options.image or options.kernel or options.bios or str(options.snapshots.restore),
            "symbols": self._symbols,
            "programs": self._programs,
            "held": machine.console.held,
            "ticks": machine.position()[1],
            "instructions": {name: n for name, n in levels.items() if n},
            "traps": [
                {"cause": cause, "name": cause_name(cause), "from": origin, "to": to, "count": n}
                for cause, origin, to, n in trap_rows(summed(machine.harts) - self._traps)
            ],
            "counters": {},
            "vcpus": [
                {
                    "id": number,
                    "mode": mode_name(hart),
                    "pc": int(hart.pc),
                    "state": "waits" if machine.schedule.asleep[number] else "runs",
                    "instructions": sum(instructions_by_mode(hart).values()),
                    "handlers": {
                        "M": int(hart.mtvec) & ~3,
                        "HS": int(hart.stvec) & ~3,
                        "VS": int(hart.vstvec) & ~3,
                    },
                }
                for number, hart in enumerate(machine.harts)
            ],
        }

    def places(self) -> Iterator[tuple[str, int]]:
        """Yield (mode, pc) of each hart that runs."""
        for hart, asleep in zip(self._machine.harts, self._machine.schedule.asleep, strict=True):
            if not asleep:
                yield mode_name(hart), int(hart.pc)


def _whole(arguments: Any) -> list[str]:
    """Return file names that another process can use; LEVEL= stays in front."""
    made = []
    for argument in arguments:
        level, equals, path = argument.partition("=")
        known = equals and level in LEVELS
        made.append(f"{level}={Path(path).absolute()}" if known else str(Path(argument).absolute()))
    return made
