"""A sweep runs every unit once, keeps what it gave, and says how to run it again."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import msgspec
import polars
import pytest

from trapline.cli.main import main
from trapline.lab.errors import UsageError
from trapline.lab.executor.api import TRIES, Done, Here
from trapline.scale.spec import spec_of
from trapline.scale.store import Store, schema
from trapline.scale.sweep import Swept, sweep
from trapline.scale.unit import Record

SPEC: dict[str, Any] = {
    "policies": ["linux-6.12", "linux-7.2"],
    "firmware": ["opensbi-1.6", "ignores-hedeleg"],
    "workloads": {"hole": {"event": "fetch-hole"}},
    "options": {"plain": {}, "hardware": {"misaligned": "hardware"}},
}
HERE = Here()


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Swept]:
    """A directory with eight records."""
    out = tmp_path_factory.mktemp("swept")
    return out, sweep(SPEC, out=out, executor=HERE)


def rows(out: Path) -> list[dict[str, Any]]:
    """All records of a directory."""
    return list(Store(out).frame().collect().iter_rows(named=True))


def test_every_unit_has_a_record(swept: tuple[Path, Swept]) -> None:
    """Two policies, two firmware models and two sets of options are eight records with different digests."""
    out, result = swept
    assert (result.units, result.run, result.skipped, result.failed) == (8, 8, 0, 0)
    records = rows(out)
    assert len({r["digest"] for r in records}) == 8
    assert {(r["policy"], r["outcome"], r["errno"]) for r in records} == {
        ("linux-6.12", "killed", 14), ("linux-7.2", "ok", 0),
    }  # fmt: skip
    assert {(r["options"], r["misaligned"]) for r in records} == {("plain", "trap"), ("hardware", "hardware")}


def test_columns_are_those_of_the_record(swept: tuple[Path, Swept]) -> None:
    """The Parquet files have the fields of Record, in its order, and a row is a Record again."""
    out, _ = swept
    part = min((out / "records").glob("*.parquet"))
    frame = polars.read_parquet(part)
    assert frame.schema == polars.Schema(schema(polars))
    assert list(frame.columns) == list(Record.__struct_fields__)
    record = msgspec.convert(frame.row(0, named=True), Record)
    assert sum(route.count for route in record.routes) == record.traps > 0


def test_finished_units_are_skipped(swept: tuple[Path, Swept]) -> None:
    """A second sweep of the same SPEC runs nothing and shows the same table; a wider one runs what is new."""
    out, first = swept
    again = sweep(SPEC, out=out, executor=HERE)
    assert (again.run, again.skipped) == (0, 8)
    assert again.summary == first.summary
    assert spec_of({**SPEC, "seeds": 2}, out / "guests").limits == {"max-instructions": 1_000_000_000}


def test_counts_with_units(tmp_path: Path) -> None:
    """Whole numbers of a SPEC may be text with k, M or G, as on the command line."""
    limits = {"max-instructions": "3M", "max-seconds": 2}
    spec = spec_of({**SPEC, "limits": limits, "options": {"o": {"timebase": "20M"}}}, tmp_path)
    assert spec.limits == {"max-instructions": 3_000_000, "max-seconds": 2}
    assert spec.options == {"o": {"timebase": 20_000_000}}


def test_replay_gives_the_record_again(swept: tuple[Path, Swept], tmp_path: Path) -> None:
    """The replay line of a record is a `trapline run` with the same end and the same instructions."""
    for record in rows(swept[0])[:3]:
        words = shlex.split(record["replay"])
        assert words[:2] == ["trapline", "run"]
        assert main([*words[1:], "--json", str(tmp_path / "run.json")]) == record["exit_status"]
        data = json.loads((tmp_path / "run.json").read_text())
        assert (data["instret"], data["instructions"]["HS"]) == (record["instret"], record["hs"])
        assert sum(row["count"] for row in data["traps"]) == record["traps"]


def test_seed_stands_in_append(tmp_path: Path) -> None:
    """{seed} in append is the number of the seed; each seed is a unit of its own."""
    spec = spec_of({"seeds": 3, "workloads": {"w": {"event": "fetch-hole", "append": "seed={seed}"}}}, tmp_path)
    assert [unit.machine["append"] for unit in spec.units()] == ["seed=0", "seed=1", "seed=2"]
    assert len({unit.digest for unit in spec.units()}) == len(spec) == 3


def test_changed_image_is_another_unit(tmp_path: Path) -> None:
    """The digest of a unit follows the content of its guest, not its name."""
    guest = tmp_path / "guest.bin"
    digests = []
    for content in (b"\x73\0\0\0", b"\x13\0\0\0", b"\x73\0\0\0"):
        guest.write_bytes(content)
        os.utime(guest, ns=(len(digests), len(digests)))
        digests += [unit.digest for unit in spec_of({"workloads": {"w": {"guest": str(guest)}}}, tmp_path).units()]
    assert digests[0] == digests[2] != digests[1]


class Failing:
    """An executor that has run nothing."""

    workers = 1

    def execute(self, function: Callable[[Any], Any], units: Iterable[Any], tries: int = TRIES) -> Iterator[Any]:
        """Every unit's worker is killed."""
        for unit in units:
            yield Done(unit, None, "the worker was killed by signal 9", tries)


def test_what_cannot_be_run_is_recorded_and_run_again(tmp_path: Path) -> None:
    """A unit that is given up has a record with error and replay line, exit code 1, and is run by the next sweep."""
    spec = {"workloads": {"hole": {"event": "fetch-hole"}}}
    failed = sweep(spec, out=tmp_path, executor=Failing())
    assert (failed.failed, failed.exit_status) == (1, 1)
    (row,) = rows(tmp_path)
    assert (row["outcome"], row["tries"], row["error"]) == ("error", 3, "the worker was killed by signal 9")
    assert row["replay"].startswith("trapline run ")
    again = sweep(spec, out=tmp_path, executor=HERE)
    assert (again.run, again.failed, again.exit_status) == (1, 0, 0)
    assert [r["outcome"] for r in rows(tmp_path)] == ["ok"]


class Interrupted:
    """An executor during which Ctrl-C is typed."""

    workers = 1

    def execute(self, function: Callable[[Any], Any], units: Iterable[Any], tries: int = TRIES) -> Iterator[Any]:
        """Run one unit."""
        yield from HERE.execute(function, [next(iter(units))])
        raise KeyboardInterrupt


def test_ctrl_c_keeps_what_there_is(tmp_path: Path) -> None:
    """Ctrl-C ends a sweep with exit code 130; what was run stands in its table and is not run again."""
    cut = sweep(SPEC, out=tmp_path, executor=Interrupted())
    assert (cut.interrupted, cut.exit_status, cut.run) == (True, 130, 1)
    assert [g.units for g in cut.summary.groups] == [1]
    assert sweep(SPEC, out=tmp_path, executor=HERE).skipped == 1


def test_killed_sweep_goes_on(tmp_path: Path) -> None:
    """After kill -9 in the middle the next sweep runs what is missing: each digest has one record."""
    spec, out = tmp_path / "spec.toml", tmp_path / "out"
    spec.write_text('seeds = 60\n[workloads.hole]\nevent = "fetch-hole"\n')
    words = [sys.executable, "-m", "trapline", "sweep", str(spec), "--out", str(out), "--workers", "1"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as running:
        end = time.monotonic() + 60
        while not list((out / "records").glob("*.parquet")) and running.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.02)
        running.send_signal(signal.SIGKILL)
    result = sweep(spec, out=out, workers=1)
    assert result.skipped > 0
    assert result.run == 60 - result.skipped
    assert len({r["digest"] for r in rows(out)}) == len(rows(out)) == 60


def test_partition_under_way_is_no_record(swept: tuple[Path, Swept], tmp_path: Path) -> None:
    """What a killed sweep was writing is not read, and the next one removes it."""
    (tmp_path / "records").mkdir()
    left = tmp_path / "records" / "00000000.parquet.new"
    left.write_bytes(b"PAR1")
    assert not Store(tmp_path).has_records()
    with Store(tmp_path).writing():
        assert not left.exists()


def test_limit_is_exit_code_3(tmp_path: Path) -> None:
    """A run that reaches a limit is a record of its own kind, and alone makes exit code 3."""
    spec = {"limits": {"max-instructions": 5}, "workloads": {"hole": {"event": "fetch-hole"}}}
    assert sweep(spec, out=tmp_path, executor=HERE).exit_status == 3
    assert [(r["outcome"], r["instret"]) for r in rows(tmp_path)] == [("limit", 5)]


def test_two_sweeps_do_not_share_a_directory(tmp_path: Path) -> None:
    """A directory that a sweep writes to is refused to another."""
    with Store(tmp_path).writing(), pytest.raises(UsageError, match="another sweep writes"):
        sweep(SPEC, out=tmp_path, executor=HERE)


def test_partition_that_is_cut_short_is_named(tmp_path: Path, swept: tuple[Path, Swept]) -> None:
    """A Parquet file that is none is named in one line, with what to do."""
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "00000000.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(UsageError, match=r"00000000\.parquet.*remove it"):
        sweep(SPEC, out=tmp_path, executor=HERE)


def test_command_line(swept: tuple[Path, Swept], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`sweep` and `sweep show` print tables of at most 80 columns; JSON, CSV and JUnit say the same."""
    out, _ = swept
    assert main(["sweep", "show", str(out), "--csv", "-"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0] == "policy,firmware,workload,units,outcomes,traps,instret,hosted,seconds"
    assert table[1].startswith("linux-6.12,ignores-hedeleg,hole,2,killed:2,22,244,")
    assert main(["sweep", "show", str(out), "--by", "policy,outcome", "--json", "-"]) == 0
    groups = json.loads(capsys.readouterr().out)["groups"]
    assert [(g["policy"], g["outcome"], g["units"]) for g in groups] == [
        ("linux-6.12", "killed", 4),
        ("linux-7.2", "ok", 4),
    ]
    spec = tmp_path / "spec.toml"
    spec.write_text('policies = ["linux-6.12", "linux-7.2"]\n[workloads.hole]\nevent = "fetch-hole"\n')
    words = ["sweep", str(spec), "--workers", "1", "--junit", str(tmp_path / "j.xml"), "--json", "-"]
    assert main(words) == 1
    data = json.loads(capsys.readouterr().out)
    assert (data["units"], data["run"], data["bad"], data["directory"]) == (2, 2, 1, None)
    cases = Xml.parse(tmp_path / "j.xml").getroot()
    assert (cases.get("tests"), cases.get("failures")) == ("2", "1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("polices = []", "SPEC: unknown key 'polices' (did you mean policies?"),
        ("", "SPEC: no [workloads.NAME]"),
        ("[workloads.w]\nguets = 'x'", "SPEC: workloads.w: unknown key 'guets' (did you mean guest?"),
        ("[workloads.w]\nguest = 'nothing.elf'", "SPEC: workloads.w: guest: cannot read"),
        ("[workloads.w]\nevent = 'fetch-hol'", "SPEC: workloads.w: unknown event 'fetch-hol' (did you mean fetch-hole"),
        ("[workloads.w]\nevent = 'fetch-hole'\nfrom = 'M'", "from = 'M' (fetch-hole is raised from VS or VU)"),
        ("[workloads.w]\nguest = 'x'\nevent = 'y'", "SPEC: workloads.w: a workload has either guest or event"),
        ("policies = ['linux-7.22']\n[workloads.w]\nevent='fetch-hole'", "SPEC: policies: "),
        ("firmware = ['opensbi-1.7']\n[workloads.w]\nevent='fetch-hole'", "did you mean opensbi-1"),
        ("seeds = 0\n[workloads.w]\nevent='fetch-hole'", "SPEC: seeds: 0 (how many"),
        ("seeds = [1, -1]\n[workloads.w]\nevent='fetch-hole'", "SPEC: seeds: [1, -1]"),
        ("workloads.w.event='fetch-hole'\nlimits.max-secs = 1", "unknown key 'max-secs' (did you mean max-seconds"),
        ("[limits]\nmax-seconds = 0\n[workloads.w]\nevent='fetch-hole'", "SPEC: limits: max-seconds = 0 is no limit"),
        ("workloads.w.event='fetch-hole'\noptions.o.smp = 'two'", "o: smp = 'two' (a whole number is expected)"),
        ("[options.o]\nsmp = 0\n[workloads.w]\nevent='fetch-hole'", "options.o: smp = 0 (from 1 to 64)"),
        ("[options.o]\nmemory = '3Q'\n[workloads.w]\nevent='fetch-hole'", "options.o: memory: "),
        ("[options.o]\nisa = 'rv32i'\n[workloads.w]\nevent='fetch-hole'", "rv32i"),
        ("[options.o]\nmisaligned = 'hardwar'\n[workloads.w]\nevent='fetch-hole'", "did you mean hardware?"),
        ("[options.o]\nmemslot = [5]\n[workloads.w]\nevent='fetch-hole'", "options.o: memslot: "),
        ("workloads = 5", "SPEC: workloads is no table"),
        ("options = {o = 5}\n[workloads.w]\nevent='fetch-hole'", "SPEC: options.o: 5 is no table"),
        ("a = ", "SPEC: "),
    ],
)  # fmt: skip
def test_bad_spec(tmp_path: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong with a SPEC is said in one line: where it stands, and the nearest name that there is."""
    spec = tmp_path / "SPEC"
    spec.write_text(text)
    assert main(["sweep", str(spec), "--workers", "1"]) == 2
    said = capsys.readouterr().err.replace(f"{tmp_path}/", "")
    assert said.count("\n") == 1
    assert message in said


@pytest.mark.parametrize(
    "words",
    [["nothing.toml"], ["x", "--workers", "2", "--dask", "tcp://127.0.0.1:9"], ["show", "nowhere"], ["show"]],
    ids=" ".join,
)
def test_bad_command_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A file, a scheduler or a directory that is not there is one line and exit code 2."""
    assert main(["sweep", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1
