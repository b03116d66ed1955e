"""A guest whose traps hosted firmware handles while an engine runs it."""

from __future__ import annotations

import pytest
from firmware_bench import CODE, DATA, VSTVEC, Bench

from trapline.engine.native import NativeEngine
from trapline.engine.reference import ReferenceEngine
from trapline.lang.control import EXIT_HOSTED_HS, EXIT_HOSTED_M
from trapline.privilege import csr_numbers as csr

PROGRAM = (
    0x0005_A503,  # lw a0, 0(a1)      misaligned: emulated
    0xFFFF_FFFF,  # illegal: redirected to VS, whose handler steps over it
    0x00A5_A1A3,  # sw a0, 3(a1)      aligned: no trap
    0x00A5_A023,  # sw a0, 0(a1)      misaligned: emulated
    0x0000_0073,  # ecall: HS
)
HANDLER = (
    0x1410_22F3,  # csrr t0, sepc
    0x0042_8293,  # addi t0, t0, 4
    0x1412_9073,  # csrw sepc, t0
    0x1020_0073,  # sret
)


@pytest.mark.parametrize("engine", [ReferenceEngine, NativeEngine])
@pytest.mark.parametrize("mode", ["VS", "VU"])
def test_guest_runs_on_through_emulation_and_redirect(engine: type, mode: str) -> None:
    """Four entries into M-mode leave the guest with the values and the place that hardware would have given."""
    bench = Bench("opensbi-1.9")
    runner = engine()
    runner.attach(bench.hart)
    hart = bench.hart
    hart.hosted_hs = 1
    bench.write(csr.HEDELEG, 0xB1FF & ~(1 << 8))
    bench.put(CODE, b"".join(i.to_bytes(4, "little") for i in PROGRAM))
    bench.put(VSTVEC, b"".join(i.to_bytes(4, "little") for i in HANDLER))
    bench.put(DATA, bytes(range(1, 17)))
    hart.x[11] = DATA + 1
    hart.pc = CODE
    bench.enter(mode)
    hows = []
    while (reason := runner.run(hart, 1000)) == EXIT_HOSTED_M:
        hows.append(bench.firmware.handle(hart).how)
    assert reason == EXIT_HOSTED_HS
    assert hows == ["firmware-emulate", "firmware-redirect", "firmware-emulate"]
    assert (hart.scause, hart.sepc) == (8 if mode == "VU" else 10, CODE + 16)
    assert hart.x[10] == 0x0504_0302
    assert bench.get(DATA, 9) == bytes([1, 2, 3, 4, 5, 3, 4, 5, 9])
    assert (hart.vscause, hart.vstval) == (2, 0xFFFF_FFFF)
