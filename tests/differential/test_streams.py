"""Random streams: reference, native engine and Spike agree; nothing reachable is left unreached."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from trapline.isa.decode import enabled_extensions
from trapline.privilege.csr_numbers import CSR_BY_NAME
from trapline.verify import lockstep, spike
from trapline.verify.campaign import VARIANTS, Variant, campaign, generator, run_stream
from trapline.verify.coverage import Coverage, Observer, holes

needs_spike = pytest.mark.skipif(spike.find_spike() is None, reason="spike is not installed")
COVERAGE_STREAMS = 80  # at most: about half of them reach everything


def _text(report_failures: list[object]) -> str:
    return "\n".join(str(failure) for failure in report_failures)


@needs_spike
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.name)
def test_three_ways(variant: Variant) -> None:
    """25,000 instructions of each variant, a hundred thousand in all, leave the same memory on all three."""
    report = campaign(25_000, first_seed=7000, variants=(variant,), reference=True, blocks=6, length=250)
    assert report.instructions >= 25_000
    assert not report.failures, _text(list(report.failures))


@needs_spike
@pytest.mark.parametrize("first_seed", [0, 20_000])
def test_native_against_spike(first_seed: int) -> None:
    """More than two million instructions of all variants agree with Spike's memory and accumulators."""
    report = campaign(1_200_000, first_seed=first_seed)
    assert report.instructions >= 1_200_000
    assert not report.failures, _text(list(report.failures))


@needs_spike
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.name)
@pytest.mark.usefixtures("region_size")
def test_regions_against_spike(variant: Variant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams whose every block is compiled before it first runs leave the memory that Spike leaves."""
    monkeypatch.setenv("TRAPLINE_JIT", "force")
    report = campaign(8_000, first_seed=9000, variants=(variant,), blocks=6, length=250)
    assert report.instructions >= 8_000
    assert not report.failures, _text(list(report.failures))


@needs_spike
@pytest.mark.slow
def test_campaign() -> None:
    """A hundred million instructions agree with Spike."""
    report = campaign(100_000_000, first_seed=100_000, workers=2)
    assert not report.failures, _text(list(report.failures))


def test_coverage_has_no_hole() -> None:
    """Streams reach every instruction in every mode, every trap route and every outcome of a page walk."""
    coverage, variant = Coverage(), VARIANTS[0]
    enabled: set[str] = set()
    for seed in range(COVERAGE_STREAMS):
        machine = lockstep.make_machine(generator(variant).stream(seed).elf, variant.isa, "native")
        enabled = enabled_extensions(machine.harts[0])
        Observer(machine, coverage).run()
        if seed > 20 and not holes(coverage, enabled):
            break
    assert holes(coverage, enabled) == []


def test_streams_are_determined_by_their_seed() -> None:
    """The same seed gives the same program and the same run."""
    variant = VARIANTS[0]
    first, second = (generator(variant).stream(11, 4, 60) for _ in range(2))
    assert first.elf == second.elf
    assert generator(variant).stream(12, 4, 60).elf != first.elf


def test_engines_in_lockstep() -> None:
    """Native engine and reference agree on every word of the hart's state while they run a stream."""
    variant = VARIANTS[0]
    stream = generator(variant).stream(5, 2, 60)
    found = lockstep.between_engines(stream.elf, variant.isa, 20_000, ("native", "reference"))
    assert found is None, found.text()


@needs_spike
def test_lockstep_names_the_first_divergence() -> None:
    """A hart that has no Zicond diverges from a Spike that has it, and the report says where."""
    variant = VARIANTS[0]
    stream = generator(variant).stream(3, 6, 200)
    assert lockstep.against_spike(stream.elf, variant.isa) is None
    poorer = variant.isa.replace("_zicond", "")
    found = lockstep.against_spike(stream.elf, variant.isa, here_isa=poorer)
    assert found is not None
    assert "czero" in found.text()
    assert any("trap" in line or "pc" in line for line in found.what)


@needs_spike
def test_a_fault_below_is_found() -> None:
    """The campaign is no rubber stamp: a hart that splits misaligned accesses differs from one that traps."""
    wrong = Variant("wrong", VARIANTS[0].isa, "hardware")
    assert run_stream(2, wrong, blocks=12).differences


def test_accepted_differences_cite_their_reason() -> None:
    """Each accepted difference names CSRs that exist and gives a reason with its chapter."""
    entries = tomllib.loads((Path(lockstep.__file__).parent / "accepted.toml").read_text())["difference"]
    for entry in entries:
        assert "(" in entry["reason"], entry
        for name in (*entry.get("csrs", ()), *entry.get("machine_csrs", ()), *entry.get("masked", {})):
            assert name in CSR_BY_NAME
