"""Why a guest's run ended, for people and for exit codes."""

from __future__ import annotations

from trapline.dataclass import dataclass
from trapline.kvm.report.death import Death
from trapline.machine.result import RunResult


@dataclass(frozen=True, slots=True)
class GuestResult(RunResult):
    """A guest's `reason` may also be killed, hung or debug."""

    death: Death | None = None
