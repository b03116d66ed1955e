"""Sweeps: thousands of calls and accesses, the same on both sides, and a comparison that can fail."""

from __future__ import annotations

import dataclasses

import pytest

from trapline.conform import sweep_calls, sweep_csrs
from trapline.conform.conform import ISA
from trapline.conform.sweep import RECORD, Item, Sweep, build
from trapline.conform.sweep_compare import SweepRow, compare_sweep
from trapline.conform.sweep_run import End, SweepSeen, run_hosted_sweeps
from trapline.conform.sweeps import named, sweeps
from trapline.lab.errors import UsageError
from trapline.lab.settings import settings

CALL = {"call": sweep_calls.CALL}
SOME = Sweep(
    "some",
    "a few of everything",
    (
        sweep_calls.call("BASE version", 0x10, 0),
        sweep_calls.call("RFENCE hfence", 0x52464E43, 3, 1, 0),
        sweep_calls.call("SRST", 0x53525354, 0, 0, 0),
        sweep_calls.call("HSM stop", 0x48534D, 1),
        sweep_calls.call("vendor", 0x0900_0000, 7, 1, 2, 3),
        Item("illegal", "illegal", (5,)),
        Item("illegal", "illegal", (5,), "VU"),
        Item("kill", "kill"),
        Item("last", "add", (1, 2), "VU"),
    ),
    {**CALL, "illegal": "  .insn 0x0000000b\n  jr ra\n", "add": "  add a0, a0, a1\n  li a5, 7\n  jr ra\n",
     "kill": "  li t0, 0x44020000\n  ld a0, 0(t0)\n  jr ra\n"},
)  # fmt: skip


@pytest.fixture(scope="module")
def seen() -> SweepSeen:
    """What linux-6.12.34 does with a few items."""
    return run_hosted_sweeps(settings("linux-6.12.34"), ISA, [SOME], v01=False, engine="reference")[0]


def row(real: SweepSeen, hosted: SweepSeen) -> SweepRow:
    """Compare two sides of the small sweep."""
    return compare_sweep(SOME, real, hosted)


def test_what_became_of_each_item(seen: SweepSeen) -> None:
    """Values, exits with their fields, kills with the log, what hung, traps from both modes; later items still run."""
    outcomes = [pair[0] for pair in row(seen, seen).outcomes]
    assert [r[1] for r in seen.records[:2]] == [0, 0]
    assert seen.records[0][2] == 0x2000000
    assert [(e.item, e.how, e.number) for e in seen.ends] == [
        (2, "exit", 24), (3, "hung", 0), (4, "exit", 35), (7, "killed", 14),
    ]  # fmt: skip
    assert seen.ends[2].fields == (0x0900_0000, 7, 1, 2, 3, 0, 0, 0)
    assert seen.ends[3].fields[0] == "VCPU exit error -14"
    assert "guest 2 (inst-illegal)" in outcomes
    state, a0, *_, changed, _ = seen.records[8]
    assert (state, a0, changed) == (2, 3, 1 << 5)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"ends": []}, "outcome"),
        ({"stats": {"ecall_exit_stat": 9}}, "counter ecall_exit_stat"),
        ({"extensions": [0] * 16}, "SBI extension 1"),
    ],
)
def test_a_comparison_can_fail(seen: SweepSeen, change: dict[str, object], field: str) -> None:
    """What differs makes a difference; a side equals itself."""
    assert not row(seen, seen).differences
    other = dataclasses.replace(seen, **change)  # type: ignore[arg-type]
    assert field in {d.field for d in row(other, seen).differences}


@pytest.mark.parametrize(("word", "field"), [(1, "a0"), (2, "a1"), (6, "changed registers")])
def test_each_word_of_a_record_counts(seen: SweepSeen, word: int, field: str) -> None:
    """Another result or another register is a difference of that item alone."""
    records = [list(r) for r in seen.records]
    records[0][word] ^= 4
    other = dataclasses.replace(seen, records=[tuple(r) for r in records])
    found = row(other, seen)
    assert [(d.event, d.field) for d in found.differences] == [("BASE version", field)]
    assert found.items_that_differ == (0, 1)


def test_a_stable_backport_is_found() -> None:
    """A preset differs from that of its series before a fix in exactly the calls that the fix changed."""
    items = tuple(i for i in sweep_calls.calls().items if i.name.endswith("mask 0x1 base 0x0"))
    small = Sweep("fences", "", items, CALL)
    sides = [
        run_hosted_sweeps(settings(f"linux-6.12.{n}"), ISA, [small], v01=False, engine="reference")[0] for n in (34, 35)
    ]
    found = compare_sweep(small, *sides)
    assert found.failed
    assert {d.event for d in found.differences} == {f"RFENCE {fid} mask 0x1 base 0x0" for fid in (3, 4, 5, 6)}


def test_sweeps_cover_what_they_say() -> None:
    """Every CSR number from both modes, read and written; every extension of the specification and of KVM."""
    known = {s.name: s for s in sweeps()}
    assert len(known["csr-read"].items) == len(known["csr-write"].items) == 2 * 4096
    assert set(known["csr-read"].code) == {f"{n:#05x}" for n in range(4096)}
    called = {item.args[7] for item in known["sbi"].items}
    assert called >= {*range(9), 0x10, 0x54494D45, 0x735049, 0x52464E43, 0x48534D, 0x53525354, 0x504D55, 0x535441}
    assert known["sbi-on"].enable


def test_every_sweep_fits_its_place() -> None:
    """Each image holds its program, its table and room for the records."""
    for sweep in sweeps():
        image = build(sweep)
        assert f"records 0x80300000 {len(sweep.items) * RECORD.size:#x}" in image.manifest
        assert image.manifest.count("vcpu ") == len(sweep.vcpus)


def test_an_unknown_sweep() -> None:
    """A name that no sweep has is refused with the nearest one."""
    assert [s.name for s in named(["csr-kept"])] == ["csr-kept"]
    with pytest.raises(UsageError, match="csr-kep"):
        named(["csr-kep"])


def test_a_csr_instruction_is_encoded() -> None:
    """The encoder says what the assembler would."""
    assert sweep_csrs.system(0xC00, sweep_csrs.CSRRS, 10, 0) == 0xC0002573


def test_an_exit_is_one_line() -> None:
    """Exits, kills and hangs read as such."""
    assert str(End(1, "exit", 35, (8, 1))) == "exit 35 (0x8, 0x1)"
    assert str(End(1, "killed", 14, ("a", "b"))) == "killed -14: a / b"
    assert str(End(1, "hung", 0, ())) == "hung"
