"""The SBI of the model opensbi-1.1 against Debian's OpenSBI 1.1: the same calls from HS-mode, the same answers."""

from __future__ import annotations

from pathlib import Path

import pytest
from opensbi_probe import BASE, FINISHER, LOG, PASS, RECORD
from test_against_real_opensbi import OPENSBI, hosted, real

from trapline.isa.assemble import assemble
from trapline.sbi.numbers import Eid

ALL, HIGH = (1 << 64) - 1, 1 << 63
MASK = 0x8050_0000  # a hart mask in memory: hart 0
HOLE = 0x4000_0000

PROBES = [*range(10), 15, *sorted(set(Eid) - set(range(9))), 0xB00_0000, 0x0800_0000, 0x0900_0000, Eid.BASE | 1 << 32]
CALLS: list[tuple[int, ...]] = [
    *((Eid.BASE, n) for n in range(8)),
    *((Eid.BASE, 3, eid) for eid in PROBES if eid != Eid.PMU),
    (Eid.BASE, 1 << 32),
    (Eid.TIME, 0, ALL),
    (Eid.TIME, 1),
    *((Eid.IPI, 0, mask, base) for mask, base in ((0, 0), (2, 0), (3, 0), (1, 1), (0, ALL), (1, 64), (1, 128), (0, 9))),
    (Eid.IPI, 1),
    *((Eid.RFENCE, fid, 1, 0, 0, 0, 1) for fid in range(8)),
    (Eid.RFENCE, 1, 1, 0, 0x1000, 0x2000),
    (Eid.RFENCE, 2, 1, 0, 0, ALL, 3),
    (Eid.RFENCE, 0, 2, 0),
    (Eid.RFENCE, 0, 0, ALL),
    *((Eid.HSM, 0, hartid, MASK) for hartid in (0, 1, ALL)),
    *((Eid.HSM, 2, hartid) for hartid in (0, 1, ALL)),
    *(
        (Eid.HSM, 3, kind, MASK)
        for kind in (1, 0x8000_0001, 0x1000_0000, 0x0FFF_FFFF, 0x8FFF_FFFF, ALL >> 32, HIGH | 1)
    ),
    (Eid.HSM, 4),
    *((Eid.SRST, 0, kind, reason) for kind, reason in ((3, 0), (0, 2), (ALL >> 32, 0), (1 << 32, 0), (0xF000_0000, 0))),
    (Eid.SRST, 1),
    *((eid, 0) for eid in (Eid.DBCN, Eid.FWFT, Eid.SUSP, Eid.STA, 0x999, ALL, Eid.BASE | 1 << 32)),
    *((eid, 7, ALL if eid == 0 else MASK) for eid in (0, 3, 2, 4, 5, 6, 9, 15)),
    *((eid, 0, 0) for eid in (4, 5, 6, 7)),
    *((eid, 0, HOLE) for eid in (4, 5, 6, 7)),
]


def source() -> str:
    """Return a program that makes every call and logs a0, a1 and the trap that came of it, if any."""
    lines = ["la t0, trap", "csrw stvec, t0", f"li s11, {LOG}", f"li t0, {MASK}", "li t1, 1", "sd t1, 0(t0)"]
    for eid, fid, *arguments in CALLS:
        padded = (arguments + [0] * 6)[:6]
        lines += [f"li a{n}, {value}" for n, value in enumerate(padded)]
        lines += [f"li a6, {fid}", f"li a7, {int(eid)}", "li t3, 0", "ecall", "li t0, 3", "sd t0, 0(s11)"]
        lines += ["sd a0, 8(s11)", "sd a1, 16(s11)", "sd t3, 24(s11)", f"addi s11, s11, {RECORD}"]
    lines += ["sd zero, 0(s11)", f"li t0, {FINISHER}", f"li t1, {PASS}", "sw t1, 0(t0)", "1: j 1b", ".align 3"]
    lines += ["trap: csrr t3, scause", "slli t3, t3, 56", "csrr t4, stval", "add t3, t3, t4"]
    lines += ["csrr t4, sepc", "addi t4, t4, 4", "csrw sepc, t4", "sret"]
    return "\n".join(lines)


def test_model_answers_as_the_real_firmware(tmp_path: Path) -> None:
    """a0, a1 and redirected faults of a hundred calls are the same, invalid ones included."""
    if not OPENSBI.exists():
        pytest.skip("Debian's opensbi is not installed")
    code = assemble(source(), BASE)
    expected, found = real(code, tmp_path, "zero"), hosted(code, "zero")
    assert len(expected) == len(CALLS)
    differences = [(call, e[1:4], f[1:4]) for call, e, f in zip(CALLS, expected, found, strict=True) if e != f]
    assert differences == []
