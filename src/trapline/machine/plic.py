"""Platform-level interrupt controller (RISC-V PLIC specification 1.0), with one M and one S context a hart."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trapline.lang.state import Hart
from trapline.machine.lines import MEIP, SEIP, set_line

PRIORITY, PENDING, ENABLE, CONTEXT = 0x0, 0x1000, 0x2000, 0x20_0000
_ENABLE_STRIDE, _CONTEXT_STRIDE = 0x80, 0x1000
_PRIORITY_BITS = 7

Drive = Callable[[bool], None]


class _Context:
    """One target: a hart in one privilege mode."""

    def __init__(self, drive: Drive) -> None:
        self.enable = 0
        self.threshold = 0
        self.drive = drive


class Plic:
    """The controller; source lines are levels, and `set_level` is what a device's pin does."""

    def __init__(self, targets: Sequence[Drive], sources: int) -> None:
        self.sources = sources
        self.priority = [0] * sources
        self.level = 0
        self.pending = 0
        self.claimed = 0
        self.contexts = [_Context(drive) for drive in targets]

    @classmethod
    def for_harts(cls, harts: Sequence[Hart], sources: int, *, machine_mode: bool = True) -> Plic:
        """Wire contexts as `virt` does: M then S of each hart; without M-mode contexts, S only."""
        targets: list[Drive] = []
        for hart in harts:
            if machine_mode:
                targets.append(_line(hart, MEIP))
            targets.append(_line(hart, SEIP))
        return cls(targets, sources)

    def set_level(self, source: int, level: bool) -> None:
        """The gateway of a level-triggered source: pending until claimed, again after completion."""
        bit = 1 << source
        if level:
            self.level |= bit
            if not self.claimed & bit:
                self.pending |= bit
        else:
            self.level &= ~bit
            self.pending &= ~bit
        self._update()

    def _best(self, context: _Context) -> int:
        """Return the source to claim: highest priority, then lowest number; 0 for none."""
        candidates = self.pending & context.enable
        best, best_priority = 0, 0
        while candidates:
            source = (candidates & -candidates).bit_length() - 1
            candidates &= candidates - 1
            if self.priority[source] > best_priority:
                best, best_priority = source, self.priority[source]
        return best

    def _update(self) -> None:
        for context in self.contexts:
            best = self._best(context)
            context.drive(best != 0 and self.priority[best] > context.threshold)

    def load(self, hart: Hart, offset: int, size: int) -> int:
        """Read a 32-bit register."""
        if size != 4 or offset % 4:
            return 0
        if offset >= CONTEXT:
            index, register = divmod(offset - CONTEXT, _CONTEXT_STRIDE)
            if index >= len(self.contexts):
                return 0
            return self.contexts[index].threshold if register == 0 else self._claim(index) if register == 4 else 0
        if offset >= ENABLE:
            index, register = divmod(offset - ENABLE, _ENABLE_STRIDE)
            return self.contexts[index].enable >> 8 * register & 0xFFFF_FFFF if index < len(self.contexts) else 0
        if offset >= PENDING:
            return self.pending >> 8 * (offset - PENDING) & 0xFFFF_FFFF
        return self.priority[offset // 4] if offset // 4 < self.sources else 0

    def store(self, hart: Hart, offset: int, size: int, value: int) -> None:
        """Write a 32-bit register."""
        if size != 4 or offset % 4:
            return
        value &= 0xFFFF_FFFF
        if offset >= CONTEXT:
            self._store_context(*divmod(offset - CONTEXT, _CONTEXT_STRIDE), value)
        elif offset >= ENABLE:
            self._store_enable(*divmod(offset - ENABLE, _ENABLE_STRIDE), value)
        elif offset < PENDING and 0 < offset // 4 < self.sources:
            self.priority[offset // 4] = value & _PRIORITY_BITS
        self._update()

    def _store_enable(self, index: int, register: int, value: int) -> None:
        if index >= len(self.contexts):
            return
        context = self.contexts[index]
        mask = ((1 << self.sources) - 1) & ~1
        context.enable = (context.enable & ~(0xFFFF_FFFF << 8 * register) | value << 8 * register) & mask

    def _store_context(self, index: int, register: int, value: int) -> None:
        if index >= len(self.contexts):
            return
        if register == 0:
            self.contexts[index].threshold = value & _PRIORITY_BITS
        elif register == 4:
            self._complete(self.contexts[index], value)

    def _claim(self, index: int) -> int:
        source = self._best(self.contexts[index])
        if source:
            self.pending &= ~(1 << source)
            self.claimed |= 1 << source
            self._update()
        return source

    def _complete(self, context: _Context, source: int) -> None:
        """End of handling; ignored for a source that the context has not enabled."""
        bit = 1 << source
        if source >= self.sources or not context.enable & bit:
            return
        self.claimed &= ~bit
        self.pending |= self.level & bit


def _line(hart: Hart, bit: int) -> Drive:
    return lambda level: set_line(hart, bit, level)
