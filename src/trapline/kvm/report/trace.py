"""Records of traps that left the guest."""

from __future__ import annotations

from typing import Any

from trapline.dataclass import dataclass
from trapline.privilege.causes import cause_name
from trapline.privilege.modes import MODE_NAMES


def outcome(end: str, errno: int | None, sees: Any = None) -> str:
    """Return an end with its errno, or with the cause that the guest `sees`."""
    if end == "killed" and errno is not None:
        return f"killed -{errno}"
    return f"guest {sees.cause}" if end == "guest" and sees is not None else end


@dataclass(frozen=True, slots=True)
class TrapRecord:
    """One trap that left the guest: where it came from, each hop, and how it ended.

    `path` holds the modes in order, `how` one word for each hop between them. A trap that the guest
    gets in hardware has no record: the hart's counters have it.
    """

    instret: int
    vcpu: int
    cause: int
    origin: str
    path: tuple[str, ...]
    how: tuple[str, ...]
    end: str  # guest, emulated, resumed, vmm, killed, hung
    errno: int = 0
    epc: int = 0
    tval: int = 0
    gpa: int | None = None  # of a guest page fault
    # The cause that the hart's counters have: firmware may hand on another (the fault of an emulated access).
    raised: int = -1
    # Estimates of what real firmware, a real host kernel and a real VMM would have executed (kvm.report.cost).
    m_instructions: int = 0
    hs_instructions: int = 0
    user_instructions: int = 0
    m_source: str = ""  # where the estimate for M-mode comes from

    @property
    def name(self) -> str:
        """The cause's name."""
        return cause_name(self.cause)

    def route(self) -> str:
        """The path and its hops in one line, for example "VU -hardware-> HS -kvm-redirect-> VS"."""
        text = self.path[0]
        for number, how in enumerate(self.how, 1):
            # A firmware that hangs goes nowhere: its last hop stays in M.
            text += f" -{how}-> {self.path[min(number, len(self.path) - 1)]}"
        return text


def origin_of(priv: int, virt: int) -> str:
    """Name a mode."""
    return MODE_NAMES.get(int(priv) | int(virt) << 2, f"priv {int(priv)} virt {int(virt)}")
