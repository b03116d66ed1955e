"""Results that commands wrote with `--json`, read again: what a report needs of them, and nothing else.

Fields that are not there have their default, so a result of another version is read as far as it goes; a value of the
wrong kind is an error that says where it stands.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

from trapline.kvm.report.trace import outcome
from trapline.lab.errors import UsageError
from trapline.named_files import read_input

Count = Annotated[int, Meta(ge=0)]
Mode = Annotated[str, Meta(pattern=r"^[A-Za-z]{1,6}\Z")]
Path_ = Annotated[tuple[Mode, ...], Meta(max_length=64)]
Axis = Literal["policy", "firmware", "host_fwft", "misaligned", "workload", "options", "seed", "outcome"]
Levels = Annotated[dict[str, Annotated[float, Meta(ge=0)]], Meta(max_length=32)]
WANTED = "one of run, boot, compare, route, audit or sweep"
_WRITE = f"write {WANTED} with --json FILE"


class Traps(Struct, frozen=True):
    """All traps of one cause and origin that took one route; of a board, that came to one level (`to`)."""

    cause: Count
    from_: Mode = field(name="from")
    count: Count
    name: str = ""
    path: Path_ = ()
    how: tuple[str, ...] = ()
    end: str = ""
    errno: int | None = None
    instructions: Levels = field(default_factory=dict)
    share: float = 0.0
    mean: float = 0.0
    to: Mode | None = None

    def way(self) -> tuple[str, ...]:
        """Return the modes in order."""
        return self.path or ((self.from_, self.to) if self.to else (self.from_,))

    def outcome(self) -> str:
        """Return the end, with the errno of a kill."""
        return outcome(self.end, self.errno)


class LastTrap(Struct, frozen=True):
    """One of the traps before a death."""

    cause: Count = 0
    name: str = ""
    path: Path_ = ()
    how: tuple[str, ...] = ()
    end: str = ""
    errno: int | None = None
    epc: int = 0
    tval: int = 0
    symbol: str | None = None


class Code(Struct, frozen=True):
    """An instruction near the one that killed."""

    address: int
    bits: int | None = None
    text: str = ""
    current: bool = False


class Step(Struct, frozen=True):
    """One table entry of a walk."""

    level: int
    address: int
    entry: int
    flags: str = ""


class Walk(Struct, frozen=True):
    """The walk of one address through one stage."""

    stage: str
    address: int
    why: str = ""
    steps: tuple[Step, ...] = ()


class Csr(Struct, frozen=True):
    """A CSR at the death."""

    name: str
    value: int
    meaning: str = ""


class Killed(Struct, frozen=True):
    """A guest's death."""

    cause: Count
    name: str = ""
    from_: str = field(name="from", default="")
    pc: int = 0
    symbol: str | None = None
    errno: int | None = None
    rule: str | None = None
    last_traps: tuple[LastTrap, ...] = ()
    code: tuple[Code, ...] = ()
    walks: tuple[Walk, ...] = ()
    csrs: dict[str, tuple[Csr, ...]] = field(default_factory=dict)
    registers: dict[str, int] = field(default_factory=dict)


class Fate(Struct, frozen=True):
    """How the deadly instruction ends under another policy."""

    policy: str
    outcome: str = ""
    survives: bool = False


class Fates(Struct, frozen=True):
    """The same instruction under the presets."""

    mended: str | None = None
    fates: tuple[Fate, ...] = ()


class Place(Struct, frozen=True):
    """Where a vCPU was when the run was cut short."""

    vcpu: int = 0
    mode: str = ""
    pc: int = 0
    symbol: str | None = None
    what: str = ""


class Trip(Struct, frozen=True):
    """Round trips of a kind of trap that took one way (--observe); `hosted` has the mean with hosted levels' part."""

    path: Path_ = ()
    returns: str = ""
    count: Count = 0
    instructions: Levels = field(default_factory=dict)
    hosted: Levels | None = None

    @property
    def mean(self) -> float:
        """Instructions of one, estimates among them."""
        return (self.hosted or self.instructions).get("mean", 0.0)


class SeenTrap(Struct, frozen=True):
    """A kind of trap, as an observer saw it."""

    name: str = ""
    round_trips: tuple[Trip, ...] = ()


class Observed(Struct, frozen=True):
    """What --observe measured."""

    traps: tuple[SeenTrap, ...] = ()
    open: Count = 0
    lost: Count = 0


class Run(Struct, frozen=True):
    """A run of a guest, or a boot of a board (which has an image, and no policy)."""

    traps: tuple[Traps, ...]
    reason: str
    exit_status: int
    instructions: Levels
    policy: str = ""
    firmware: str = ""
    host_fwft: bool = False
    misaligned: str = ""
    guest: str | None = None
    image: str | None = None
    kernel: str | None = None  # what firmware started
    message: str = ""
    estimated: tuple[str, ...] = ()
    source: str | None = None
    counters: dict[str, int] = field(default_factory=dict)
    ticks: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    kernel_log: tuple[str, ...] = ()
    death: Killed | None = None
    survival: Fates | None = None
    places: tuple[Place, ...] = ()
    observed: Observed | None = None

    @property
    def total(self) -> float:
        """Instructions of all levels."""
        return sum(self.instructions.values())


class Compared(Struct, frozen=True):
    """The same guest under several policies."""

    guest: str
    runs: tuple[Run, ...]


class Sees(Struct, frozen=True):
    """A trap as a handler of the guest recorded it."""

    cause: Count
    epc: int = 0
    tval: int = 0
    privilege: str = ""


class Routed(Struct, frozen=True):
    """What one event did."""

    cause: Count
    name: str
    event: str
    from_: Mode = field(name="from")
    path: Path_
    how: tuple[str, ...]
    end: str
    event_id: str = ""
    errno: int | None = None
    guest_sees: Sees | tuple[Sees, ...] | None = None
    instructions: Levels = field(default_factory=dict)
    estimated: bool = False
    source: str = ""

    def outcome(self) -> str:
        """Return the end with its errno, or with the cause that the guest saw."""
        seen = next(iter(self.guest_sees), None) if isinstance(self.guest_sees, tuple) else self.guest_sees
        return outcome(self.end, self.errno, seen)


class Routes(Struct, frozen=True):
    """The matrix of routes under one policy; with `l1` those of nested guests."""

    policy: str
    routes: tuple[Routed, ...]
    firmware: str = ""
    host_fwft: bool = False
    misaligned: str = ""
    l1: str | None = None
    notes: tuple[str, ...] = ()


class Found(Struct, frozen=True):
    """A finding of an audit."""

    property: str
    severity: str
    policy: str
    what: str
    event: str
    from_: str = field(name="from", default="")
    firmware: str = ""
    host_fwft: bool = False
    condition: str = ""
    cause: int | None = None
    name: str = ""
    route: str = ""
    errno: int | None = None
    code: tuple[str, ...] = ()
    log: tuple[str, ...] = ()


class Alone(Struct, frozen=True):
    """Whether a guest gets what its user program raises, by cause."""

    cause: Count
    name: str = ""
    answer: str = ""


class Audited(Struct, frozen=True):
    """An audit."""

    findings: tuple[Found, ...]
    passed: bool
    policies: tuple[str, ...] = ()
    l1: tuple[str, ...] = ()
    firmware: tuple[str, ...] = ()
    executed: int = 0
    interrupted: bool = False
    properties: dict[str, str] = field(default_factory=dict)
    vu_alone: tuple[Alone, ...] = ()


class Unwell(Struct, frozen=True):
    """A run of a sweep that did not end well."""

    policy: str = ""
    firmware: str = ""
    workload: str = ""
    options: str = ""
    seed: int = 0
    outcome: str = ""
    message: str = ""
    error: str = ""
    replay: str = ""


class SweptGroup(Struct, frozen=True):
    """Runs of a sweep that agree in some columns; those that it is not grouped by have their default."""

    units: Count
    outcomes: dict[str, Count]
    traps: Count = 0
    instret: Count = 0
    hosted: Count = 0
    instructions: Levels = field(default_factory=dict)
    seconds: float = 0.0
    policy: str = ""
    firmware: str = ""
    host_fwft: bool = False
    misaligned: str = ""
    workload: str = ""
    options: str = ""
    seed: int = 0
    outcome: str = ""

    @property
    def unwell(self) -> int:
        """How many did not end well."""
        return sum(n for outcome, n in self.outcomes.items() if outcome != "ok")


class Sweep(Struct, frozen=True):
    """A sweep by groups. A directory has the routes of all its runs; what `sweep show` wrote, groups alone."""

    by: tuple[Axis, ...]
    groups: tuple[SweptGroup, ...]
    spec: str = ""
    directory: str | None = None
    interrupted: bool = False
    ended_badly: tuple[Unwell, ...] = ()
    routes: tuple[Traps, ...] = ()


Content = Run | Compared | Routes | Audited | Sweep
# What only this kind of result has.
_KINDS: tuple[tuple[frozenset[str], type[Content]], ...] = (
    (frozenset({"runs", "guest"}), Compared),
    (frozenset({"traps", "reason", "instret"}), Run),
    (frozenset({"routes", "policy"}), Routes),
    (frozenset({"findings", "executed"}), Audited),
    (frozenset({"by", "groups"}), Sweep),
)


class Result(Struct, frozen=True):
    """A file and what is in it."""

    file: str
    content: Content


def read_result(file: str) -> Result:
    """Return the result in a file, or on standard input for "-"; UsageError if there is none that is known."""
    data = _bytes(file)
    try:
        parts: dict[str, Any] | list[Any] = msgspec.json.decode(data, type=dict[str, msgspec.Raw] | list[msgspec.Raw])
        kind = next((kind for keys, kind in _KINDS if isinstance(parts, dict) and keys <= parts.keys()), None)
        if kind is None:
            from trapline.lab.results_without_page import command_of

            other = command_of(data)
            what = f"no report is made of what {other} writes" if other else "no result that a report is made of"
            raise UsageError(what, repr(file), _WRITE)
        return Result(file, msgspec.json.decode(data, type=kind))
    except msgspec.ValidationError as error:
        raise UsageError(f"no result that a report is made of: {error}", repr(file), _WRITE) from None
    except (msgspec.DecodeError, RecursionError) as error:
        from trapline.lab.results_without_page import command_of

        if other := command_of(data.partition(b"\n")[0]):
            raise UsageError(f"no report is made of what {other} writes", repr(file), _WRITE) from None
        raise UsageError(f"no JSON: {error or 'nested too deep'}", repr(file)) from None


def read_data(name: str, data: dict[str, Any]) -> Result:
    """Return the result in plain data, which has no file."""
    return Result(name, msgspec.convert(data, next(kind for keys, kind in _KINDS if keys <= data.keys())))


def _bytes(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else read_input(file)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"cannot read {file!r}: {reason}") from None
