"""What firmware did with one entry into M-mode."""

from __future__ import annotations

from trapline.dataclass import dataclass
from trapline.firmware.cost import Cost
from trapline.firmware.trap import MachineTrap
from trapline.privilege.modes import MODE_NAMES

# Words for the hops of a route (`how` in a route's JSON).
REDIRECT = "firmware-redirect"
EMULATE = "firmware-emulate"
HANG = "firmware-hang"
SBI = "sbi"
FORWARD = "firmware-interrupt"

# Where the hart is afterwards. RESUME: back in the code that trapped, past the instruction or at it.
TO_HS, TO_VS, RESUME, HUNG, STOPPED = "HS", "VS", "resume", "hung", "stopped"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One entry into hosted M-mode and the way out.

    `trap` is what the hart reported, `delivered` what a redirect made of it (another cause if an access
    made on behalf of the trapped code faulted itself). `dump` is the firmware's last words.
    """

    how: str
    destination: str
    trap: MachineTrap
    cost: Cost
    delivered: MachineTrap | None = None
    dump: str = ""

    @property
    def path(self) -> tuple[str, ...]:
        """Return the modes from M-mode on: where the trap was handed to, or back to the code that trapped."""
        if self.destination in (TO_HS, TO_VS):
            return "M", self.destination
        return ("M", MODE_NAMES[self.trap.origin]) if self.destination == RESUME else ("M",)

    @property
    def instructions(self) -> int:
        """Return the estimated instructions in M-mode."""
        return self.cost.instructions
