"""`--observe`: traps that nobody hosted, by kind, way, place and handler, with what each round trip cost."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trapline.dataclass import dataclass, field
from trapline.engine.api import Engine
from trapline.lab.symbols import Symbols, read_symbols
from trapline.lang.state import Hart
from trapline.people import grouped
from trapline.plain import plain
from trapline.privilege.modes import MODE_NAMES
from trapline.session.observe.observer import Kind, Observer, RoundTrips, Sight
from trapline.session.observe.sampler import Followed, Sampler
from trapline.session.terminal.console import Console

if TYPE_CHECKING:
    from trapline.lab.recording import HasEngine
    from trapline.machine.machine import Machine
    from trapline.vmm.guest import Guest

PLACES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class ObserveOptions:
    """What the command line says about observing."""

    on: bool = False
    live: bool = False
    symbols: tuple[str, ...] = ()

    @property
    def wanted(self) -> bool:
        """Whether anything is to be observed."""
        return self.on or self.live or bool(self.symbols)


@dataclass(slots=True)
class Function:
    """A function that one followed round trip passed through."""

    level: str
    name: str
    instructions: int


@dataclass(frozen=True, slots=True)
class HostedCost:
    """Instructions of one round trip that hosted levels, which retire none, are estimated to have executed."""

    m: float
    hs: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.m + self.hs


@dataclass(slots=True)
class KindReport:
    """Everything about one kind of trap; `hosted` by the key of its round trips."""

    kind: Kind
    count: int
    trips: list[RoundTrips]
    handler: int
    handler_name: str | None
    places: list[tuple[int, str | None, int]]  # pc, name, count
    functions: list[Function] = field(default_factory=list)  # in the order in which they were first reached
    followed_whole: bool = True
    hosted: dict[tuple[tuple[str, ...], str], HostedCost] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """Instructions of all its round trips, with those of hosted levels."""
        return sum(self.total_of(t) for t in self.trips)

    def total_of(self, trip: RoundTrips) -> float:
        """Instructions of all round trips of one way."""
        hosted = self.hosted.get(trip.key)
        return trip.total + (hosted.total * trip.count if hosted is not None else 0.0)


@dataclass(slots=True)
class Observation:
    """What an observed run has shown; `open` traps have not returned, `lost` ones found no room in the tables."""

    kinds: list[KindReport]
    open: int
    lost: int
    moved: list[tuple[str, int]]  # symbol files and how far their program has moved
    hosted: tuple[str, ...] = ()  # levels that retire no instructions

    @property
    def traps(self) -> int:
        """All traps."""
        return sum(k.count for k in self.kinds)

    def as_data(self) -> dict[str, Any]:
        return {
            "traps": [_kind_data(k, self.traps) for k in self.kinds],
            **plain(self, "open lost hosted"),
            "moved": [{"file": name, "bytes": offset} for name, offset in self.moved],
        }


def _kind_data(report: KindReport, traps: int) -> dict[str, Any]:
    kind = report.kind
    return {
        "cause": kind.cause,
        "name": kind.name,
        "from": kind.origin,
        "to": kind.destination,
        "count": report.count,
        "share": round(report.count / traps, 6),
        "handler": {"pc": report.handler, "symbol": report.handler_name},
        "round_trips": [
            {
                "path": list(t.path),
                "returns": t.end,
                "count": t.count,
                "instructions": {
                    "total": t.total, "mean": round(t.mean, 1), "min": t.least,
                    "p50": t.percentile(50), "p90": t.percentile(90), "p99": t.percentile(99), "max": t.most,
                },
                "hosted": _hosted_data(report, t),
            }
            for t in report.trips
        ],
        "raised_at": [{"pc": pc, "symbol": name, "count": n} for pc, name, n in report.places],
        "functions": [{"level": f.level, "name": f.name, "instructions": f.instructions} for f in report.functions],
    }  # fmt: skip


def _hosted_data(report: KindReport, trip: RoundTrips) -> dict[str, Any] | None:
    """Return the mean instructions of a round trip that hosted levels are estimated to have executed."""
    cost = report.hosted.get(trip.key)
    if cost is None:
        return None
    return {"M": round(cost.m, 1), "HS": round(cost.hs, 1), "mean": round(trip.mean + cost.total, 1)}


class Watching:
    """An observed machine: begin before it runs, `finish` afterwards. `harts` are the machine's."""

    def __init__(self, harts: list[Hart], options: ObserveOptions) -> None:
        self.options = options
        self.symbols = read_symbols(options.symbols)
        self.observer = Observer(harts)
        self.sampler: Sampler | None = None
        words = (("M", harts[0].hosted_m), ("HS", harts[0].hosted_hs))
        self._hosted = tuple(name for name, word in words if word != 0)

    def follow(self, engine: Engine) -> Engine:
        """Return an engine that follows some round trips, if names were given for what they pass through."""
        if not self.symbols:
            return engine
        self.sampler = Sampler(engine, self.observer)
        self.observer.wait_for(1)
        return self.sampler

    def finish(self) -> Observation:
        """Stop watching and make the report."""
        self.observer.stop()
        sight = self.observer.sight()
        levels: dict[str, list[int]] = {}
        for kind, pc in sight.handlers.items():
            levels.setdefault(kind.destination, []).append(pc)
        self.symbols.settle(levels)
        followed = self.sampler.followed if self.sampler is not None else {}
        kinds = [_report(kind, sight, self.symbols, followed.get(kind)) for kind in sight.counts]
        kinds.sort(key=lambda k: (k.kind.cause, k.kind.origin, k.kind.destination))
        moved = [(t.name, t.offset) for t in self.symbols.tables if t.offset]
        return Observation(kinds, sight.open, sight.lost, moved, self._hosted)


def _report(kind: Kind, sight: Sight, symbols: Symbols, followed: Followed | None) -> KindReport:
    handler = sight.handlers[kind]
    places = [(p.pc, symbols.name(kind.origin, p.pc), p.count) for p in sight.places if p.kind == kind]
    report = KindReport(
        kind,
        sight.counts[kind],
        [t for t in sight.trips if t.kind == kind],
        handler,
        symbols.name(kind.destination, handler),
        places[:PLACES_SHOWN],
    )
    if followed is not None:
        report.functions, report.followed_whole = _functions(followed, symbols), followed.whole
    return report


def _functions(followed: Followed, symbols: Symbols) -> list[Function]:
    found: dict[tuple[str, str], Function] = {}
    for mode, pc in followed.steps:
        level = MODE_NAMES[mode]
        name = symbols.name(level, pc, exact=False) or f"({level})"
        found.setdefault((level, name), Function(level, name, 0)).instructions += 1
    return list(found.values())


class Live:
    """A line each second on standard error: the busiest kinds of trap, by the second."""

    def __init__(
        self,
        observer: Observer,
        instructions: Callable[[], int],
        write: Callable[[str], Any] | None = None,
        every: float = 1.0,
    ) -> None:
        self._observer, self._instructions, self._every = observer, instructions, every
        self._write = write or _to_stderr
        self._started = self._last = time.monotonic()
        self._counts: Counter[Kind] = Counter()
        self._done = instructions()

    def __call__(self) -> None:
        """To be called now and then while the machine runs."""
        now = time.monotonic()
        passed = now - self._last
        if passed < self._every:
            return
        counts, done = self._observer.counts(), self._instructions()
        new = counts - self._counts
        parts = [f"{k.name} {k.origin}>{k.destination} {grouped(n / passed)}/s" for k, n in new.most_common(5)]
        mips = (done - self._done) / passed / 1e6
        head = f"{now - self._started:6.1f} s {grouped(done / 1e6):>8} M ({grouped(mips)} MIPS)"
        self._write(f"{head}  {'  '.join(parts) or 'no trap'}\n")
        self._last, self._counts, self._done = now, counts, done


def watch(
    run: Machine | Guest, harts: list[Hart], options: ObserveOptions, engine_of: HasEngine | None = None
) -> Watching | None:
    """Watch a run if that is wanted; `engine_of` has the engine that can follow round trips."""
    if not options.wanted:
        return None
    watching = Watching(harts, options)
    if engine_of is not None:
        engine_of.engine = watching.follow(engine_of.engine)
    if options.live and not on_screen(run.console):
        run.on_round = Live(watching.observer, lambda: sum(int(h.instret) for h in harts), beside(run.console))
    return watching


def on_screen(console: Console) -> bool:
    """Whether a live view has a screen of its own, instead of lines."""
    from trapline.lab.own_screen import possible

    return possible(console)


def beside(console: Console) -> Callable[[str], None]:
    """Return what writes lines on standard error: never into a line of the guest's that goes to the same place.

    On a terminal the guest's line, a prompt for example, moves below; in a file it is broken in two.
    """

    def write(text: str) -> None:
        console.flush()
        begun = console.unfinished if console.on_stderr or _one_place() else b""
        if begun and sys.stderr.isatty():
            import shutil

            fits = len(begun) < shutil.get_terminal_size().columns
            _to_stderr(("\r\x1b[K" if fits else "\n") + text)
            console.again(begun)
        else:
            _to_stderr(("\n" if begun else "") + text)
            if begun:
                console.unfinished = b""

    return write


def _one_place() -> bool:
    """Whether the guest's output and standard error meet: one terminal, one file; or where both are unknown."""
    try:
        one, other = os.fstat(sys.stdout.fileno()), os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return True
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


def _to_stderr(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
