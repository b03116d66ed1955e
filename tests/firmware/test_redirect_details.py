"""What a redirect writes, field by field."""

from __future__ import annotations

import pytest
from firmware_bench import CODE, STVEC, VSTVEC, Bench

from trapline.firmware.firmware import Counted
from trapline.privilege import csr_numbers as csr
from trapline.privilege.fields import HSTATUS_GVA, HSTATUS_SPV, HSTATUS_SPVP, MSTATUS_SIE, MSTATUS_SPIE, MSTATUS_SPP

STACK = MSTATUS_SIE | MSTATUS_SPIE | MSTATUS_SPP
LOAD = 0x0005_2503  # lw a0, 0(a0)


@pytest.mark.parametrize("mode", ["VU", "VS"])
@pytest.mark.parametrize("sie", [0, MSTATUS_SIE])
def test_redirect_to_vs_looks_like_hardware_delegation(mode: str, sie: int) -> None:
    """vscause, vsepc, vstval, the status stack and the privilege equal those of a delegated trap."""
    seen = []
    for model in ("opensbi-1.9", "delegates-all"):
        bench = Bench(model)
        bench.write(csr.HEDELEG, 1 << 5)
        bench.write(csr.VSSTATUS, sie)
        outcome = bench.trap(mode, 5, 0x4000_0123, instruction=LOAD, gva=1)
        assert (outcome is None) == (model == "delegates-all")
        h = bench.hart
        assert h.pc == VSTVEC
        seen.append((bench.mode, *(int(v) for v in (h.vscause, h.vsepc, h.vstval, h.vsstatus, h.hstatus, h.htval))))
    assert seen[0] == seen[1]
    assert seen[0][4] & STACK == (MSTATUS_SPP if mode == "VS" else 0) | (MSTATUS_SPIE if sie else 0)


@pytest.mark.parametrize("mode", ["VU", "VS", "U", "HS"])
def test_redirect_to_hs_looks_like_hardware_delegation(mode: str) -> None:
    """scause, sepc, stval, htval, htinst, hstatus and sstatus equal those of a trap that hardware delegates."""
    seen = []
    for model in ("opensbi-1.9", "delegates-all"):
        bench = Bench(model)
        bench.write(csr.HSTATUS, HSTATUS_SPVP if mode == "VU" else 0)
        h = bench.hart
        h.mstatus = h.mstatus | MSTATUS_SIE
        bench.trap(mode, 7, 0x4000_0123, instruction=LOAD, tval2=0x77, tinst=0x2003, gva=int(mode[0] == "V"))
        assert (bench.mode, h.pc) == ("HS", STVEC)
        names = ("scause", "sepc", "stval", "htval", "htinst", "hstatus")
        seen.append([int(getattr(h, n)) for n in names] + [int(h.mstatus) & STACK])
    assert seen[0] == seen[1]


def test_spvp_is_kept_when_the_trap_came_from_v0() -> None:
    """Only a trap from V=1 changes hstatus.SPVP; SPV and GVA always follow the trap."""
    bench = Bench()
    bench.write(csr.HSTATUS, HSTATUS_SPVP | HSTATUS_SPV | HSTATUS_GVA)
    bench.trap("HS", 5, 0x10, instruction=LOAD)
    assert int(bench.hart.hstatus) & (HSTATUS_SPVP | HSTATUS_SPV | HSTATUS_GVA) == HSTATUS_SPVP


def test_old_firmware_leaves_gva_and_hs_htval_as_they_were() -> None:
    """1.1 does not write hstatus.GVA, nor htval and htinst for a trap from HS."""
    bench = Bench("opensbi-1.1")
    bench.write(csr.HSTATUS, HSTATUS_GVA)
    bench.write(csr.HTVAL, 0x55)
    bench.trap("HS", 5, 0x10, instruction=LOAD)
    assert int(bench.hart.hstatus) & HSTATUS_GVA
    assert bench.hart.htval == 0x55


def test_trap_from_machine_mode_hangs_with_a_dump() -> None:
    """Nothing lower asked for it: the firmware prints the trap and stops."""
    bench = Bench()
    bench.hart.x[10] = 0xABCD
    outcome = bench.trap("M", 1, 0x1234)
    assert outcome is not None
    assert (outcome.how, outcome.destination, bench.mode) == ("firmware-hang", "hung", "M")
    assert "mcause=0x0000000000000001 mtval=0x0000000000001234" in outcome.dump
    assert "a0=0x000000000000abcd" in outcome.dump


def test_statistics_count_cause_origin_and_outcome() -> None:
    """Each entry into M-mode is one row; the estimate and its source come with the outcome."""
    bench = Bench("opensbi-1.6")
    bench.write(csr.HEDELEG, 1 << 2)
    outcomes = [bench.trap(mode, 2, 0xFFFF_FFFF) for mode in ("VU", "VU", "VS", "U")]
    assert bench.firmware.stats == {
        Counted(2, 4, "firmware-redirect", "VS"): 2,
        Counted(2, 5, "firmware-redirect", "VS"): 1,
        Counted(2, 0, "firmware-redirect", "HS"): 1,
    }
    assert outcomes[0] is not None
    assert (outcomes[0].instructions, outcomes[0].cost.measured, outcomes[0].cost.estimated) == (362, True, True)
    assert "OpenSBI 1.6" in outcomes[0].cost.source
    assert bench.firmware.estimated_instructions == 3 * 362 + 377


def test_unknown_firmware_is_named() -> None:
    """The error has the bad name and the known ones."""
    with pytest.raises(ValueError, match=r"unknown firmware 'uboot'.*opensbi-1.9"):
        Bench("uboot")


def test_mepc_of_a_redirect_is_the_handlers_base() -> None:
    """A vectored vstvec gets its mode bits stripped, whatever the cause."""
    bench = Bench()
    bench.write(csr.HEDELEG, 1 << 1)
    bench.trap("VS", 1, CODE + 2)
    assert (bench.hart.pc, bench.hart.vsepc, bench.hart.vstval) == (VSTVEC, CODE, CODE + 2)
