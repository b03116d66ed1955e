"""The vCPU timer: vstimecmp where the hart has Sstc, otherwise a host timer that injects (vcpu_timer.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trapline.kvm.entry import program_timer, timer_tick
from trapline.kvm.vcpu_state import HartWord
from trapline.lang.state import Hart
from trapline.lang.values import MASK64
from trapline.machine.devices.clint import time_of
from trapline.privilege.csr import csr_read, csr_write
from trapline.privilege.csr_numbers import HTIMEDELTA, VSTIMECMP

if TYPE_CHECKING:
    from trapline.kvm.vcpu import Vcpu

NEVER = MASK64


class VcpuTimer:
    """One vCPU's next event, in ticks of guest time."""

    sstc = HartWord("kvm_sstc", bool)  # whether the guest has stimecmp
    next_cycles = HartWord("kvm_next_cycles", int)  # guest time of the next event
    next_set = HartWord("kvm_next_set", bool)  # whether a timer of the host runs

    def __init__(self, vcpu: Vcpu, *, sstc: bool) -> None:
        self.vcpu = vcpu
        self.sstc = sstc
        self.reset()

    @property
    def hart(self) -> Hart:
        """The vCPU's."""
        return self.vcpu.hart

    def now(self) -> int:
        """Return guest time."""
        return time_of(self.vcpu.hart) + self.vcpu.vm.time_delta & MASK64

    def next_event(self, cycles: int) -> None:
        """SBI set_timer: clear the pending interrupt, raise it at `cycles`."""
        if self.vcpu.loaded or not self.sstc:
            self.vcpu.hart.call(program_timer, cycles & MASK64)
        else:
            self.next_cycles = cycles & MASK64

    def restore(self) -> None:
        """Load htimedelta and vstimecmp."""
        self.vcpu.hart.call(csr_write, HTIMEDELTA, self.vcpu.vm.time_delta)
        if self.sstc:
            self.vcpu.hart.call(csr_write, VSTIMECMP, self.next_cycles)

    def sync(self) -> None:
        """After an exit: learn what the guest wrote to stimecmp."""
        if self.sstc and self.vcpu.hart.kvm_world == 0:
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
        if not self.sstc:
            self.vcpu.hart.call(timer_tick)

    def deadline(self) -> int | None:
        """Return the host tick, later than now, of the next event."""
        if self.sstc and self.vcpu.nested is not None and self.vcpu.hart.kvm_world != 0:
            return self.vcpu.nested.deadline()
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
