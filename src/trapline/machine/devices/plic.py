"""Platform-level interrupt controller (RISC-V PLIC specification 1.0), with one M and one S context a hart.

The gateways are those of QEMU's `virt`, whose drivers this board runs. A source asks when its device drives the line
high, also where it was high before; a request while the source is claimed is forwarded at completion, unless the line
has fallen. The text forwards one at each completion while the line is high. Software for QEMU leaves lines high (an
UART's empty transmitter, in teaching kernels) and would never come out of its handler.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trapline.lang.devices import ASK_CONTEXT, ASK_SOURCE, SOURCES, DeviceState, Registers, ask_host
from trapline.lang.functions import cold, hosted, inline
from trapline.lang.state import Hart
from trapline.lang.values import U64, ctz, u64
from trapline.machine.lines import set_line_of
from trapline.privilege.fields import MEIP, SEIP

PRIORITY, PENDING, ENABLE, CONTEXT = 0x0, 0x1000, 0x2000, 0x20_0000
_PRIORITY_BITS = 7
_WORD = 0xFFFF_FFFF

Drive = Callable[[bool], None]


@inline
def half(word: U64, offset: U64) -> U64:
    """The 32 of 64 sources that a register shows."""
    return (word >> ((offset & 4) * 8)) & _WORD


@inline
def source_bit(source: U64) -> U64:
    """The bit of a source in its word."""
    return U64(1) << (source & 63)


@cold
def plic_best(io: DeviceState, context: U64) -> U64:
    """The source to claim: highest priority, then lowest number; 0 for none."""
    best = U64(0)
    priority = U64(0)
    for w in range(2):
        candidates = io.plic_pending[w] & io.plic_enable[context * 2 + w]
        for _ in range(64):
            if candidates == 0:
                break
            source = ctz(candidates) + w * 64
            candidates = candidates & (candidates - 1)
            if io.plic_priority[source] > priority:
                best = source
                priority = io.plic_priority[source]
    return best


@cold
def plic_update(hart: Hart, io: DeviceState) -> None:
    """Drive every context's interrupt: a source waits whose priority is above the threshold."""
    for context in range(128):
        if context >= io.plic_contexts:
            break
        best = plic_best(io, U64(context))
        level = best != 0 and io.plic_priority[best] > io.plic_threshold[context]
        if io.plic_wired != 0:
            ask_host(hart, io, ASK_CONTEXT, (U64(0) + context) * 2 + u64(level))
        elif context & 1 != 0:
            set_line_of(hart, io, U64(context >> 1), U64(SEIP), level)
        else:
            set_line_of(hart, io, U64(context >> 1), U64(MEIP), level)


@hosted
def plic_set_level(hart: Hart, io: DeviceState, source: U64, level: bool) -> None:
    """A device drives its line: what is forwarded stays pending until it is claimed."""
    bit = source_bit(source)
    w = source >> 6
    if not level:
        io.plic_again[w] = io.plic_again[w] & ~bit
    elif io.plic_claimed[w] & bit != 0:
        io.plic_again[w] = io.plic_again[w] | bit
    elif io.plic_pending[w] & bit == 0:
        io.plic_pending[w] = io.plic_pending[w] | bit
        plic_update(hart, io)


@cold
def drive_source(hart: Hart, io: DeviceState, source: U64, level: bool, changed: bool) -> None:
    """A device's pin: to the PLIC, or to another controller, which the host has."""
    if io.plic_contexts != 0:
        plic_set_level(hart, io, source, level)
    elif changed:
        ask_host(hart, io, ASK_SOURCE, source * 2 + u64(level))


@cold
def plic_claim(hart: Hart, io: DeviceState, context: U64) -> U64:
    """The threshold does not matter to a claim."""
    source = plic_best(io, context)
    if source != 0:
        bit = source_bit(source)
        io.plic_pending[source >> 6] = io.plic_pending[source >> 6] & ~bit
        io.plic_claimed[source >> 6] = io.plic_claimed[source >> 6] | bit
        plic_update(hart, io)
    return source


@cold
def plic_complete(hart: Hart, io: DeviceState, context: U64, source: U64) -> None:
    """End of handling; ignored for a source that the context has not enabled."""
    bit = source_bit(source)
    w = source >> 6
    if source >= io.plic_sources or io.plic_enable[context * 2 + w] & bit == 0:
        return
    io.plic_claimed[w] = io.plic_claimed[w] & ~bit
    io.plic_pending[w] = io.plic_pending[w] | (io.plic_again[w] & bit)
    io.plic_again[w] = io.plic_again[w] & ~bit
    plic_update(hart, io)


@hosted
def plic_load(hart: Hart, io: DeviceState, offset: U64, size: U64) -> U64:
    """Read a 32-bit register."""
    if size != 4:
        return U64(0)
    if offset >= CONTEXT:
        context = (offset - CONTEXT) >> 12
        if context < io.plic_contexts:
            if offset & 0xFFF == 0:
                return io.plic_threshold[context]
            if offset & 0xFFF == 4:
                return plic_claim(hart, io, context)
    elif offset >= ENABLE:
        context = (offset - ENABLE) >> 7
        if context < io.plic_contexts and offset & 0x7F < 16:
            return half(io.plic_enable[context * 2 + ((offset & 0x7F) >> 3)], offset)
    elif offset >= PENDING:
        if offset - PENDING < 16:
            return half(io.plic_pending[(offset - PENDING) >> 3], offset)
    elif offset >> 2 < io.plic_sources:
        return io.plic_priority[offset >> 2]
    return U64(0)


@hosted
def plic_calm(hart: Hart, io: DeviceState, offset: U64, size: U64) -> bool:
    """A claim changes what waits."""
    return offset < CONTEXT or offset & 0xFFF != 4


@hosted
def plic_store(hart: Hart, io: DeviceState, offset: U64, size: U64, value: U64) -> None:
    """Write a 32-bit register."""
    if size != 4:
        return
    if offset >= CONTEXT:
        context = (offset - CONTEXT) >> 12
        if context < io.plic_contexts:
            if offset & 0xFFF == 0:
                io.plic_threshold[context] = value & _PRIORITY_BITS
                plic_update(hart, io)
            elif offset & 0xFFF == 4:
                plic_complete(hart, io, context, value & _WORD)
    elif offset >= ENABLE:
        context = (offset - ENABLE) >> 7
        w = (offset & 0x7F) >> 3
        if context < io.plic_contexts and w < 2:
            shift = (offset & 4) * 8
            kept = io.plic_enable[context * 2 + w] & ~(U64(_WORD) << shift)
            io.plic_enable[context * 2 + w] = (kept | ((value & _WORD) << shift)) & io.plic_exists[w]
            plic_update(hart, io)
    elif offset < PENDING and offset != 0 and offset >> 2 < io.plic_sources:
        io.plic_priority[offset >> 2] = value & _PRIORITY_BITS
        plic_update(hart, io)


class Plic(Registers):
    """The controller; `set_level` is what a device's pin does."""

    on_load, on_store, on_calm = plic_load, plic_store, plic_calm

    def __init__(self, harts: Sequence[Hart], io: DeviceState, sources: int, wires: Sequence[Drive] = ()) -> None:
        """Contexts are M then S of each hart, as on `virt`; or there is one for each of `wires`."""
        super().__init__(io)
        if not 1 < sources <= SOURCES:
            raise ValueError(f"{sources} interrupt sources: expected 2 to {SOURCES}")
        self._hart = harts[0]
        io.plic_sources, io.plic_wired = sources, len(wires)
        io.plic_contexts = len(wires) or 2 * len(harts)
        exists = (1 << sources) - 2  # there is no source 0
        io.plic_exists[0], io.plic_exists[1] = exists, exists >> 64
        io.answers[ASK_CONTEXT] = lambda value: wires[value >> 1](value & 1 != 0)

    def set_level(self, source: int, level: bool) -> None:
        """Drive a source's line."""
        self._hart.call(plic_set_level, self.io, source, level)
