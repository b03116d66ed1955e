"""The table that was measured on real firmware: where each exception of a guest arrives, and hstatus.GVA."""

from __future__ import annotations

import pytest
from firmware_bench import CODE, STVEC, VSTVEC, Bench

from trapline.firmware.models import MODELS
from trapline.privilege import csr_numbers as csr
from trapline.privilege.fields import HSTATUS_GVA

ILLEGAL, MSCRATCH, LR_W = 0xFFFF_FFFF, 0x3400_2573, 0x1005_A52F

# cause, instruction, tval, gva: what the probe raised in VS (bad opcode, CSR, 22, access, LR, fetch, ebreak).
EVENTS = {
    "bad opcode": (2, ILLEGAL, ILLEGAL, 0),
    "mscratch": (2, MSCRATCH, MSCRATCH, 0),
    "virtual": (22, None, 0x1050_0073, 0),
    "load access": (5, 0x0005_2503, 0x4000_0000, 1),
    "store access": (7, 0x00A5_2023, 0x4000_0000, 1),
    "misaligned lr": (4, LR_W, 0x8000_2001, 1),
    "fetch access": (1, None, 0x4000_0000, 1),
    "ebreak": (3, 0x0010_0073, CODE, 1),
    "ecall": (10, 0x0000_0073, 0, 0),
}
NEVER_TO_VS = {"virtual", "ecall"}
WITH_GVA = {"load access", "store access", "misaligned lr", "fetch access"}


def arrival(model: str, hedeleg: int, event: str) -> tuple[str, int]:
    """Return where the event arrives in the end, and hstatus.GVA there."""
    bench = Bench(model)
    bench.write(csr.HEDELEG, hedeleg)
    cause, instruction, tval, gva = EVENTS[event]
    bench.trap("VS", cause, tval, instruction=instruction, gva=gva)
    assert bench.hart.pc == (VSTVEC if bench.mode == "VS" else STVEC)
    return bench.mode, int(bench.hart.hstatus & HSTATUS_GVA != 0)


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("model", ["opensbi-1.0", "opensbi-1.1", "opensbi-1.6", "opensbi-1.9", "ignores-hedeleg"])
def test_nothing_in_hedeleg_goes_to_hs(model: str, event: str) -> None:
    """With hedeleg 0 all arrive in HS; GVA is 1 for memory and fetch faults, but 1.0 and 1.1 leave it 0."""
    mode, gva = arrival(model, 0, event)
    assert mode == "HS"
    if event != "ebreak":  # taken to HS by hardware, which writes GVA itself
        assert gva == (event in WITH_GVA and model not in ("opensbi-1.0", "opensbi-1.1"))


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("model", ["opensbi-1.1", "opensbi-1.6", "opensbi-1.9", "hard-wired", "delegates-all"])
def test_all_in_hedeleg_goes_to_vs(model: str, event: str) -> None:
    """With hedeleg 0xb1ff, OpenSBI since 1.1 hands 1 to 7 to VS itself; 10 and 22 stay in HS."""
    assert arrival(model, 0xB1FF, event)[0] == ("HS" if event in NEVER_TO_VS else "VS")


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("model", ["opensbi-1.0", "ignores-hedeleg"])
def test_old_firmware_does_not_look_at_hedeleg(model: str, event: str) -> None:
    """OpenSBI 1.0 hands 2, 5, 7, 4, 1 to HS; only what hardware delegates reaches VS."""
    assert arrival(model, 0xB1FF, event)[0] == ("VS" if event == "ebreak" else "HS")


@pytest.mark.parametrize(("model", "expected"), [("opensbi-1.0", "VS"), ("opensbi-1.1", "HS"), ("opensbi-1.9", "HS")])
def test_page_faults_that_reach_firmware(model: str, expected: str) -> None:
    """1.0 hands a guest's page faults to VS even if hedeleg is clear; later ones follow hedeleg."""
    bench = Bench(model)
    bench.write(csr.MEDELEG, 0)
    outcome = bench.trap("VU", 13, 0x1234, gva=1)
    assert outcome is not None
    assert bench.mode == expected


@pytest.mark.parametrize(
    ("model", "medeleg"),
    [
        ("opensbi-1.0", 0xF0B508),
        ("opensbi-1.1", 0xF0B508),
        ("opensbi-1.6", 0xF4B508),
        ("opensbi-1.9", 0xF4B508),
        ("ignores-hedeleg", 0xF4B508),
        ("hard-wired", 0),
    ],
)
def test_medeleg_reads_back_what_the_hart_implements(model: str, medeleg: int) -> None:
    """Bit 0 vanishes with C, all of them on the hard-wired hart; 18 stays, which OpenSBI sets since 1.6."""
    assert Bench(model).hart.medeleg == medeleg


def test_delegates_all_keeps_only_the_sbi() -> None:
    """Every implemented bit but 9 is set, so only SBI calls enter M-mode."""
    bench = Bench("delegates-all")
    assert bench.hart.medeleg == int(bench.hart.medeleg_mask) & ~(1 << 9)


def test_every_model_states_its_sources() -> None:
    """Each model says where its facts come from."""
    assert all(model.sources and model.summary for model in MODELS.values())
