"""Estimated instructions of the hosted levels: what a real KVM and kernel would have executed.

A hosted HS-mode executes no RISC-V instructions, so these are estimates, marked as such wherever
they are shown. The numbers are in firmware/measured.json: Debian's kernels with their own kvm.ko on the board, mean of
10 000 round trips (`trapline conform --costs --record`). A version takes the newest kernel measured up to it.
"""

from __future__ import annotations

from functools import cache

from trapline.dataclass import dataclass
from trapline.firmware.cost import measurements
from trapline.policies.versions import parse


@dataclass(frozen=True, slots=True)
class Cost:
    """Instructions in HS-mode (kvm.ko and kernel) and in the VMM, for one way out of the guest."""

    kvm: int
    kernel: int
    user: int = 0
    note: str = ""
    source: str = ""

    @property
    def hs(self) -> int:
        """All of HS-mode."""
        return self.kvm + self.kernel


# The loop that was measured for each hop's `how` (or "how:outcome" where that differs), and a remark.
LOOPS: dict[str, tuple[str, str]] = {
    "kvm-redirect": ("misaligned-lr", ""),
    "kvm-emulate": ("hstatus", ""),
    "sbi": ("sbi-base", ""),
    "sbi:vmm": ("sbi-vmm", ""),
    "mmio": ("mmio-lw", ""),
    "gstage-map": ("touch", "first touch of a 4 KiB page, mean of 4000"),
    "action": ("misaligned-lr", "a policy's own action; not measured: taken as a redirect"),
    "nested-emulate": ("hstatus", "not measured: taken as an emulated CSR"),
    "nested-enter": ("hstatus", "not measured: taken as an emulated CSR"),
    "nested-redirect": ("misaligned-lr", "not measured: taken as a redirect"),
    "nested-map": ("touch", "not measured: taken as a first touch"),
    "debug": ("sbi-vmm", "not measured: taken as a call forwarded to the VMM"),
    "exit": ("sbi-vmm", "not measured: taken as a call forwarded to the VMM"),
    "kill": ("misaligned-lr", "not measured: taken as a redirect; the log lines are not counted"),
    "hardware": ("misaligned-lr", "a host interrupt; not measured: taken as a redirect"),
}


@cache
def measured_version(version: str) -> str:
    """Return the measured kernel that stands for a version; the oldest one for what is older or no Linux."""
    known: list[str] = sorted(measurements()["kernels"], key=parse)
    if not version:
        return known[0]
    return next((k for k in reversed(known) if parse(k) <= parse(version)), known[0])


@cache
def estimate(how: str, end: str = "", version: str = "") -> Cost:
    """Return the cost of one exit that was handled as `how` and ended as `end`, under a version of Linux."""
    loop, note = LOOPS.get(f"{how}:{end}") or LOOPS[how]
    kernel = measurements()["kernels"][measured_version(version)]
    row = kernel["rows"][loop]
    return Cost(row["kvm"], row["kernel"], row["user"], note, kernel["source"])


def source(version: str = "") -> str:
    """Return where the estimates for a version come from."""
    return str(measurements()["kernels"][measured_version(version)]["source"])
