"""Why the run of a board ended."""

from __future__ import annotations

from trapline.dataclass import dataclass
from trapline.shown import Facts

ENDED_FROM_OUTSIDE = ("limit", "interrupted", "quit")  # reasons of a run that would have gone on


@dataclass(frozen=True, slots=True)
class RunResult(Facts):
    """Why a run ended.

    `reason`: exit (the program ended the machine with `code`), reset (it asked for a reboot), limit
    (instructions or seconds), stop (`Machine.stopped_by`), snapshot (it was to be taken here), quit (Ctrl-A x),
    interrupted (Ctrl-C), stuck (nothing can ever happen).
    """

    reason: str
    code: int
    instructions: int
    message: str

    @property
    def exit_status(self) -> int:
        """The exit code of a command that ran this."""
        if self.reason in ("exit", "reset"):
            return 0 if self.code == 0 else 1
        return {"limit": 3, "interrupted": 130, "quit": 130, "snapshot": 0, "stop": 0}.get(self.reason, 1)
