"""One SBI call and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from trapline.dataclass import dataclass, field
from trapline.lang.functions import Trap
from trapline.lang.values import MASK64
from trapline.sbi.host import SbiHost
from trapline.sbi.numbers import SbiError


@dataclass(frozen=True, slots=True)
class SbiCall:
    """The registers of an ecall: a7, a6 and a0 to a5, unsigned."""

    eid: int
    fid: int
    args: tuple[int, int, int, int, int, int]

    @classmethod
    def of(cls, registers: object) -> SbiCall:
        """Take the call out of x registers (anything that can be indexed by register number)."""
        return cls.of_arguments([int(registers[n]) & MASK64 for n in range(10, 18)])  # type: ignore[index]

    @classmethod
    def of_arguments(cls, a: list[int]) -> SbiCall:
        """Take the call out of a0 to a7."""
        return cls(a[7], a[6], (a[0], a[1], a[2], a[3], a[4], a[5]))


class Effect(Enum):
    """What the server of a call does next."""

    RETURN = "return"  # write a0 (and a1), step over the ecall
    GONE = "gone"  # the caller stopped, restarts elsewhere, or the system was reset: write nothing
    TRAP = "trap"  # deliver `trap` to the caller at the ecall, which is not stepped over
    FORWARD = "forward"  # user space answers


@dataclass(frozen=True, slots=True)
class SbiOutcome:
    """What a call came to. `legacy` calls return in a0 alone."""

    effect: Effect
    error: int = 0
    value: int = 0
    legacy: bool = False
    trap: Trap | None = None

    def write_to(self, registers: object) -> None:
        """Write a0 and, unless the call is legacy, a1."""
        registers[10] = self.error & MASK64  # type: ignore[index]
        if not self.legacy:
            registers[11] = self.value & MASK64  # type: ignore[index]


Handler = Callable[[SbiHost, SbiCall], SbiOutcome]

GONE = SbiOutcome(Effect.GONE)


def success(value: int = 0) -> SbiOutcome:
    """Return SBI_SUCCESS and a value."""
    return SbiOutcome(Effect.RETURN, SbiError.SUCCESS, value)


def failure(error: SbiError) -> SbiOutcome:
    """Return an error; sbiret.value is 0."""
    return SbiOutcome(Effect.RETURN, error)


def result(error: SbiError) -> SbiOutcome:
    """Return success or an error without a value."""
    return SbiOutcome(Effect.RETURN, error)


@dataclass(frozen=True, slots=True)
class Extension:
    """An extension: its name, its identifiers, its functions by number."""

    name: str
    eid: int
    since: tuple[int, int]
    functions: dict[int, Handler]
    # Functions whose answer follows from so many arguments (0 or 1) and from how the implementation is set up.
    settled: dict[int, int] = field(default_factory=dict)
    # Functions of the specification that need not be there and are not here.
    optional: frozenset[int] = frozenset()

    def keeps(self, fid: int) -> int | None:
        """Return how many arguments an answer follows from, None if from more; a missing function's from none."""
        return self.settled.get(fid) if fid in self.functions or fid in self.optional else 0
