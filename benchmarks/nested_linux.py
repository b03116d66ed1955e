"""Debian's kernel as a guest of a guest: L1's boot, L2's boot to its init and power off. Seconds, wall and processor.

python benchmarks/nested_linux.py [KERNEL [POLICY [NACL]]]        (linux-6.12, linux-7.2, off)

KERNEL is a fetched one (trapline fetch linux), or an Image: L1, with the KVM user program as its init and VMM, and L2.
Then the commonest exits of L0 are printed, with how often each came.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from trapline.conform.conform import ISA
from trapline.conform.hosts import hosts
from trapline.conform.linux import boot_guest
from trapline.conform.nested import NestedSession
from trapline.conform.port import MARK, Snapshot
from trapline.lab.settings import settings
from trapline.lang.state import Hart

EXITS = 24  # rows


class Timed(NestedSession):
    """A session that knows when L2 was entered first."""

    entered = 0.0
    exits: ClassVar[dict[str, int]] = {}

    def go(self) -> Any:
        """Run to the end; L0's counters stay."""
        found = super().go()
        Timed.exits = {name: n for name, n in self.guest.vm.stats().items() if n}
        return found

    def _mark(self, snapshot: Snapshot, hart: Hart) -> None:
        if snapshot.code == MARK:
            Timed.entered = time.process_time()
        super()._mark(snapshot, hart)


def main() -> None:
    """Boot once and print what it took."""
    kernel, policy, nacl = [*sys.argv[1:], *("linux-6.12", "linux-7.2", "off")[len(sys.argv) - 1 :]][:3]
    bios = [str(hosts(None, (), (), None, ISA, "trap")[0].bios)] if Path(kernel).is_file() else []
    (host,) = hosts(kernel, bios, (), None, ISA, "trap")
    made: Any = partial(Timed, settings=settings(policy), nacl=nacl)
    wall, processor = time.perf_counter(), time.process_time()
    found = boot_guest(host, host.kernel, made=made)
    whole = time.process_time() - processor
    assert found.end == "shutdown", found.end
    print(f"L1 {found.host_release}, L2 {found.guest_release}, L0 {policy}, NACL {nacl}: {found.end}")
    print(
        f"{time.perf_counter() - wall:.1f} s wall, {whole:.1f} s of processor: L1 {Timed.entered - processor:.1f} s, "
        f"L2 {processor + whole - Timed.entered:.1f} s; {found.instructions / 1e6:.0f} M instructions of L1 and L2; "
        f"L2 left for L1 {found.stats['exits']} times"
    )
    traps = sorted(((n, name) for name, n in Timed.exits.items() if name.startswith("trapline/")), reverse=True)
    for n, name in traps[:EXITS]:
        print(f"{n:>10}  {name.removeprefix('trapline/')}")


if __name__ == "__main__":
    main()
