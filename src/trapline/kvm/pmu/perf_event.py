"""What the host's perf counts for a guest: events of its PMU, and the hart's counters behind them.

Cycles and instructions are what the guest's modes have retired. Other events are those of the board (docs/counters.md),
counted by the hart itself on its counter of the same number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from trapline.dataclass import dataclass
from trapline.privilege.counters import write_mhpmevent
from trapline.privilege.fields import HPMEVENT_NOT_GUEST, HPMEVENT_VSINH, HPMEVENT_VUINH
from trapline.privilege.hpm import (
    EVENT_DTLB_LOAD_MISS,
    EVENT_DTLB_STORE_MISS,
    EVENT_INSTRUCTIONS,
    EVENT_ITLB_MISS,
    EVENT_TRAP_KINDS,
    EVENT_TRAPS,
    HPM_END,
    read_hpm,
)
from trapline.privilege.modes import MODE_VS, MODE_VU
from trapline.session.state.plain_types import U64, Limits

if TYPE_CHECKING:
    from trapline.lang.state import Hart

HARDWARE, CACHE, RAW, RAW_V2, FIRMWARE = 0, 1, 2, 3, 15  # event types, bits 19:16 of an event index
HW_NO_EVENT, HW_CYCLES, HW_INSTRUCTIONS = 0, 1, 2
CACHE_EVENTS = (EVENT_DTLB_LOAD_MISS, EVENT_DTLB_STORE_MISS, EVENT_ITLB_MISS)
RAW_EVENTS = range(EVENT_TRAPS + 1, EVENT_TRAPS + EVENT_TRAP_KINDS + 1)
NOTHING = 0  # an event of a perf event that the host's firmware has no counter for


def event_type(index: int) -> int:
    """Return the type of an event index."""
    return index >> 16 & 0xF


def host_event(index: int, data: int) -> int | None:
    """The hart's event that the host's driver counts for one of the guest's, None if it takes none such."""
    kind, code = event_type(index), index & 0xFFFF
    if kind == HARDWARE and code in (HW_NO_EVENT, HW_CYCLES, HW_INSTRUCTIONS):
        return EVENT_INSTRUCTIONS if code != HW_NO_EVENT else NOTHING
    if kind == CACHE:
        return index & 0xFFFFF if index & 0xFFFFF in CACHE_EVENTS else None
    if kind in (RAW, RAW_V2):
        return data if data in RAW_EVENTS else NOTHING
    return None


@dataclass(slots=True)
class PerfEvent:
    """A host perf event for one vCPU: `user` and `kernel` say whether VU- and VS-mode are counted."""

    snapshot_types: ClassVar = {
        "event": U64,
        "counter": Annotated[int, Limits(ge=0, lt=HPM_END)],
        "total": U64,
        "since": U64 | None,
    }

    user: bool
    kernel: bool
    event: int = EVENT_INSTRUCTIONS
    counter: int = 0  # the hart's, for all other events
    total: int = 0
    since: int | None = None  # the count when it was last enabled; None while disabled

    def after_restore(self) -> None:
        """Refuse an event that nobody counts."""
        if self.event not in (NOTHING, EVENT_INSTRUCTIONS, *CACHE_EVENTS, *RAW_EVENTS):
            raise ValueError(f"no perf event {self.event:#x}")

    def enable(self, hart: Hart) -> None:
        """Count from now on."""
        if self.since is None:
            self._select(hart, self.event)
            self.since = self._counted(hart)

    def disable(self, hart: Hart) -> None:
        """Count no more."""
        self.total, self.since = self.read(hart), None
        self._select(hart, NOTHING)

    def read(self, hart: Hart) -> int:
        """What was counted until now."""
        return self.total + (self._counted(hart) - self.since if self.since is not None else 0)

    def _select(self, hart: Hart, event: int) -> None:
        if self.event not in (NOTHING, EVENT_INSTRUCTIONS):
            modes = (0 if self.user else HPMEVENT_VUINH) | (0 if self.kernel else HPMEVENT_VSINH) | HPMEVENT_NOT_GUEST
            hart.call(write_mhpmevent, self.counter, event | modes if event else 0)

    def _counted(self, hart: Hart) -> int:
        if self.event != EVENT_INSTRUCTIONS:
            return int(hart.call(read_hpm, self.counter)) if self.event != NOTHING else 0
        count = 0
        for mode, counted in ((MODE_VU, self.user), (MODE_VS, self.kernel)):
            if counted:
                count += int(hart.mode_instret[mode])
                if int(hart.virt) and mode == MODE_VU + int(hart.priv):
                    count += int(hart.instret) - int(hart.not_retired) - int(hart.mode_since)
        return count
