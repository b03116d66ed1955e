"""How long vCPUs wait in WFI: KVM's halt statistics (virt/kvm/kvm_main.c), as hosted exits and Python count them.

The words are folded into Python's counters (VcpuStats.fold).
"""

from __future__ import annotations

from trapline.lang.functions import hosted
from trapline.lang.state import Hart
from trapline.lang.state.words import HALT_BUCKETS
from trapline.lang.values import U64, clz, udiv


@hosted
def waited(hart: Hart, ticks: U64) -> None:
    """Time passed while the vCPU was blocked."""
    nanoseconds = udiv(ticks * 1_000_000_000, hart.kvm_timebase)
    hart.kvm_halt_wait = hart.kvm_halt_wait + nanoseconds
    hart.kvm_wait = hart.kvm_wait + nanoseconds


@hosted
def woke(hart: Hart) -> None:
    """The vCPU is not blocked any more: its wait was one sample of the histogram."""
    hart.kvm_wakeups = hart.kvm_wakeups + 1
    bucket = U64(0)
    if hart.kvm_wait != 0:
        bucket = 64 - clz(hart.kvm_wait)
    if bucket >= HALT_BUCKETS:
        bucket = U64(HALT_BUCKETS - 1)
    hart.kvm_halts[bucket] = hart.kvm_halts[bucket] + 1
    hart.kvm_wait = 0
