"""Why a guest's run ended, for people and for exit codes."""

from __future__ import annotations

from trapline.dataclass import dataclass
from trapline.kvm.report.death import Death
from trapline.shown import Facts


@dataclass(frozen=True, slots=True)
class GuestResult(Facts):
    """`reason`: exit (with `code`), reset, killed, hung, limit, stop, snapshot, quit, interrupted, stuck, debug."""

    reason: str
    code: int
    message: str
    instructions: int
    death: Death | None = None

    @property
    def exit_status(self) -> int:
        """The exit code of a command that ran this."""
        if self.reason in ("exit", "reset"):
            return 0 if self.code == 0 else 1
        return {"limit": 3, "interrupted": 130, "quit": 130, "snapshot": 0, "stop": 0}.get(self.reason, 1)
