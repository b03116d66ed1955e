"""What a guest hypervisor does wrong is its own: no crash, no hang, and what hardware would have shown."""

from __future__ import annotations

import hostile
import pytest
from l1 import as_guest, difference, given_menvcfg, on_hart, program

from trapline.privilege.isa_string import DEFAULT_ISA


@pytest.mark.parametrize("seed", range(12))
def test_random_tables(seed: int) -> None:
    """Random tables, registers and accesses of both levels show the hypervisor what a hart with H shows it."""
    code, tables = program(hostile.body(seed)), hostile.tables(seed)
    real = on_hart(code, tables, given_menvcfg(), DEFAULT_ISA, "native", 100_000)
    assert not difference(real, as_guest(code, tables, engine="native", limit=100_000))
