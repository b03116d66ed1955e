#!/usr/bin/env python3
"""How many SBI calls a guest that polls makes in a second of processor time, by function and policy.

python benchmarks/sbi_calls.py [POLICY ...]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from trapline.isa.assemble import assemble
from trapline.session.terminal.console import Console
from trapline.vmm.guest import Guest

LOOP = """
    li s0, {count}
    li s1, {a0}
    li s2, {a1}
    li s3, {a2}
1:  mv a0, s1
    mv a1, s2
    mv a2, s3
    li a6, {fid}
    li a7, {eid}
    ecall
    addi s0, s0, -1
    bnez s0, 1b
    li a7, 0x53525354
    li a6, 0
    li a0, 0
    li a1, 0
    ecall
"""
BASE, TIME, IPI, RFENCE, HSM, SRST = 0x10, 0x54494D45, 0x735049, 0x52464E43, 0x48534D, 0x53525354
PMU, DBCN, SUSP, CPPC, STA, FWFT = 0x504D55, 0x4442434E, 0x53555350, 0x43505043, 0x535441, 0x46574654
# Name: extension, function, a0 to a2.
CALLS = {
    "BASE get_spec_version": (BASE, 0, 0, 0, 0),
    "BASE get_impl_id": (BASE, 1, 0, 0, 0),
    "BASE probe_extension (HSM)": (BASE, 3, HSM, 0, 0),
    "BASE probe_extension (none)": (BASE, 3, 0x1234, 0, 0),
    "BASE get_mvendorid": (BASE, 4, 0, 0, 0),
    "BASE, no such function": (BASE, 9, 0, 0, 0),
    "TIME set_timer": (TIME, 0, -1, 0, 0),
    "TIME, no such function": (TIME, 9, 0, 0, 0),
    "IPI to nobody": (IPI, 0, 0, 0, 0),
    "IPI to itself": (IPI, 0, 1, 0, 0),
    "IPI to a hart that is not there": (IPI, 0, 2, 0, 0),
    "RFENCE fence.i": (RFENCE, 0, 1, 0, 0),
    "RFENCE sfence.vma": (RFENCE, 1, 1, 0, 0),
    "RFENCE hfence.gvma": (RFENCE, 4, 1, 0, 0),
    "RFENCE to a hart that is not there": (RFENCE, 1, 2, 0, 0),
    "HSM get_status": (HSM, 2, 0, 0, 0),
    "HSM get_status, no such hart": (HSM, 2, 7, 0, 0),
    "HSM start, runs already": (HSM, 0, 0, 0x80200000, 0),
    "SRST, no such type": (SRST, 0, 99, 0, 0),
    "PMU num_counters": (PMU, 0, 0, 0, 0),
    "PMU counter_get_info": (PMU, 1, 3, 0, 0),
    "PMU counter_fw_read, not configured": (PMU, 5, 40, 0, 0),
    "DBCN write_byte": (DBCN, 2, 65, 0, 0),
    "SUSP, no such type": (SUSP, 0, 99, 0, 0),
    "STA set_shmem, bad flags": (STA, 0, 0, 0, 1),
    "FWFT get misaligned": (FWFT, 1, 0, 0, 0),
    "FWFT get, reserved": (FWFT, 1, 99, 0, 0),
    "FWFT set misaligned": (FWFT, 0, 0, 1, 0),
    "CPPC": (CPPC, 0, 0, 0, 0),
    "an extension that is not there": (0x1234, 0, 0, 0, 0),
    "v0.1 set_timer": (0, 0, -1, 0, 0),
    "v0.1 clear_ipi": (3, 0, 0, 0, 0),
    "v0.1 console_getchar": (2, 0, 0, 0, 0),
}
FEW, MANY = 4_000, 1_000_000
PYTHONS = 8e-6  # seconds: a call that takes longer is Python's


def seconds(policy: str, call: tuple[int, int, int, int, int], count: int) -> float:
    """Return the processor time of a guest that makes so many calls."""
    eid, fid, a0, a1, a2 = call
    guest = Guest(policy, memory=64 << 20, console=Console(lambda data: None))
    guest.load_bytes(assemble(LOOP.format(count=count, eid=eid, fid=fid, a0=a0, a1=a1, a2=a2), 0x8020_0000))
    start = time.process_time()
    result = guest.run()
    if result.reason != "exit":
        raise SystemExit(f"the guest ended with {result.message}")
    return time.process_time() - start


def rate(policy: str, call: tuple[int, int, int, int, int]) -> float:
    """Return calls a second of processor time, beyond those that start a run."""
    few, more = seconds(policy, call, FEW), seconds(policy, call, 2 * FEW)
    if more - few > FEW * PYTHONS:
        return FEW / (more - few)
    return (MANY - FEW) / (seconds(policy, call, MANY) - few)


def main() -> None:
    """Print a table."""
    policies = sys.argv[1:] or ["linux-6.12", "linux-7.2"]
    print("| call | " + " | ".join(f"{p}, calls/s" for p in policies) + " |\n|---|" + "---:|" * len(policies))
    for name, call in CALLS.items():
        print(f"| {name} | " + " | ".join(f"{rate(p, call):,.0f}" for p in policies) + " |", flush=True)


if __name__ == "__main__":
    main()
