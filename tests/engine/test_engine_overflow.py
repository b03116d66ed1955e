"""A counter that overflows is seen behind the very instruction, wherever native code is left just then."""

from __future__ import annotations

import pytest

from tests.engine.harness import Bench
from trapline.lang.control import EXIT_WFI
from trapline.privilege.isa_string import DEFAULT_ISA

LCOFIP = 1 << 13
COUNTED = 6  # until the overflow
PROGRAM = """
 li t0, 2
 csrw mhpmevent3, t0
 li t1, -{counted}
 csrw mhpmcounter3, t1
 {body}
end: j end
"""
BODIES = {
    "limit": "addi a0, a0, 1\n" * 10,
    "wait": "addi a0, a0, 1\n" * (COUNTED - 1) + "wfi\n" + "addi a0, a0, 1\n" * 4,
    "loop": "again: addi a0, a0, 1\n j again",
}


def pending(engine: str, body: str, attempts: int) -> tuple[bool, int, int]:
    """Whether the interrupt is pending when so many attempts, or a wait, end a run; where that is."""
    bench = Bench(engine, PROGRAM.format(counted=COUNTED, body=body), isa=DEFAULT_ISA)
    while int(bench.hart.instret) < attempts:
        if bench.engine.run(bench.hart, attempts - int(bench.hart.instret)) == EXIT_WFI:
            break
    return bool(int(bench.hart.mip) & LCOFIP), int(bench.hart.pc), int(bench.hart.instret)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_an_overflow_is_pending_when_a_run_ends_on_it(body: str) -> None:
    """Runs of every length around an overflow leave the same interrupt pending as the reference does."""
    seen = set()
    for attempts in range(1, 16):
        wanted = pending("reference", body, attempts)
        seen.add(wanted[0])
        assert pending("native", body, attempts) == wanted
        assert pending("forced", body, attempts) == wanted
    assert seen == {False, True}
