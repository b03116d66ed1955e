"""Watching traps as they happen: the tables of engine.observe.trips, allocated for harts and read back."""

from __future__ import annotations

import ctypes
import mmap
from collections import Counter
from collections.abc import Sequence
from functools import cache

from trapline.dataclass import dataclass, field
from trapline.engine.observe import trips as layout
from trapline.lang.state import Hart
from trapline.privilege.causes import cause_name
from trapline.privilege.modes import DESTINATION_NAMES
from trapline.session.observe.trap_counts import trap_at
from trapline.shown import html_table

ENDS = ("same", "next", "elsewhere")


@dataclass(frozen=True, slots=True, order=True)
class Kind:
    """A kind of trap: xcause (bit 63 for interrupts), the mode it came from, the mode that hardware entered."""

    cause: int
    origin: str
    destination: str

    @property
    def name(self) -> str:
        """The cause's name."""
        return cause_name(self.cause)


@cache
def kind_of(index: int) -> Kind:
    """Read an index of the compiled counters (causes.trap_index)."""
    return Kind(*trap_at(index))


@dataclass(slots=True)
class RoundTrips:
    """All round trips of one kind that took one way.

    `path` is the modes from the origin on, `end` where the return went: same (to the instruction that trapped),
    next (behind it), elsewhere. Instructions are those of all levels from entry to return.
    """

    kind: Kind
    path: tuple[str, ...]
    end: str
    count: int = 0
    total: int = 0
    least: int = 0
    most: int = 0
    buckets: Counter[int] = field(default_factory=Counter, repr=False)

    @property
    def key(self) -> tuple[tuple[str, ...], str]:
        """What tells these round trips from others of their kind."""
        return self.path, self.end

    @property
    def mean(self) -> float:
        """Mean instructions of a round trip."""
        return self.total / self.count if self.count else 0.0

    def percentile(self, percent: float) -> int:
        """Return the instructions that so many percent of the round trips stay within (exact below 16, else to 6 %)."""
        wanted, seen = self.count * percent / 100, 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= wanted:
                low, high = bucket_range(bucket)
                return min(max((low + high) // 2, self.least), self.most)
        return self.most

    def add(self, other: RoundTrips) -> None:
        """Take another hart's round trips of the same kind and way in."""
        self.least = min(self.least, other.least) if self.count else other.least
        self.count, self.total = self.count + other.count, self.total + other.total
        self.most = max(self.most, other.most)
        self.buckets.update(other.buckets)


@dataclass(frozen=True, slots=True)
class Place:
    """How often a kind of trap was raised at a pc."""

    kind: Kind
    pc: int
    count: int


@dataclass(slots=True)
class Sight:
    """What an observer has seen so far. `handlers` has the pc where each kind's handler began, last time."""

    counts: Counter[Kind]
    trips: list[RoundTrips]
    places: list[Place]
    handlers: dict[Kind, int]
    lost: int
    places_lost: int

    def _repr_html_(self) -> str:
        rows = []
        for t in sorted(self.trips, key=lambda t: -t.total):
            costs = round(t.mean, 1), t.percentile(50), t.percentile(99), t.most
            rows.append((t.kind.name, " > ".join(t.path), t.end, t.count, *costs))
        head = ("trap", "levels", "back", "count", "mean", "median", "99 %", "most")
        return html_table(head, rows, repr(self).strip("<>"))

    def __repr__(self) -> str:
        return f"<Sight: {sum(self.counts.values())} traps of {len(self.counts)} kinds, {self.open} open>"

    @property
    def open(self) -> int:
        """Traps that have not returned (a thread that sleeps in the kernel), or that found no room in the tables."""
        return sum(self.counts.values()) - sum(t.count for t in self.trips)


def bucket_range(bucket: int) -> tuple[int, int]:
    """Return the least and the largest value that a bucket holds (engine.observe.trips.bucket_of)."""
    if bucket < 8:
        return bucket, bucket
    shift = (bucket >> 3) - 1
    low = (8 + (bucket & 7)) << shift
    return low, low + (1 << shift) - 1


class OpenTrap:
    """A trap that has not returned yet."""

    def __init__(self, words: memoryview) -> None:
        self._words = words
        self._start = words[layout.SLOT_START // 8]
        self.kind = kind_of(words[0] - 1)

    @property
    def is_open(self) -> bool:
        """Whether the hart has not returned from it."""
        return self._words[0] != 0 and self._words[layout.SLOT_START // 8] == self._start


class _Tables:
    """One hart's tables."""

    def __init__(self, hart: Hart) -> None:
        self.hart = hart
        self.block = mmap.mmap(-1, layout.TOTAL_BYTES)
        self.words = memoryview(self.block).cast("Q")
        hart.observe_base = ctypes.addressof(ctypes.c_char.from_buffer(self.block))
        hart.keeps = self.block  # as long as the address is in the hart

    def at(self, start: int, size: int) -> list[int]:
        """Return the words of a range of bytes."""
        return self.words[start // 8 : (start + size) // 8].tolist()

    def kinds(self) -> dict[int, tuple[int, int]]:
        """Return count and last handler of each kind that was seen."""
        words = self.at(layout.KINDS, layout.KIND_COUNT_MAX * 32)
        return {n // 4: (words[n], words[n + 1]) for n in range(0, len(words), 4) if words[n]}

    def rows(self) -> list[list[int]]:
        """Return the rows in use."""
        used = self.words[layout.ROWS_USED // 8]
        return [self.at(layout.ROWS + n * layout.ROW_BYTES, layout.ROW_BYTES) for n in range(used)]

    def places(self) -> list[list[int]]:
        """Return kind, pc and count of each place."""
        words = self.at(layout.PLACES, layout.PLACE_SLOTS * layout.PLACE_BYTES)
        return [words[n : n + 3] for n in range(0, len(words), 4) if words[n]]


class Observer:
    """Watches harts from its making to `stop`; costs a hart some tens of nanoseconds a trap."""

    def __init__(self, harts: Sequence[Hart]) -> None:
        self._tables = [_Tables(hart) for hart in harts]

    def wait_for(self, count: int, kind: Kind | None = None) -> None:
        """Let a hart leave its engine (EXIT_OBSERVE) when it takes a kind of trap, or any, for the `count`th time."""
        for index in range(layout.KIND_COUNT_MAX):
            if index & 3 < len(DESTINATION_NAMES) and (kind is None or kind_of(index) == kind):
                for tables in self._tables:
                    tables.words[(layout.KINDS + index * 32 + layout.KIND_SAMPLE) // 8] = count

    def awaited(self, hart: Hart) -> OpenTrap | None:
        """Return the trap for which a hart has left its engine."""
        tables = next((t for t in self._tables if t.hart is hart), None)
        if tables is None or hart.observe_base == 0 or not (slot := tables.words[layout.SAMPLED // 8]):
            return None
        tables.words[layout.SAMPLED // 8] = 0
        at = (slot - int(hart.observe_base)) // 8
        return OpenTrap(tables.words[at : at + layout.SLOT_BYTES // 8])

    def stop(self) -> None:
        """Watch no longer; what was seen stays readable."""
        for tables in self._tables:
            tables.hart.observe_base = 0

    def counts(self) -> Counter[Kind]:
        """Return how often each kind was taken; quick enough for a live view."""
        found: Counter[Kind] = Counter()
        for tables in self._tables:
            for index, (count, _) in tables.kinds().items():
                found[kind_of(index)] += count
        return found

    def sight(self) -> Sight:
        """Return everything seen so far, all harts together."""
        trips: dict[tuple[Kind, tuple[str, ...], str], RoundTrips] = {}
        places: Counter[tuple[int, int]] = Counter()
        handlers: dict[Kind, int] = {}
        for tables in self._tables:
            handlers.update({kind_of(index): handler for index, (_, handler) in tables.kinds().items()})
            for row in tables.rows():
                one = _trips(row)
                trips.setdefault((one.kind, one.path, one.end), RoundTrips(one.kind, one.path, one.end)).add(one)
            for key, pc, count in tables.places():
                places[key - 1, pc] += count
        made = [Place(kind_of(index), pc, count) for (index, pc), count in places.most_common()]
        lost, places_lost = (sum(t.words[at // 8] for t in self._tables) for at in (layout.LOST, layout.PLACES_LOST))
        ordered = sorted(trips.values(), key=lambda t: -t.count)
        return Sight(self.counts(), ordered, made, handlers, lost, places_lost)


def _trips(row: list[int]) -> RoundTrips:
    index, way = divmod(row[0], layout.WAYS)
    kind = kind_of(index)
    path = [kind.origin, kind.destination]
    if way & layout.BY_HS:
        path.append("HS")
    if way & layout.BY_USER:
        path += ["U", "HS"] if path[-1] == "HS" else ["U"]
    if way & layout.BY_VS:
        path.append("VS")
    first = layout.ROW_BUCKETS // 8
    buckets = Counter({n: count for n, count in enumerate(row[first:]) if count})
    return RoundTrips(kind, tuple(path), ENDS[way >> layout.END_SHIFT], row[1], row[2], row[3], row[4], buckets)
