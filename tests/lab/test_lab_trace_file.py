"""`boot --trace`: every trap and return of every level, in the format that the file's name asks for."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from trapline.isa.assemble import assemble
from trapline.lab import output
from trapline.lab.boot import BootOptions, boot
from trapline.lab.errors import UsageError
from trapline.lab.guest_run import RunOptions, run_guest
from trapline.lab.observe import ObserveOptions
from trapline.lab.settings import settings

# M-mode delegates breakpoints and calls of U to S, which calls M; S runs U, which does both.
PROGRAM = """
    la t0, machine
    csrw mtvec, t0
    li t0, 0x108
    csrw medeleg, t0
    li t0, -1
    csrw pmpaddr0, t0
    li t0, 0x1f
    csrw pmpcfg0, t0
    li t0, 0x800
    csrw mstatus, t0
    la t0, supervisor
    csrw mepc, t0
    mret
supervisor:
    la t0, handler
    csrw stvec, t0
    li s0, {passes}
    la t0, user
    csrw sepc, t0
    sret
user:
    ecall
    ebreak
    addi s0, s0, -1
    bnez s0, user
    li a7, 1
    ecall
.align 2
handler:
    bnez a7, 2f
    csrr t1, scause
    li t2, 3
    beq t1, t2, 1f
    li a6, 0
    ecall
1:  csrr t1, sepc
    addi t1, t1, 4
    csrw sepc, t1
    sret
2:  li a6, 1
    ecall
.align 2
machine:
    bnez a6, 3f
    csrr t1, mepc
    addi t1, t1, 4
    csrw mepc, t1
    mret
3:  li t0, 0x100000
    li t1, 0x5555
    sw t1, 0(t0)
4:  j 4b
"""


def traced(folder: Path, name: str, passes: int = 50, engine: str = "native", **options: object) -> tuple[Path, object]:
    """Boot the program with a trace; return the file and the report."""
    image, file = folder / "program.bin", folder / name
    image.write_bytes(assemble(PROGRAM.replace("ebreak", ".insn 0x00100073").format(passes=passes), 0x8000_0000))
    report = boot(BootOptions(image=str(image), memory="16M", engine=engine, trace=str(file), **options))  # type: ignore[arg-type]
    assert report.result.reason == "exit"
    return file, report


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_every_trap_and_return_is_there(engine: str, tmp_path: Path) -> None:
    """The lines agree with the compiled counters, level by level, and come in the order of time."""
    file, report = traced(tmp_path, "trace.jsonl", engine=engine)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    traps = Counter((t["cause"], t["mode"], t["level"]) for t in lines if t["event"] == "trap")
    assert traps == {(c, o, d): n for c, o, d, n in report.traps}  # type: ignore[attr-defined]
    assert traps[3, "U", "HS"] == 50 and traps[9, "HS", "M"] == 51
    returns = Counter((t["level"], t["mode"]) for t in lines if t["event"] == "return")
    assert returns == {("M", "HS"): 51, ("HS", "U"): 101}
    assert [t["instret"] for t in lines] == sorted(t["instret"] for t in lines)
    assert {t["name"] for t in lines if t["cause"] == 3} == {"breakpoint"}


def test_formats_hold_the_same(tmp_path: Path) -> None:
    """CSV and JSON lines have the same rows; Perfetto's has a track for each level, with slices that end."""
    lines = [json.loads(line) for line in traced(tmp_path, "trace.jsonl")[0].read_text().splitlines()]
    with traced(tmp_path, "trace.csv")[0].open() as file:
        assert [{k: str(v) for k, v in line.items()} for line in lines] == list(csv.DictReader(file))
    events = json.loads(traced(tmp_path, "trace.json")[0].read_text())["traceEvents"]
    assert {e["args"]["name"] for e in events if e["ph"] == "M"} == {"hart 0 M", "hart 0 HS"}
    kinds = Counter(e["ph"] for e in events)
    assert kinds["B"] == sum(line["event"] == "trap" for line in lines)
    assert kinds["E"] == kinds["B"] - 2  # the last call was never returned from


def test_parquet(tmp_path: Path) -> None:
    """A Parquet file has the same rows, with addresses of 64 bits."""
    polars = pytest.importorskip("polars")
    frame = polars.read_parquet(traced(tmp_path, "trace.parquet")[0])
    assert frame.filter(event="trap", name="breakpoint").height == 50
    assert frame["pc"].dtype == polars.UInt64


def test_many_are_written_while_the_program_runs(tmp_path: Path) -> None:
    """More than a ring holds: nothing is lost."""
    file, report = traced(tmp_path, "trace.csv", passes=100_000)
    with file.open() as lines:
        assert sum(",trap," in line for line in lines) == sum(n for *_, n in report.traps)  # type: ignore[attr-defined]


def test_the_last_alone(tmp_path: Path) -> None:
    """`--trace-last` writes the end."""
    everything = traced(tmp_path, "all.jsonl")[0].read_text().splitlines()
    assert traced(tmp_path, "last.jsonl", trace_last=7)[0].read_text().splitlines() == everything[-7:]


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    """An ending that names no format, a number without a file, a folder that is not there."""
    for options, said in (
        ({"trace": "x.txt"}, r"does not say in which format \(its name ends in .jsonl, .csv"),
        ({"trace_last": 5}, r"--trace-last: needs a file"),
        ({"trace": "x.csv", "trace_last": 0}, r"0 is not in 1\.\."),
        ({"trace_filter": ("from=U",)}, r"--trace-filter: needs a file"),
        ({"trace": "x.csv", "trace_filter": ("cause=load-page-falt",)}, r"did you mean load-page-fault"),
        ({"trace": "x.csv", "trace_filter": ("cuase=3",)}, r"did you mean cause\?"),
        ({"trace": "x.csv", "trace_filter": ("from=X",)}, r"no from is called 'X': one of U, HS, M"),
        ({"trace": "x.csv", "trace_filter": ("to=U",)}, r"no to is called 'U': one of M, HS, VS"),
        ({"trace": "x.csv", "trace_filter": ("from=U", "from=M")}, r"from= is given twice"),
        ({"trace": "x.csv", "trace_filter": ("pc=main",)}, r"no symbol and no address: no symbols are known"),
        ({"trace": "x.csv", "trace_filter": ("pc=8..4",)}, r"nothing is between them"),
        ({"trace": "x.csv", "trace_filter": ("pc=²",)}, r"no symbol and no address"),
        ({"trace": "x.csv", "trace_filter": ("",)}, r"cause=NAME, from=MODE"),
        ({"trace": str(tmp_path / "no" / "x.csv")}, r"cannot write"),
    ):
        image = tmp_path / "program.bin"
        image.write_bytes(assemble("1: j 1b", 0x8000_0000))
        with pytest.raises(UsageError, match=said):
            boot(BootOptions(image=str(image), memory="16M", **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_a_guest_with_its_delegated_traps(engine: str, tmp_path: Path) -> None:
    """`run --trace FILE.csv` has what the hart takes: what is delegated to VS, and what goes to hosted software."""
    code = (
        "la t0, 2f; csrw stvec, t0; li s0, 30; 1: .insn 0x00100073; rdtime t1; addi s0, s0, -1; bnez s0, 1b; "
        "li a7, 0x53525354; li a6, 0; li a0, 0; li a1, 0; ecall; .align 2; "
        "2: csrr t1, sepc; addi t1, t1, 4; csrw sepc, t1; sret"
    )
    image, file = tmp_path / "guest.bin", tmp_path / "trace.csv"
    image.write_bytes(assemble(code, 0x8020_0000))
    options = RunOptions(str(image), settings("linux-6.12"), memory="16M", engine=engine, trace=str(file))
    report = run_guest(options)
    assert report.result.reason == "exit"
    with file.open() as lines:
        rows = list(csv.DictReader(lines))
    traps = Counter((r["name"], r["mode"], r["level"]) for r in rows if r["event"] == "trap")
    assert traps["breakpoint", "VS", "VS"] == 30
    assert sum(n for (_, _, level), n in traps.items() if level != "VS") == sum(
        r.count for r in report.rows if r.path[-1] != "VS" or len(r.path) > 2
    )


GUEST = (
    "la t0, 2f; csrw stvec, t0; li s0, 30; 1: .insn 0x00100073; rdtime t1; addi s0, s0, -1; bnez s0, 1b; "
    "li a7, 0x10; li a6, 0; ecall; li a7, 0x53525354; li a6, 0; li a0, 0; li a1, 0; ecall; .align 2; "
    "2: csrr t1, sepc; addi t1, t1, 4; csrw sepc, t1; sret"
)


def guest_trace(folder: Path, name: str, **options: object) -> Path:
    """Run the guest with a trace; return the file."""
    image, file = folder / "guest.bin", folder / name
    image.write_bytes(assemble(GUEST, 0x8020_0000))
    report = run_guest(RunOptions(str(image), settings("linux-6.12"), memory="16M", trace=str(file), **options))  # type: ignore[arg-type]
    assert report.result.reason == "exit"
    return file


def test_a_guest_for_perfetto(tmp_path: Path) -> None:
    """`run --trace FILE.json` has a track for each level that the guest's traps visit."""
    events = json.loads(guest_trace(tmp_path, "trace.json").read_text())["traceEvents"]
    assert {"hart 0 HS", "hart 0 VS"} <= {e["args"]["name"] for e in events if e["ph"] == "M"}
    assert sum(e["ph"] == "B" and e["name"] == "breakpoint" for e in events) == 30


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_the_last_of_a_guest(ending: str, tmp_path: Path) -> None:
    """`run --trace-last` writes the end, of the ways that left the guest and of the hart's traps alike."""
    everything = guest_trace(tmp_path, f"all.{ending}").read_text().splitlines()
    last = guest_trace(tmp_path, f"last.{ending}", trace_last=1).read_text().splitlines()
    assert len(everything) > len(last) and last[-1:] == everything[-1:]


def test_a_filter_of_a_guest(tmp_path: Path) -> None:
    """`run --trace-filter` chooses among the ways that left the guest by cause and origin."""
    filters = ("cause=supervisor-syscall", "from=VS")
    lines = guest_trace(tmp_path, "some.jsonl", trace_filter=filters).read_text().splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["supervisor-syscall"] * 2


@pytest.mark.parametrize(
    ("filters", "traps"),
    [
        (("cause=breakpoint",), {("breakpoint", "U", "HS"): 50}),
        (("to=M",), {("hypervisor-syscall", "HS", "M"): 51}),
        (("from=U", "to=HS", "cause=syscall,machine-syscall"), {("syscall", "U", "HS"): 51}),
        (("pc=0x80000000..0x80000001",), {}),
        (("pc=user",), {("syscall", "U", "HS"): 50, ("breakpoint", "U", "HS"): 50}),
    ],
)
def test_a_filter_drops_the_other_traps_and_their_returns(
    filters: tuple[str, ...], traps: dict[tuple[str, str, str], int], tmp_path: Path
) -> None:
    """Filters by cause, origin, destination and code: what they admit is there, and each return of it."""
    everything = traced(tmp_path, "all.jsonl")[0].read_text().splitlines()
    first = next(t["pc"] for t in map(json.loads, everything) if t["name"] == "breakpoint")
    symbols = tmp_path / "System.map"
    symbols.write_text(f"{first - 4:016x} T user\n{first + 4:016x} T after\n")
    observe = ObserveOptions(symbols=(str(symbols),))
    file, _ = traced(tmp_path, "some.csv", trace_filter=filters, observe=observe)
    with file.open() as lines:
        rows = list(csv.DictReader(lines))
    assert Counter((r["name"], r["mode"], r["level"]) for r in rows if r["event"] == "trap") == traps
    returns = sum(r["event"] == "return" for r in rows)
    assert sum(traps.values()) - 1 <= returns <= sum(traps.values())


def test_the_last_that_a_filter_admits(tmp_path: Path) -> None:
    """With a filter, `--trace-last` counts what the filter admits."""
    everything = traced(tmp_path, "all.jsonl", trace_filter=("to=M",))[0].read_text().splitlines()
    last = traced(tmp_path, "last.jsonl", trace_filter=("to=M",), trace_last=7)[0].read_text().splitlines()
    assert len(everything) > 7 and last == everything[-7:]


def packets(file: Path) -> list[Any]:
    """The packets of a Perfetto trace, as Perfetto's own library reads them."""
    pb2 = pytest.importorskip("perfetto.protos.perfetto.trace.perfetto_trace_pb2", reason="pip install perfetto")
    trace = pb2.Trace()
    trace.ParseFromString(file.read_bytes())
    return list(trace.packet)


def slices(found: list[Any]) -> list[tuple[str, str, int]]:
    """(track, cause or "return", instret) of each event; names are looked up as the format asks for."""
    tracks, names, seen = {}, {}, []
    assert found[0].sequence_flags == 1, "the interned names start afresh"
    for packet in found:
        assert packet.trusted_packet_sequence_id == 1
        if packet.HasField("track_descriptor"):
            about = packet.track_descriptor
            above = tracks.get(about.parent_uuid, "")
            tracks[about.uuid] = f"{above} {about.name}".strip()
        for name in packet.interned_data.event_names:
            names[name.iid] = name.name
        if packet.HasField("track_event") and packet.track_event.type != 4:
            event = packet.track_event
            cause = names[event.name_iid] if event.type == 1 else "return"
            seen.append((tracks[event.track_uuid], cause, packet.timestamp // 1000))
    return seen


def test_perfettos_own_format(tmp_path: Path) -> None:
    """A .pftrace has the slices of the .json, on tracks of harts and levels, as Perfetto's own library reads them."""
    found = packets(traced(tmp_path, "trace.pftrace")[0])
    events = json.loads(traced(tmp_path, "trace.json")[0].read_text())["traceEvents"]
    tracks = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["ph"] == "M"}
    wanted = [(tracks[e["pid"], e["tid"]], e.get("name", "return"), e["ts"]) for e in events if e["ph"] in "BE"]
    assert slices(found) == wanted
    arguments = [p.track_event.debug_annotations for p in found if p.HasField("track_event")]
    names = {n.iid: n.name for n in found[0].interned_data.debug_annotation_names}
    assert [names[a.name_iid] for a in arguments[0]] == ["from", "epc", "tval", "tval2"]
    assert {a[0].string_value for a in arguments if a} >= {"U", "HS"}


def test_counters_for_perfetto(tmp_path: Path) -> None:
    """Below each level is a counter of its traps, in both formats, which ends with as many as there were."""
    found = packets(traced(tmp_path, "trace.pftrace")[0])
    about = [p.track_descriptor for p in found if p.HasField("track_descriptor")]
    names = {a.uuid: a.name for a in about if a.HasField("counter")}
    counts: dict[str, list[int]] = {name: [] for name in names.values()}
    for event in (p.track_event for p in found if p.HasField("track_event") and p.track_event.type == 4):
        counts[names[event.track_uuid]].append(event.counter_value)
    assert counts == {"traps to M": [1, 17, 33, 49, 51], "traps to HS": [1, 17, 33, 49, 65, 81, 97, 101]}
    events = json.loads(traced(tmp_path, "trace.json")[0].read_text())["traceEvents"]
    written = [(e["name"], e["args"]["traps"]) for e in events if e["ph"] == "C"]
    assert Counter(written) == Counter((name, value) for name, values in counts.items() for value in values)


@pytest.mark.parametrize("passes", [1, 50])
def test_parquet_on_a_full_disk(passes: int, tmp_path: Path) -> None:
    """A Parquet file that cannot be written is one line behind the result, which is not lost."""
    pytest.importorskip("polars")
    (tmp_path / "trace.parquet").symlink_to("/dev/full")
    output.failed.clear()
    traced(tmp_path, "trace.parquet", passes=passes)
    told, output.failed[:] = list(output.failed), []
    assert told == [f"--trace: cannot write {str(tmp_path / 'trace.parquet')!r}: No space left on device"]


def test_parquet_of_nothing(tmp_path: Path) -> None:
    """A Parquet file of a run without traps has its columns all the same."""
    polars = pytest.importorskip("polars")
    frame = polars.read_parquet(traced(tmp_path, "trace.parquet", trace_filter=("cause=s-ext",))[0])
    assert (frame.height, frame.columns[:3], frame["pc"].dtype) == (0, ["hart", "instret", "event"], polars.UInt64)


def test_a_guest_in_perfettos_own_format(tmp_path: Path) -> None:
    """`run --trace FILE.pftrace` has the hart's traps too, and a full range of addresses."""
    found = slices(packets(guest_trace(tmp_path, "trace.pftrace")))
    assert sum(cause == "breakpoint" for _, cause, _ in found) == 30
    assert {track for track, _, _ in found} >= {"hart 0 HS", "hart 0 VS"}
