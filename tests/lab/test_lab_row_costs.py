"""What each row of a run costs, and statistics that are of the same moment as the table."""

from __future__ import annotations

from pathlib import Path

import pytest

from trapline.isa.assemble import assemble
from trapline.kvm.report.cost import estimate
from trapline.lab.compare import compare
from trapline.lab.guest_run import RunOptions, RunReport, run_guest
from trapline.lab.observe import ObserveOptions
from trapline.lab.settings import settings
from trapline.lab.snapshots import SnapshotOptions

BASE = 0x8020_0000
ROUNDS = 6
# Redirected, delegated, misaligned (two sizes), SBI, MMIO, no device, emulated by nobody, a new page.
GUEST = f"""
    la t0, handler; csrw stvec, t0
    li s0, {ROUNDS}
    li s1, 0x80300001
1:  .insn 0x0000000b
    ebreak
    ld t1, 0(s1)
    lh t1, 0(s1)
    li a7, 0x10; li a6, 0; ecall
    li t0, 0x10000000; lbu t0, 5(t0)
    li t0, 0x40000000; lw t0, 0(t0)
    csrr t0, instret
    addi s0, s0, -1
    bnez s0, 1b
    li t0, 0x100000; li t1, 0x5555; sw t1, 0(t0)
2:  j 2b
    .align 2
handler:
    csrr t0, sepc; addi t0, t0, 4; csrw sepc, t0; sret
"""


@pytest.fixture
def guest(tmp_path: Path) -> str:
    """The guest as a flat file."""
    path = tmp_path / "guest.bin"
    path.write_bytes(assemble(GUEST, BASE))
    return str(path)


def ran(guest: str | None, **options: object) -> RunReport:
    """Run it under 6.12."""
    return run_guest(RunOptions(guest, settings("linux-6.12"), **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_rows_hold_all_that_the_hosted_levels_cost(guest: str, engine: str) -> None:
    """The rows' instructions in M and HS add up to those of the run, and the firmware counts the same."""
    report = ran(guest, engine=engine)
    assert report.balance == ()
    assert sum(r.m for r in report.rows) == report.instructions["M"] > 0
    assert sum(r.hs for r in report.rows) == report.instructions["HS"] > 0


def test_costs_do_not_depend_on_who_handled_the_trap(guest: str, tmp_path: Path) -> None:
    """Native code, Python (with a trace) and the reference engine give each row the same cost."""
    rows = [
        [(r.key(), r.count, r.m, r.hs) for r in ran(guest, **options).rows]
        for options in ({}, {"trace": str(tmp_path / "trace")}, {"engine": "reference"})
    ]
    assert rows[0] == rows[1] == rows[2]


def test_a_row_has_total_share_and_mean(guest: str) -> None:
    """JSON has each row's instructions by level, their share of the run's, and the mean of one trap."""
    report = ran(guest)
    data = report.as_data()
    rows = {(t["name"], t["end"]): t for t in data["traps"]}
    illegal = rows["inst-illegal", "guest"]
    kvm = estimate("kvm-redirect", "guest", "6.12").hs
    assert illegal["instructions"]["HS"] == ROUNDS * kvm
    assert illegal["instructions"]["total"] == illegal["instructions"]["HS"] + illegal["instructions"]["M"]
    assert illegal["mean"] == illegal["instructions"]["total"] / ROUNDS
    assert illegal["share"] == round(illegal["instructions"]["total"] / sum(data["instructions"].values()), 6)
    assert rows["breakpoint", "guest"]["instructions"] == {"HS": 0, "M": 0, "total": 0}
    misaligned = rows["load-misaligned", "emulated"]
    assert misaligned["instructions"]["HS"] == 0
    assert misaligned["mean"] > 300  # of ld and lh, which cost differently
    assert sum(t["share"] for t in data["traps"]) < 1


def test_compare_has_the_costs_of_every_policy(guest: str) -> None:
    """Each run of a comparison carries the cost of its rows."""
    found = compare(guest, ["linux-6.16", "linux-6.17"]).as_data()
    first, second = ({t["name"]: t for t in run["traps"]}["inst-illegal"] for run in found["runs"])
    assert first["instructions"]["HS"] > 0
    assert second["instructions"]["HS"] == 0
    assert first["mean"] > second["mean"] > 0


def test_a_restored_run_counts_from_where_it_began(guest: str, tmp_path: Path) -> None:
    """Statistics, rows, instructions and ticks of a run and of its continuation add up to those of one run."""
    file = str(tmp_path / "snapshot")
    first = ran(guest, snapshots=SnapshotOptions(file, "60"))
    second = ran(None, snapshots=SnapshotOptions(restore=file), new_policy=False)
    whole = ran(guest)
    assert first.snapshot is not None
    assert second.balance == ()
    for name, value in whole.counters.items():
        if not name.startswith("trapline/gstage/"):
            assert first.counters.get(name, 0) + second.counters.get(name, 0) == value, name
    assert second.counters["exits"] == sum(r.count for r in second.rows if "HS" in r.path)
    texts = [report.unassigned[0].rpartition(": ") for report in (first, second, whole)]
    assert {text[0] for text in texts} == {"read of 4 bytes at 0x40000000, where no device is"}
    times = [int(text[2].split()[0]) for text in texts]
    assert times[0] + times[1] == times[2] == ROUNDS
    for level, value in whole.instructions.items():
        assert first.instructions[level] + second.instructions[level] == value
    for row in whole.rows:
        parts = [r for report in (first, second) for r in report.rows if r.key() == row.key()]
        assert sum(r.count for r in parts) == row.count
        assert (sum(r.m for r in parts), sum(r.hs for r in parts)) == (row.m, row.hs)


def test_observed_round_trips_have_the_hosted_levels(guest: str) -> None:
    """Under `run` a round trip's cost is the guest's own handlers as measured, and M and HS as estimated."""
    report = ran(guest, observe=ObserveOptions(on=True))
    assert report.seen is not None
    rows = {(r.cause, r.end): r for r in report.rows}
    kinds = {k.kind.name: k for k in report.seen.kinds}
    illegal = kinds["inst-illegal"]
    (trip,) = illegal.trips
    row = rows[2, "guest"]
    assert trip.path == ("VS", "M", "HS", "VS")
    assert illegal.hosted[trip.key].m == row.m / ROUNDS
    assert illegal.hosted[trip.key].hs == row.hs / ROUNDS
    assert illegal.total == row.total + 4 * ROUNDS
    assert kinds["breakpoint"].hosted == {}
    traps = report.as_data()["observed"]["traps"]
    data = {t["name"]: t["round_trips"][0] for t in traps if t["round_trips"]}
    assert data["inst-illegal"]["hosted"]["mean"] == pytest.approx(row.mean + 4)
    assert data["breakpoint"]["hosted"] is None
    assert data["load-misaligned"]["hosted"]["HS"] == 0


def test_rows_are_in_the_order_of_their_numbers(guest: str) -> None:
    """Tables list causes by number, exceptions before interrupts, VS before VU: of a run and of what was observed."""
    report = ran(guest, observe=ObserveOptions(on=True))
    assert report.seen is not None
    causes = [r.cause for r in report.rows]
    assert causes == sorted(causes)
    seen = [k.kind.cause for k in report.seen.kinds]
    assert seen == sorted(seen)
