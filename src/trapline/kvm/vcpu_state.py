"""State of a vCPU in the words of its hart, and what a snapshot keeps of its attributes, with what they can hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

from trapline.lang.state import Hart
from trapline.lang.state.words import LAYOUT
from trapline.lang.values import MASK64
from trapline.session.state.plain_types import U32, U64

CONFIGURED = (
    *("id", "policy", "decoder", "death", "nested", "_complete"),
    *("native_policy", "native_flags", "native_seen", "native_slots"),
)
OF_AN_EXIT_THAT_IS_OVER = (
    *("_how", "_path", "_pending_hop", "_trap"),
    *("m_instructions", "_m_source", "_raised"),
)
SKIPS = (*CONFIGURED, *OF_AN_EXIT_THAT_IS_OVER)
TYPES: dict[str, Any] = {
    "_reset_to": tuple[U64, U64] | None,
    "csr_insn": U32 | None,
    "firmware_dump": str,
    "isa_disabled": set[str],
}


T = TypeVar("T", int, bool)


class HartWord(Generic[T]):
    """An attribute that is a word of the owner's hart; `kind` is int, or bool for one that is 0 or 1."""

    def __init__(self, word: str, kind: Callable[[int], T]) -> None:
        self._index = LAYOUT.fields[word].index  # the word itself is several times faster than the field
        self._kind: Callable[[int], T] = kind

    @overload
    def __get__(self, own: None, owner: type) -> Self: ...
    @overload
    def __get__(self, own: object, owner: type) -> T: ...
    def __get__(self, own: Any, owner: type) -> Self | T:
        return self if own is None else self._kind(own.hart.mem[self._index])

    def __set__(self, own: Any, value: T) -> None:
        own.hart.mem[self._index] = int(value) & MASK64


class VcpuWords:
    """State of a vCPU that is in words of its hart, where hosted exits use it."""

    hart: Hart
    in_guest = HartWord("kvm_in_guest", bool)  # whether the guest's registers are in the hart
    blocked = HartWord("kvm_blocked", bool)  # whether a WFI waits for an interrupt
    yielded = HartWord("kvm_yielded", bool)  # whether a WRS gives the rest of the turn to the other vCPUs
    irqs_pending = HartWord("kvm_irqs", int)  # VS-level interrupts that are to be pending
    irqs_pending_mask = HartWord("kvm_irqs_mask", int)  # those that have changed since the last entry
