"""Exits that the subset handled: counted by what was done, and the last of them in a ring.

A kind of exit has a fixed path. Its number, the cause, the mode it came from and the mode it went to
make the number of a counter; Python turns these back into routes.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from trapline.dataclass import dataclass, replace
from trapline.firmware.exit_edges import note_edge
from trapline.lang.functions import cold
from trapline.lang.state import Hart
from trapline.lang.state.words import EXIT_RING, LAYOUT
from trapline.lang.values import U64

KVM_REDIRECT, SBI_CALL, GSTAGE_MAP, MMIO_USER, KVM_EMULATE, KVM_ACTION, ACTION_REDIRECT, KVM_ILLEGAL = range(8)
# Added to the kind of an exit that firmware handed to HS-mode.
VIA_FIRMWARE = 8
# Of a guest hypervisor and its guest (kvm.nested).
NESTED_EMULATE, NESTED_ENTER, NESTED_LEAVE, NESTED_MAP, NESTED_STAY = range(16, 21)
FIRMWARE_EMULATE, FIRMWARE_TO_VS = 22, 23
L1, L2 = ("vU", "vHS"), ("vVU", "vVS")
HARDWARE_MODE = dict(zip((*L1, *L2), ("VU", "VS") * 2, strict=True))  # what the hart calls these modes

RING_WORDS = 8
NO_GPA = (1 << 64) - 1
_COUNTS, _SPENT, _RING = (LAYOUT.fields[n] for n in ("exit_count", "exit_firmware", "exit_ring"))
_NOTHING, _NO_ROW = bytes(_COUNTS.count * 8), bytes(256 * 8)
_FIRMWARE = LAYOUT.fields["fw_count"]


@dataclass(frozen=True, slots=True)
class Kind:
    """The hops of an exit; `through` are the modes between origin and end, `end` how it ends."""

    through: tuple[str, ...]
    how: tuple[str, ...]
    end: str
    vmm: bool = False  # it goes to the VMM, not back to a mode of the guest
    modes: tuple[str, str] = ("VU", "VS")  # what the guest's modes are called where it comes from
    where: tuple[str, str] = ("VU", "VS")  # and where it goes


_OF_HS = {
    KVM_REDIRECT: Kind(("HS",), ("hardware", "kvm-redirect"), "guest"),
    SBI_CALL: Kind(("HS",), ("hardware", "sbi"), "resumed"),
    GSTAGE_MAP: Kind(("HS",), ("hardware", "gstage-map"), "resumed"),
    MMIO_USER: Kind(("HS",), ("hardware", "mmio"), "vmm", vmm=True),
    KVM_EMULATE: Kind(("HS",), ("hardware", "kvm-emulate"), "emulated"),
    KVM_ACTION: Kind(("HS",), ("hardware", "action"), "resumed"),
    ACTION_REDIRECT: Kind(("HS",), ("hardware", "action"), "guest"),
    KVM_ILLEGAL: Kind(("HS",), ("hardware", "kvm-emulate"), "guest"),
}
_NESTED = {
    NESTED_EMULATE: Kind(("HS",), ("hardware", "nested-emulate"), "emulated", modes=L1, where=L1),
    NESTED_ENTER: Kind(("HS",), ("hardware", "nested-enter"), "resumed", modes=L1, where=L2),
    NESTED_LEAVE: Kind(("HS",), ("hardware", "nested-redirect"), "guest", modes=L2, where=L1),
    NESTED_MAP: Kind(("HS",), ("hardware", "nested-map"), "resumed", modes=L2, where=L2),
    NESTED_STAY: Kind(("HS",), ("hardware", "nested-emulate"), "emulated", modes=L2, where=L2),
}
KINDS = {
    **_OF_HS,
    **_NESTED,
    **{
        n + VIA_FIRMWARE: replace(kind, through=("M", "HS"), how=("hardware", "firmware-redirect", kind.how[-1]))
        for n, kind in (*_OF_HS.items(), *_NESTED.items())
    },
    FIRMWARE_EMULATE: Kind(("M",), ("hardware", "firmware-emulate"), "emulated"),
    FIRMWARE_TO_VS: Kind(("M",), ("hardware", "firmware-redirect"), "guest"),
}


@dataclass(frozen=True, slots=True)
class HostedExit:
    """What a counter counts."""

    kind: int
    cause: int
    origin: int  # 0 VU, 1 VS
    where: int  # likewise, where it ended

    @property
    def path(self) -> tuple[str, ...]:
        """The modes in order."""
        kind = KINDS[self.kind]
        return (kind.modes[self.origin], *kind.through, "VMM" if kind.vmm else kind.where[self.where])


@cold
def note_exit(hart: Hart, kind: U64, cause: U64, origin: U64, where: U64, gpa: U64, event: U64) -> U64:
    """Count an exit whose trap's epc and tval are in scratch[0] and [1]; return the firmware's instructions.

    `event` is what the firmware did (firmware.handler), with mcause; 0 if it was not asked.
    """
    instructions = U64(0)
    raised = cause
    if event != 0:
        instructions = hart.fw_cost[event - 1]
        raised = hart.mcause
    index = (kind << 8) | (cause << 2) | (origin << 1) | where
    epc = hart.scratch[0]
    tval = hart.scratch[1]
    hart.exit_count[index] = hart.exit_count[index] + 1
    if instructions != 0:  # it lies 64 KiB behind the count, which to the host looks like the same place
        hart.exit_firmware[index] = hart.exit_firmware[index] + instructions
    at = (hart.exit_ring_at & (EXIT_RING - 1)) * RING_WORDS
    hart.exit_ring[at] = hart.instret
    hart.exit_ring[at + 1] = index
    hart.exit_ring[at + 2] = epc
    hart.exit_ring[at + 3] = tval
    hart.exit_ring[at + 4] = gpa
    hart.exit_ring[at + 5] = event
    hart.exit_ring[at + 6] = raised
    hart.exit_ring_at = hart.exit_ring_at + 1
    if hart.edges_wanted != 0:
        detail = event
        if kind == SBI_CALL:
            detail = (hart.x[17] << 4) + hart.x[16]
        note_edge(hart, index, detail)
    return instructions


@cold
def note_firmware(hart: Hart, went: U64, cause: U64, origin: U64) -> None:
    """Count what the firmware did with a trap of a guest: where it went (firmware.handler), mcause, 0 VU or 1 VS."""
    index = (went << 7) | (cause << 1) | origin
    hart.fw_count[index] = hart.fw_count[index] + 1
    hart.fw_instructions = hart.fw_instructions + hart.fw_cost[hart.fw_event - 1]


def firmware_counted(hart: Hart) -> Iterator[tuple[tuple[int, int, int], int]]:
    """Yield (where the firmware sent traps, mcause, 0 VU or 1 VS) and how often, for what note_firmware counted."""
    for n, count in enumerate(hart.mem[_FIRMWARE.index : _FIRMWARE.index + _FIRMWARE.count].tolist()):
        if count:
            yield (n >> 7, n >> 1 & 63, n & 1), count


def clear_firmware(hart: Hart) -> None:
    """Begin to count anew."""
    hart.fw_instructions = 0
    for n in range(_FIRMWARE.count):
        hart.fw_count[n] = 0


@cache
def native_exit(index: int) -> HostedExit:
    """What counter number `index` counts."""
    return HostedExit(index >> 8, index >> 2 & 63, index >> 1 & 1, index & 1)


def counted(hart: Hart) -> Iterator[tuple[HostedExit, int]]:
    """Yield what the subset has handled on a hart, and how often."""
    return _summed(hart, _COUNTS.index)


def spent(hart: Hart) -> Iterator[tuple[HostedExit, int]]:
    """Yield what the subset has handled on a hart, and the instructions of firmware that stand for it."""
    return _summed(hart, _SPENT.index)


def _summed(hart: Hart, first: int) -> Iterator[tuple[HostedExit, int]]:
    if bytes(hart.mem[first : first + _COUNTS.count]) == _NOTHING:
        return
    for kind in KINDS:
        start = first + (kind << 8)
        row = hart.mem[start : start + 256]
        if bytes(row) != _NO_ROW:
            yield from ((native_exit(kind << 8 | n), count) for n, count in enumerate(row.tolist()) if count)


def ring_entries(hart: Hart, since: int) -> list[tuple[int, ...]]:
    """Return the words of the exits from number `since` on that the ring still has."""
    end = int(hart.exit_ring_at)
    first = max(since, end - EXIT_RING)
    start, stop = first % EXIT_RING, first % EXIT_RING + end - first
    words = _ring_words(hart, start, min(stop, EXIT_RING)) + _ring_words(hart, 0, max(stop - EXIT_RING, 0))
    return [tuple(words[at : at + 7]) for at in range(0, len(words), RING_WORDS)]


def _ring_words(hart: Hart, start: int, stop: int) -> list[int]:
    return hart.mem[_RING.index + start * RING_WORDS : _RING.index + stop * RING_WORDS].tolist()
