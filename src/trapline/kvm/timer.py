"""The vCPU timer: vstimecmp where the hart has Sstc, otherwise a host timer that injects (vcpu_timer.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trapline.kvm.numbers import IRQ_VS_TIMER, MASK64
from trapline.machine.clint import time_of
from trapline.privilege.csr import csr_read, csr_write
from trapline.privilege.csr_numbers import HTIMEDELTA, VSTIMECMP

if TYPE_CHECKING:
    from trapline.kvm.vcpu import Vcpu

NEVER = MASK64


class VcpuTimer:
    """One vCPU's next event, in ticks of guest time."""

    def __init__(self, vcpu: Vcpu, *, sstc: bool) -> None:
        self.vcpu = vcpu
        self.sstc = sstc
        self.next_cycles = NEVER
        self.next_set = False

    def now(self) -> int:
        """Return guest time."""
        return time_of(self.vcpu.hart) + self.vcpu.vm.time_delta & MASK64

    def next_event(self, cycles: int) -> None:
        """SBI set_timer: clear the pending interrupt, raise it at `cycles`."""
        self.next_cycles = cycles & MASK64
        if self.sstc:
            if self.vcpu.loaded:
                self.vcpu.hart.call(csr_write, VSTIMECMP, self.next_cycles)
            return
        self.vcpu.set_interrupt(IRQ_VS_TIMER, level=False)
        self.next_set = True

    def restore(self) -> None:
        """Load htimedelta and vstimecmp."""
        self.vcpu.hart.call(csr_write, HTIMEDELTA, self.vcpu.vm.time_delta)
        if self.sstc:
            self.vcpu.hart.call(csr_write, VSTIMECMP, self.next_cycles)

    def sync(self) -> None:
        """After an exit: learn what the guest wrote to stimecmp."""
        if self.sstc:
            self.next_cycles = int(self.vcpu.hart.call(csr_read, VSTIMECMP))

    def save(self) -> None:
        """The vCPU is put: its comparator must not wake the host."""
        if self.sstc:
            self.vcpu.hart.call(csr_write, VSTIMECMP, NEVER)

    def expired(self) -> bool:
        """Whether the next event has come."""
        return (self.sstc or self.next_set) and self.now() >= self.next_cycles

    def tick(self) -> None:
        """Without Sstc: inject when the host timer has expired."""
        if not self.sstc and self.next_set and self.now() >= self.next_cycles:
            self.next_set = False
            self.vcpu.set_interrupt(IRQ_VS_TIMER)

    def deadline(self) -> int | None:
        """Return the host tick, later than now, of the next event."""
        if not (self.sstc or self.next_set) or self.next_cycles == NEVER:
            return None
        ahead = self.next_cycles - self.now()
        return time_of(self.vcpu.hart) + ahead if ahead > 0 else None

    def cancel(self) -> None:
        """Forget the next event."""
        self.next_set = False

    def reset(self) -> None:
        """As at power-on."""
        self.next_cycles = NEVER
        self.next_set = False
