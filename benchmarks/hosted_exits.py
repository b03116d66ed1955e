#!/usr/bin/env python3
"""What one exit of each kind costs in native code and under CPython: processor time of a loop of them, in us."""

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
    li s3, 0x10000000
    la s2, data
1:  {body}
    addi s0, s0, -1
    bnez s0, 1b
    li a7, 0x53525354
    li a6, 0
    li a0, 0
    li a1, 0
    ecall
.align 3
data: .dword 1, 2
"""
KINDS = {
    "MMIO load from the UART": ("lbu a0, 5(s3)", 400_000),
    "misaligned ld, emulated by firmware": ("ld a0, 1(s2)", 2_000_000),
    "SBI set_timer": ("li a7, 0x54494d45\n li a6, 0\n li a0, -1\n ecall", 2_000_000),
    "4 KiB page mapped": ("slli t0, s0, 12\n li t1, 0x80400000\n add t0, t0, t1\n sd zero, 0(t0)", 60_000),
}
SHARE = 1000  # CPython's loops are shorter


def one(body: str, count: int, engine: str) -> float:
    """Return microseconds for one turn of the loop."""
    guest = Guest("linux-7.2", memory=256 << 20, console=Console(lambda data: None), backing="4K", engine=engine)
    guest.load_bytes(assemble(LOOP.format(body=body, count=count), 0x8020_0000))
    start = time.process_time()
    result = guest.run()
    if result.reason != "exit":
        raise SystemExit(f"the guest ended with {result.message}")
    return (time.process_time() - start) / count * 1e6


def main() -> None:
    """Print a table."""
    print("| exit | native engine, us | reference engine, us |\n|---|---|---|")
    for name, (body, count) in KINDS.items():
        native = one(body, count, "native")
        python = one(body, count // SHARE, "reference")
        print(f"| {name} | {native:.2f} | {python:.0f} |", flush=True)


if __name__ == "__main__":
    main()
