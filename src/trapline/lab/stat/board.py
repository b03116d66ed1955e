"""What `trapline stat` is told of a board. Reading it changes nothing that the program can see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from trapline.lab.symbols import absolute_names
from trapline.privilege.causes import cause_name
from trapline.privilege.modes import mode_name
from trapline.session.observe.trap_counts import instructions_by_mode, summed, trap_rows

if TYPE_CHECKING:
    from trapline.lab.boot import BootOptions
    from trapline.machine.machine import Machine


class BoardSource:
    """A board with real M-mode code."""

    def __init__(self, machine: Machine, options: BootOptions, traps: Counter[int], levels: Counter[str]) -> None:
        self._machine, self._options, self._traps, self._levels = machine, options, traps, levels
        self._symbols = absolute_names(options.observe.symbols)
        self._programs = absolute_names([p for p in (options.image, options.bios, options.kernel) if p])

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
