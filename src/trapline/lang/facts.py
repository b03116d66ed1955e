"""What is said of an instruction beside its pattern and its meaning: where control goes, and what memory it touches.

The compiler derives the same from the instruction's function and refuses a declaration that differs
(engine.compiler.facts).
"""

from __future__ import annotations

from enum import Enum

from trapline.dataclass import dataclass


class Flow(Enum):
    """Where control goes when an instruction retires."""

    NEXT = "next"
    BRANCH = "branch"  # on, or to its target
    JUMP = "jump"
    RETURN = "return"  # of a trap, to another mode
    TRAP = "trap"  # it never retires: a call of the environment, a breakpoint


class Kind(Enum):
    """How an instruction accesses memory."""

    LOAD = "load"
    STORE = "store"
    AMO = "amo"
    RESERVE = "reserve"  # LR
    CONDITIONAL = "conditional"  # SC
    ZERO = "zero"  # stores zeros to a cache block
    MANAGE = "manage"  # checks a cache block and leaves it


WRITES = frozenset({Kind.STORE, Kind.AMO, Kind.CONDITIONAL, Kind.ZERO})
ATOMIC = frozenset({Kind.AMO, Kind.RESERVE, Kind.CONDITIONAL})


@dataclass(frozen=True, slots=True)
class Access:
    """An access through rs1: bytes (0: a cache block), and whether what is loaded is sign-extended.

    `guest` is for HLV, HLVX and HSV: the access is the guest's.
    """

    kind: Kind
    size: int = 0
    signed: bool = False
    guest: bool = False

    @property
    def is_store(self) -> bool:
        """Whether it needs the right to write."""
        return self.kind in WRITES

    @property
    def is_atomic(self) -> bool:
        """Whether it is one of the A extension's."""
        return self.kind in ATOMIC
