"""Estimated instructions of the hosted levels: what a real KVM and kernel would have executed.

A hosted HS-mode executes no RISC-V instructions, so these are estimates, marked as such wherever
they are shown. They were measured on Debian's 6.12.107 kernel with its own KVM on QEMU 7.2 with
OpenSBI 1.6, one hart, mean of 10,000 round trips : instructions retired between
the guest's trap and its next instruction, split into kvm.ko and the rest of the kernel.
"""

from __future__ import annotations

from dataclasses import dataclass

SOURCE = "measured: Debian 6.12.107, kvm.ko on QEMU 7.2, OpenSBI 1.6, mean of 10,000 round trips"


@dataclass(frozen=True, slots=True)
class Cost:
    """Instructions in HS-mode (kvm.ko and kernel) and in the VMM, for one way out of the guest."""

    kvm: int
    kernel: int
    user: int = 0
    note: str = ""

    @property
    def hs(self) -> int:
        """All of HS-mode."""
        return self.kvm + self.kernel


# Keyed by the hop's `how`, or "how:outcome" where that differs.
COSTS: dict[str, Cost] = {
    "kvm-redirect": Cost(534, 302),
    "kvm-emulate": Cost(708, 301, note="hstatus access; a counter read is 722 + 301"),
    "sbi": Cost(625, 301, note="get_spec_version; set_timer is 688 + 301"),
    "sbi:vmm": Cost(1635, 1433, 42),
    "mmio": Cost(1700, 1446, 80),
    "gstage-map": Cost(2041, 3069, note="first touch of a 4 KiB page, mean of 4000"),
    "action": Cost(534, 302, note="a policy's own action; not measured: taken as a redirect"),
    "debug": Cost(1635, 1433, 0, note="not measured: taken as a call forwarded to the VMM"),
    "exit": Cost(1635, 1433, 0, note="not measured: taken as a call forwarded to the VMM"),
    "kill": Cost(534, 302, note="not measured: taken as a redirect; the log lines are not counted"),
    "hardware": Cost(534, 302, note="a host interrupt; not measured: taken as a redirect"),
}


def estimate(how: str, end: str = "") -> Cost:
    """Return the cost of one exit that was handled as `how` and ended as `end`."""
    return COSTS.get(f"{how}:{end}") or COSTS[how]
