"""Steal time: how long the host let a runnable vCPU wait, in memory shared with the guest (vcpu_sbi_sta.c).

The host counts the waiting (`run_delay`, nanoseconds). Here nothing else runs on the host, so it grows
only if whoever embeds the VM adds to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trapline.dataclass import dataclass
from trapline.lang.values import MASK64

if TYPE_CHECKING:
    from trapline.kvm.vcpu import Vcpu

INVALID_GPA = MASK64
SEQUENCE, STEAL = 0, 8  # offsets in struct sbi_sta_struct: u32, u32 flags, u64


@dataclass(slots=True)
class StealTime:
    """One vCPU's account. `register` is the address as ONE_REG has it, all ones while there is none."""

    vcpu: Vcpu
    register: int = INVALID_GPA
    run_delay: int = 0
    last: int = 0

    def start(self, shared_memory: int | None) -> None:
        """Report there from now on, or stop."""
        self.register = INVALID_GPA if shared_memory is None else shared_memory
        self.last = self.run_delay

    @property
    def reports(self) -> bool:
        """Whether there is memory to report to."""
        return self.register != INVALID_GPA

    def reset(self) -> None:
        """As after a vCPU reset."""
        self.register, self.last = INVALID_GPA, 0

    def record(self) -> None:
        """The vCPU is loaded: bring the guest's account up to date, its sequence odd meanwhile."""
        if self.register == INVALID_GPA:
            return
        host = self.vcpu.sbi
        now = host.try_read(self.register, STEAL + 8)
        if now is None:
            self.register = INVALID_GPA
            return
        sequence = int.from_bytes(now[SEQUENCE : SEQUENCE + 4], "little") + 2 & 0xFFFF_FFFF
        steal = int.from_bytes(now[STEAL:], "little") + self.run_delay - self.last & MASK64
        self.last = self.run_delay
        host.try_write(self.register, sequence.to_bytes(4, "little"))
        host.try_write(self.register + STEAL, steal.to_bytes(8, "little"))
