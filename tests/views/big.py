"""Results with numbers as large as a long run has them, one of each view, and the words that must stand whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from trapline.isa.registers import X_NAMES
from trapline.kvm.report.death import CodeLine, CsrValue, Death, decode_csr
from trapline.kvm.report.trace import TrapRecord
from trapline.kvm.report.walks import Walk
from trapline.kvm.uapi.context import CpuTrap
from trapline.lab.audit.audit import Audit
from trapline.lab.audit.checks import Finding
from trapline.lab.boot import BootOptions, BootReport
from trapline.lab.compare import Comparison
from trapline.lab.guest_run import RunOptions, RunReport
from trapline.lab.kept import Kept
from trapline.lab.kept import Kind as KeptKind
from trapline.lab.observe import Function, KindReport, Observation
from trapline.lab.route import RouteTable
from trapline.lab.routes import GuestSees, Route
from trapline.lab.run_rows import RunRow
from trapline.lab.settings import settings
from trapline.lab.survival import Fate, Survival
from trapline.lab.symbols import Symbols, Table
from trapline.lab.whereabouts import Place
from trapline.machine.result import RunResult
from trapline.policies import load_policy, policy_names
from trapline.session.observe.observer import Kind, RoundTrips
from trapline.session.tables import WalkStep
from trapline.views.death import show_death, show_places
from trapline.views.terminal import number
from trapline.vmm.result import GuestResult

TIMER = (1 << 63) | 6
COUNTS = (1, 59_614, 1_048_576, 27_301_822, 765_998_787)
Shown = tuple[Callable[[Console], None], list[str]]


def trips(kind: Kind, way: tuple[str, ...], n: int) -> RoundTrips:
    """Round trips of which each took some thousand instructions, and one very many."""
    return RoundTrips(kind, way, "same", n, n * 4_420, 4_018, 41_812_345, Counter({70: n}))


def observation(hosted: tuple[str, ...] = ()) -> Observation:
    """What a long boot has shown."""
    kinds = []
    for cause, n in zip((23, 21, 10, 2, TIMER), COUNTS, strict=True):
        kind = Kind(cause, "VS", "HS")
        made = [trips(kind, ("VS", "HS"), n), trips(kind, ("VS", "HS", "U", "HS"), n)]
        report = KindReport(kind, 2 * n, made, 0xFFFF_FFFF_8000_1000, "handle_exception", [(0x8020_0000, "memset", n)])
        report.functions = [Function("HS", "kvm_riscv_gstage_map [kvm]", 166_123), Function("HS", "memcpy", 1_120)]
        kinds.append(report)
    return Observation(kinds, 12_345, 6_789, [("host.kallsyms", 0x1240_0000)], hosted)


def observed() -> Shown:
    """The view of `--observe`."""
    from trapline.views.observe import show_observation

    seen = observation()
    numbers = [*COUNTS, seen.traps, 12_345, 6_789, 4_420, 41_812_345, 166_123, 1_120, 167_243]
    numbers += [t.percentile(p) for k in seen.kinds for t in k.trips for p in (50, 99)]
    return lambda out: show_observation(out, seen), [*map(number, numbers), "VS>HS>U>HS", "store-guest-page-fault"]


def run_report(policy: str = "linux-6.12", scale: int = 1) -> RunReport:
    """A run with all kinds of routes."""
    hops = (
        (2, ("VS", "M", "HS", "VS"), ("hardware", "firmware-redirect", "kvm-redirect"), "guest", 0),
        (8, ("VU", "VS"), ("hardware",), "guest", 0),
        (23, ("VS", "HS", "VS"), ("hardware", "gstage-map"), "resumed", 0),
        (21, ("VS", "HS", "VMM"), ("hardware", "mmio"), "vmm", 0),
        (TIMER, ("VS", "VS"), ("hardware",), "guest", 0),
    )
    rows = [
        RunRow(cause, path[0], path, how, end, errno, n * scale)
        for (cause, path, how, end, errno), n in zip(hops, COUNTS, strict=True)
    ]
    levels = {"VU": 8_504_879 * scale, "VS": 587_869_291 * scale, "HS": 137_803_907 * scale, "M": 9_330_624 * scale}
    counters = {"exits": 27_198_456, "halt_wait_ns": 46_123_456_789, "mmio_exit_user": 1_082}
    return RunReport(
        RunOptions("guest.elf", settings(policy)),
        GuestResult("limit", 0, 596_374_170, "the limit of 123 456 789 instructions was reached"),
        rows, levels, counters, 7_436_389_000, 11.05,
    )  # fmt: skip


def ran() -> Shown:
    """The view of `run`."""
    from trapline.views.run import show_run, way

    report = run_report()
    report.seen = observation(("M", "HS"))
    numbers = [*COUNTS, *report.instructions.values(), *report.counters.values(), report.traps, report.ticks]
    return lambda out: show_run(out, report), [*map(number, numbers), *(way(r) for r in report.rows), "123 456 789"]


def booted() -> Shown:
    """The view of `boot`."""
    from trapline.views.run import show_boot

    traps = [(cause, "U", "HS", n) for cause, n in zip((2, 8, 13, 15, TIMER), COUNTS, strict=True)]
    result = RunResult("exit", 0, 8_765_432_109, "the guest powered off")
    report = BootReport(BootOptions("a.elf"), result, traps, {"U": 1_234_567_890, "HS": 7_530_864_219}, 61.5)
    numbers = [*COUNTS, 8_765_432_109, 1_234_567_890, 7_530_864_219]
    return lambda out: show_boot(out, report), [*map(number, numbers), "15 store-page-fault"]


def compared() -> Shown:
    """The view of `compare`, of five policies."""
    from trapline.views.compare import show_comparison
    from trapline.views.run import way

    names = ("linux-5.16", "linux-6.12", "linux-7.2", "xvisor", "hvisor")
    reports = tuple(run_report(name, 3**n) for n, name in enumerate(names))
    reports[2].rows[0] = RunRow(2, "VS", ("VS", "M", "VS"), ("hardware", "firmware-redirect"), "guest", 0, 59_614)
    result = Comparison("guest.elf", reports)
    numbers = [v for r in reports for v in (*r.instructions.values(), r.traps, r.ticks, *(row.count for row in r.rows))]
    routes = [way(row) for r in reports for row in r.rows]
    return lambda out: show_comparison(out, result), [*map(number, numbers), *routes, *names]


def route_of(cause: int, path: tuple[str, ...], end: str, instructions: dict[str, int]) -> Route:
    """A row of the matrix."""
    sees = GuestSees(cause, 0x8000_0000, 0, "VU") if end == "guest" else None
    source = "measured: Linux 6.12, the board, mean of 10 000 round trips"
    how, errno = ("hardware",) * (len(path) - 1), 14 if end == "killed" else None
    event = "read of a CSR that does not exist"
    return Route(cause, "inst-illegal", event, path[0], path, how, end, errno, sees, {}, instructions, True, source)


ROUTES = (
    route_of(2, ("VU", "M", "HS", "VS"), "guest", {"VS": 12, "HS": 1_234_567, "M": 377}),
    route_of(2, ("VS", "M", "HS", "VS"), "guest", {"VS": 12, "HS": 134_567, "M": 377}),
    route_of(4, ("VU", "M", "HS", "VMM"), "killed", {"HS": 1, "M": 1}),
    route_of(5, ("VU", "HS", "VU"), "emulated", {"HS": 98_765}),
)


def routed() -> Shown:
    """The view of `route`."""
    from trapline.views.routes import show_routes, through

    result = RouteTable(settings(), ROUTES, ("cause 9 cannot be raised",))
    whole = [number(1_234_567 + 389), number(134_567 + 389), number(98_765), "10 000", *map(through, ROUTES)]
    return lambda out: show_routes(out, result), whole


def audited() -> Shown:
    """The view of `audit`."""
    from trapline.views.audit import show_audit

    finding = Finding(
        "a", "fail", "linux-6.13", "opensbi-1.6", False, "trap", "fetch-hole", "fetch from a slot's hole", "VU", 1,
        "the VM is killed with -14", "a slot has a hole", "VU > M > HS > VMM", 14,
        ("0x80: jalr zero, 0(s3)",), ("SCAUSE=0x1",),
    )  # fmt: skip
    result = Audit(("linux-6.13",), ("opensbi-1.6",), [finding] * 1_234, 1_234_567, {1: {"a slot has a hole"}})
    return lambda out: show_audit(out, result), [number(1_234), number(1_234_567), "VU > M > HS > VMM"]


def kept() -> Shown:
    """The view of `cache`."""
    from trapline.views.cache import show_cleared, show_kept

    kinds = (KeptKind("engine", 12_345, 5_368_709_120, 1_024), KeptKind("regions", 2, 123_456_789, 1))
    result = Kept(Path("/home/someone/.cache/trapline"), kinds, 23_456, 7_654_321)

    def show(out: Console) -> None:
        show_kept(out, result)
        show_cleared(out, result)

    return show, [*map(number, (12_345, 1_024, 23_456, 7_654_321)), "5 120 MiB", "117 MiB", str(result.directory)]


def fetched() -> Shown:
    """The view of `fetch list`."""
    from trapline.views.fetch import show_listing

    rows: list[dict[str, Any]] = [
        {"name": "linux-6.12", "kind": "linux", "version": "6.12.117+deb13-riscv64", "suites": ["trixie", "sid"],
         "bytes": 12_345 << 20, "directory": "/home/someone/.cache/trapline/kernels/x"},
    ]  # fmt: skip
    return lambda out: show_listing(out, rows), [number(12_345), "6.12.117+deb13-riscv64", "linux-6.12"]


def linux_guest() -> Shown:
    """The view of `conform --guest`."""
    from trapline.conform.hosted_guest import HostedGuest
    from trapline.conform.linux import LinuxGuest
    from trapline.conform.own_guest import GuestComparison
    from trapline.conform.port import Window
    from trapline.views.linux_guest import show_guests

    levels = {"VU": 1_234_567, "VS": 2_345_678_901, "U": 34_567, "HS": 456_789_012, "M": 5_678}
    guest = LinuxGuest(
        "6.12.107", "6.12.107", "opensbi-1.6", "shutdown", {"exits": 27_198}, {"all": 12_345, "mmio": 1_082},
        Window(levels, {}, {}), 12_345_678_901, 61.0, b"",
    )  # fmt: skip
    both = GuestComparison(guest, HostedGuest(settings(), "shutdown"), [])
    numbers = [*levels.values(), sum(levels.values()), 27_198, 12_345, 1_082, 12_345_678_901]
    return lambda out: show_guests(out, [both]), list(map(number, numbers))


def costs() -> Shown:
    """The view of `conform --costs`."""
    from trapline.conform.costs import CostRow, CostTable
    from trapline.conform.loops import LOOPS
    from trapline.views.costs import show_costs

    parts = {"M": 1_377.0, "kvm": 12_535.0, "kernel": 13_300.0, "user": 1_034.0, "guest": 7.0}
    rows = [CostRow(loop, 10_000, {"HS": 28_253.0}, 12_345, parts) for loop in LOOPS]
    numbers = [*(int(v) for v in parts.values()), 28_253, 12_345]
    shown = CostTable("6.12.107+deb13-riscv64", "opensbi-1.6", "rv64gch", rows, {})
    return lambda out: show_costs(out, [shown]), [*map(number, numbers), *(loop.text for loop in LOOPS)]


def conformed() -> Shown:
    """The view of `conform`."""
    from trapline.conform.compare import Accepted, Difference, Row
    from trapline.conform.conform import Comparison as Compared
    from trapline.conform.conform import Conformance
    from trapline.conform.seen import Seen
    from trapline.views.conform import show_conformance

    killed, lived = Seen("fetch-hole", "VU", "killed", 14), Seen("fetch-hole", "VU", "vmm")
    accepted = Accepted((), ("tval",), "why it is no error", "source")
    same = Row(killed, killed, (Difference("fetch-hole", "VU", "tval", "0x1", "0x2", accepted),))
    other = Row(killed, lived, (Difference("fetch-hole", "VU", "end", "killed -14", "vmm"),))
    result = Conformance([Compared(settings(), "6.12.107", [same] * 12_345 + [other] * 2_345)])
    return lambda out: show_conformance(out, result), [*map(number, (12_345, 2_345, 14_690)), "killed -14"]


HIGH = 0xFFFF_FFFF_8000_1000
SYMBOLS = Symbols([Table("vmlinux", "VS", [HIGH], ["handle_irq"])])


def died() -> Shown:
    """A kill with addresses of a kernel's, and traps that came many times."""
    words = {"sepc": HIGH + 0x123, "stval": (1 << 64) - 8, "htval": 0x4000_0000_0000, "htinst": 0x3020}
    trap = CpuTrap(21, words["sepc"], words["stval"], words["htval"], words["htinst"])
    records = [
        TrapRecord(n, 0, 21, "VS", ("VS", "HS", "VMM"), ("hardware", "mmio"), "vmm", 0, HIGH + 8, (1 << 64) - 1)
        for n in range(37)
    ]
    death = Death(
        "linux-6.12", load_policy("linux-6.12").rule(21), 21, 95,
        (
            "VCPU exit error -95",
            f"SEPC={words['sepc']:#x} SSTATUS=0x8000000200006120 HSTATUS=0x2002001c0",
            f"SCAUSE=0x15 STVAL={words['stval']:#x} HTVAL={words['htval']:#x} HTINST=0x3020",
        ),
        0, "VS", 10**12, HIGH + 0x123, trap, dict.fromkeys(X_NAMES, (1 << 64) - 1),
        {"HS": (CsrValue("hedeleg", 0xB109, decode_csr("hedeleg", 0xB109)), CsrValue("stval", words["stval"], ""))},
        (CodeLine(HIGH + 0x123, 0x1002A52F, "lr.w a0, (t0)", True), CodeLine(HIGH + 0x127, 0x8082, "c.jr ra", False)),
        (
            Walk("G", words["htval"] << 2, (WalkStep(4, 0x8000_0000, (1 << 62) - 1, False),), None,
                 "not mapped: no memory slot holds it"),
        ),
        tuple(records),
    )  # fmt: skip
    found = Survival("linux-6.12", tuple(Fate(n, "killed -95", False) for n in policy_names()))
    whole = [f"{words['sepc']:#x}", f"{words['stval']:#x}", f"{HIGH + 8:#x}", "x 37", "0x8000000200006120", "1002a52f"]
    return lambda out: show_death(out, death, SYMBOLS, found), [*whole, "0x3fffffffffffffff", "linux-7.3"]


def cut_short() -> Shown:
    """A vCPU of a kernel's in a loop."""
    place = Place(
        0, "VS", HIGH + 0x10, "poll+0x10", "goes round in a loop of 3 instructions", (f"{HIGH:#x}: 0000006f  j",)
    )
    return lambda out: show_places(out, [place]), [f"{HIGH + 0x10:#x}", f"{HIGH:#x}"]


VIEWS = (
    died,
    cut_short,
    observed,
    ran,
    booted,
    compared,
    routed,
    audited,
    kept,
    fetched,
    linux_guest,
    costs,
    conformed,
)
