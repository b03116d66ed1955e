"""What a trap costs under a real kernel and real firmware: instructions by level, measured on the board.

Two runs: loops of many rounds give the mean of everyone's instructions; a few rounds that are executed one
instruction at a time say in whose code they were. A third run gives what M-mode executes for each event.
"""

from __future__ import annotations

import bisect
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trapline.conform.board import Host, Run, Session, quietest, run_events
from trapline.conform.loops import LOOPS, Loop, files, rounds_of
from trapline.conform.payload import payload
from trapline.conform.port import Window
from trapline.lab.errors import UsageError
from trapline.lab.output import written
from trapline.lab.probe import image
from trapline.privilege.isa_string import extensions
from trapline.privilege.modes import MODE_HS, MODE_M, MODE_U, MODE_VS, MODE_VU
from trapline.shown import html_table

# What QEMU 7.2 has with -cpu rv64,h=true: its device tree's, and what it does not name there (counters, A/D updates).
ISA = "rv64imafdch_zicsr_zifencei_zicntr_zihpm_zihintpause_zba_zbb_zbc_zbs_sstc_svadu"
ROUNDS, STEPPED = 10_000, 8

# Instructions of a whole round trip that were counted on QEMU 7.2 with OpenSBI 1.6 (docs/ground-truth.md).
QEMU: dict[str, dict[str, float]] = {
    "6.12": {
        "illegal": 1222, "misaligned-lr": 1318, "misaligned-amo": 1318, "hstatus": 1017, "rdcycle": 1025,
        "sbi-base": 931, "sbi-timer": 996, "sbi-vmm": 3116, "mmio-lw": 3229, "mmio-sw": 3212, "touch": 5115,
    },
    "7.2": {
        "illegal": 372, "misaligned-lr": 1444, "misaligned-amo": 1441, "hstatus": 1110, "rdcycle": 1113,
        "sbi-base": 1010, "sbi-timer": 1079, "sbi-vmm": 3275, "mmio-lw": 3403, "mmio-sw": 3385, "touch": 564,
    },
}  # fmt: skip


PARTS = ("M", "kvm", "kernel", "user", "guest")


@dataclass(frozen=True, slots=True)
class CostRow:
    """One trap: instructions of a round trip."""

    loop: Loop
    rounds: int
    mean: dict[str, float]  # by mode, over all rounds, with the host's own interrupts
    interrupts: int
    parts: dict[str, float]  # of PARTS: stepped, without interrupts
    functions: dict[str, float] = field(default_factory=dict)  # the same by symbol

    @property
    def total(self) -> float:
        """The mean of everyone's instructions."""
        return sum(self.mean.values())

    def as_data(self) -> dict[str, Any]:
        return {
            "rounds": self.rounds,
            "mean": {k: round(v, 2) for k, v in self.mean.items()},
            "total": round(self.total, 2),
            "interrupts": self.interrupts,
            "parts": {k: round(v, 2) for k, v in self.parts.items()},
            "functions": {k: round(v, 2) for k, v in sorted(self.functions.items(), key=lambda f: -f[1])},
        }  # fmt: skip


@dataclass(slots=True)
class CostTable:
    """What was measured on one host."""

    release: str
    firmware: str
    isa: str
    rows: list[CostRow]
    machine: dict[str, int]  # instructions in M-mode for each event of `trapline route`, from VS

    @property
    def version(self) -> str:
        """The kernel's version as presets name it."""
        return ".".join(self.release.split("-")[0].split("+")[0].split(".")[:2])

    def __repr__(self) -> str:
        return f"<CostTable of {self.release}, {self.firmware}: {len(self.rows)} traps>"

    def _repr_html_(self) -> str:
        rows = []
        for row in self.rows:
            parts = (round(row.parts.get(part, 0)) or "" for part in PARTS)
            rows.append((row.loop.text, *parts, round(row.total), self.qemu(row.loop.name) or ""))
        return html_table(("trap", *PARTS, "mean", "QEMU"), rows, f"{self.release}, {self.firmware}")

    def qemu(self, name: str) -> float | None:
        """Return what was counted on QEMU for a row, with OpenSBI 1.6."""
        return QEMU.get(self.version, {}).get(name) if self.firmware == "opensbi-1.6" else None

    def as_data(self) -> dict[str, Any]:
        return {
            "kernel": self.release, "firmware": self.firmware, "isa": self.isa,
            "rows": {r.loop.name: {**r.as_data(), "qemu": self.qemu(r.loop.name)} for r in self.rows},
            "machine": self.machine,
        }  # fmt: skip


class Symbols:
    """The kernel's own symbol table, modules included."""

    def __init__(self, text: str) -> None:
        found: dict[int, tuple[str, bool]] = {}
        for line in text.splitlines():
            words = line.split()
            # Labels inside functions are symbols too.
            if len(words) >= 3 and words[1] in "tTwW" and words[2][0] not in ".$":
                found.setdefault(int(words[0], 16), (words[2], words[3:] == ["[kvm]"]))
        self._starts = sorted(found)
        self._names = [found[a] for a in self._starts]

    def find(self, pc: int) -> tuple[str, bool]:
        """Return the function at `pc`, and whether it is in kvm.ko."""
        at = bisect.bisect(self._starts, pc) - 1
        return self._names[at] if at >= 0 else ("?", False)


def parts_of(window: Window, symbols: Symbols) -> tuple[Counter[str], Counter[str]]:
    """Return the stepped instructions of a window by part and by function."""
    parts, functions = Counter[str](), Counter[str]()
    fixed = {MODE_M: "M", MODE_U: "user", MODE_VS: "guest", MODE_VU: "guest"}
    for pc, mode in window.profile:
        if mode == MODE_HS:
            name, in_kvm = symbols.find(pc)
            part = "kvm" if in_kvm else "kernel"
            functions[f"{part} {name}"] += 1
        else:
            part = fixed[mode]
        parts[part] += 1
    return parts, functions


def measure(host: Host, rounds: int = ROUNDS, progress: Callable[[int, int, str], None] | None = None) -> CostTable:
    """Boot three times and return what each trap costs."""

    def step(done: int, what: str) -> None:
        if progress is not None:
            progress(done, 3, what)

    step(0, "loops")
    long = _loops(host, rounds, profile=False)
    step(1, "stepping")
    short = _loops(host, STEPPED, profile=True)
    step(2, "events")
    load = payload(image.build(frozenset(extensions(host.isa))))
    _, seen = run_events(replace(host, misaligned="trap"), load, 1)
    step(3, "done")
    machine = {}
    for (event, mode), turns in seen.items():
        window = quietest(turns).window
        if mode == "VS" and window is not None and window.instructions.get("M"):
            machine[event] = window.instructions["M"]
    symbols = Symbols(short.handed_over[0].decode(errors="replace"))
    rows = _rows(long.windows, short.windows, symbols, rounds)
    return CostTable(long.release, long.firmware, host.isa, rows, machine)


def _loops(host: Host, rounds: int, *, profile: bool) -> Run:
    session = Session(host, files(LOOPS, rounds), f"loops symbols={int(profile)}", profile=profile)
    run = session.go()
    if len(run.windows) != len(LOOPS):
        raise UsageError(f"the KVM user program ran {len(run.windows)} of {len(LOOPS)} loops")
    return run


def _rows(long: list[Window], short: list[Window], symbols: Symbols, rounds: int) -> list[CostRow]:
    """The first loop raises nothing: what it costs is the marks' own."""
    idle, (idle_parts, idle_functions) = long[0].instructions, parts_of(short[0], symbols)
    rows = []
    for loop, window, stepped in zip(LOOPS[1:], long[1:], short[1:], strict=True):
        count, few = rounds_of(loop, rounds), rounds_of(loop, STEPPED)
        mean = {
            m: (n - (idle.get(m, 0) if m in ("M", "HS", "U") else 0)) / count for m, n in window.instructions.items()
        }
        parts, functions = parts_of(stepped, symbols)
        split = {p: (n - (idle_parts[p] if p != "guest" else 0)) / few for p, n in parts.items()}
        by_function = {f: (n - idle_functions[f]) / few for f, n in functions.items()}
        rows.append(
            CostRow(
                loop, count, {m: n for m, n in mean.items() if round(n, 2)}, window.interrupts,
                {p: n for p, n in split.items() if n}, {f: n for f, n in by_function.items() if n},
            )
        )  # fmt: skip
    return rows


def record(tables: list[CostTable], path: str | Path) -> None:
    """Merge measurements into the file from which the estimates of hosted levels are taken (firmware/measured.json)."""
    file = Path(path)
    with written(str(path), "--record"):
        data = json.loads(file.read_text()) if file.exists() else {}
        for table in tables:
            version = table.firmware.removeprefix("opensbi-")
            known = data.setdefault("firmware", {}).setdefault(version, {"instructions": {}})
            known["source"] = f"measured: OpenSBI {version}, on the board"
            known["instructions"] |= _machine(table)
            rows = {r.loop.name: _estimate(r) for r in table.rows}
            if table.firmware == "opensbi-1.6":
                data.setdefault("kernels", {})[table.version] = {
                    "source": f"measured: Linux {table.release}, OpenSBI 1.6, the board, mean of 10 000 round trips",
                    "rows": rows,
                }
        file.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n")


def _machine(table: CostTable) -> dict[str, int]:
    """Return what M-mode executed by event; of a kernel whose illegal instructions it hands to VS that event alone."""
    row = next((r for r in table.rows if r.loop.name == "illegal"), None)
    if row is not None and not row.parts.get("kvm"):
        return {"illegal-to-vs": table.machine["illegal"]} if "illegal" in table.machine else {}
    return table.machine


def _estimate(row: CostRow) -> dict[str, int]:
    """Split the mean of HS-mode as the stepped rounds were split."""
    kvm = round(row.parts.get("kvm", 0))
    return {"kvm": kvm, "kernel": max(0, round(row.mean.get("HS", 0)) - kvm), "user": round(row.mean.get("U", 0))}
