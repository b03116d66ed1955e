"""Checkpoints of a machine in its own process, and the way back: a stack of undo logs.

A checkpoint copies no memory. A page is copied when it is first written after that (engine.undo_log); going back puts
the pages, the words of harts and devices and the attributes of all objects back. What was decoded and compiled stays,
but for code that has changed. Translations are forgotten at a checkpoint and at each return, so every run from there
is the same to the instruction.
"""

from __future__ import annotations

import ctypes
import mmap
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from types import NoneType
from typing import TYPE_CHECKING, Any

from trapline.engine import undo_log as undo
from trapline.engine.undo import put_pages_back
from trapline.lang.given import Named, require_kind
from trapline.lang.host_pages import anonymous
from trapline.lang.state.words import LAYOUT

if TYPE_CHECKING:
    from trapline.engine.api import Engine
    from trapline.lang.state import Hart
    from trapline.session.regions import Regions
    from trapline.session.terminal.console import Console

PAGE = undo.PAGE
# Words of this process that belong to a run all the same: what native code has counted, and where a hart was stopped.
_OF_A_RUN = (
    *("kvm_stat", "exit_count", "exit_firmware", "fw_count", "fw_instructions", "exit_ring_at", "exit_ring"),
    *("exit_edges", "edge_code", "edge_before", "kvm_events", "kvm_leaves"),
    *("shadow_used", "shadow_next", "shadow_stale", "shadow_of"),
    *("stop_entry", "stop_va", "stop_then", "stop_pc", "stop_pass_pc", "stop_pass_at"),
)
_WORDS = [f for f in LAYOUT.fields.values() if not f.host or f.name in _OF_A_RUN]


class CheckpointError(ValueError):
    """A machine that cannot be put back, or not to there; the message says why."""


class PageLog:
    """What the pages of a machine's memory held at one checkpoint, as far as they were written since."""

    def __init__(self, regions: Regions, engine: Engine) -> None:
        backings = sorted((r.backing for r in regions if r.backing is not None), key=lambda b: -b.size)
        pages = sum(b.size // PAGE for b in backings)
        self._memory: list[mmap.mmap] = []
        self.address = self._room(undo.AREAS + len(backings) * undo.AREA_BYTES)
        self._words = (ctypes.c_uint64 * (3 + 5 * len(backings))).from_address(self.address)
        self._words[0:3] = [0, self._room(8 * pages), len(backings)]
        for number, backing in enumerate(backings):
            copies, marks = self._room(backing.size), self._room(backing.size // PAGE)
            infos = engine.infos_at(backing.address, backing.size)
            area = backing.address, backing.size, marks, copies - backing.address, infos
            for at, word in enumerate(area, 3 + 5 * number):
                self._words[at] = word

    def _room(self, size: int) -> int:
        block = anonymous(-(-size // PAGE) * PAGE)
        block.madvise(mmap.MADV_NOHUGEPAGE)
        self._memory.append(block)
        return ctypes.addressof(ctypes.c_char.from_buffer(block))

    @property
    def written(self) -> list[int]:
        """Host addresses of the pages that were written."""
        return list((ctypes.c_uint64 * self._words[0]).from_address(self._words[1]))

    def area_of(self, page: int) -> tuple[int, int]:
        """Host addresses of a page's mark and of its copy."""
        for at in range(3, 3 + 5 * self._words[2], 5):
            first, size, marks, copies, _ = self._words[at : at + 5]
            if first <= page < first + size:
                return marks + (page - first) // PAGE, (page + copies) & (1 << 64) - 1
        raise LookupError(f"no memory at {page:#x}")

    def take(self, other: PageLog) -> None:
        """Take over what the log of the next checkpoint has, and this one has not."""
        for page in other.written:
            mark, copy = self.area_of(page)
            known = ctypes.c_uint8.from_address(mark)
            if not known.value & undo.DIRTY:
                ctypes.memmove(copy, other.area_of(page)[1], PAGE)
                known.value = undo.KEPT | undo.DIRTY
                ctypes.c_uint64.from_address(self._words[1] + 8 * self._words[0]).value = page
                self._words[0] += 1


class Checkpoint:
    """A place in a machine's run to which `rewind` goes back. It holds until it is dropped, or an earlier one is taken.

    `instructions` is how many the machine had executed there.
    """

    def __init__(self, stack: Checkpoints, instructions: int) -> None:
        self._stack, self.instructions = stack, instructions

    @property
    def pages(self) -> int:
        """How many pages were written between this checkpoint and the next one, or now."""
        return self._stack.pages_of(self)

    def drop(self) -> None:
        """Give it up; the others stay."""
        self._stack.drop(self)

    def __repr__(self) -> str:
        if self not in self._stack:
            return f"<Checkpoint at {self.instructions} instructions, dropped>"
        return f"<Checkpoint at {self.instructions} instructions, {self.pages} pages written since>"


class _Level:
    """What belongs to one checkpoint of the stack."""

    def __init__(self, owner: Checkpoints, point: Checkpoint) -> None:
        # What only checkpoints need is not part of every start.
        from trapline.session.state.kept_state import KeptState, KeptWords, spans

        self.point = point
        self.pages = PageLog(owner.regions, owner.engine)
        self.state = KeptState(owner.roots(), owner.kept, owner.tops)
        words = spans(_WORDS)
        self.harts = [KeptWords(hart.mem, words) for hart in owner.harts()]
        self.console = owner.console.mark() if owner.console is not None else None


class Checkpoints:
    """The checkpoints of one machine, the newest last.

    `roots` are the objects that hold its state, `kept` and `tops` those of KeptState. `refusal` says what it has that
    cannot be put back, `settle` is called before a checkpoint is made, `same` says what must not change
    after one.
    """

    def __init__(
        self,
        engine: Engine,
        regions: Regions,
        harts: Callable[[], Sequence[Hart]],
        roots: Callable[[], Iterable[Any]],
        kept: Sequence[type],
        tops: Sequence[type],
        *,
        console: Console | None = None,
        refusal: Callable[[], str] = lambda: "",
        settle: Callable[[], object] = lambda: None,
        same: Callable[[], object] = lambda: None,
    ) -> None:
        self.engine, self.regions, self.harts, self.roots = engine, regions, harts, roots
        self.kept, self.tops, self.console = kept, tops, console
        self._refusal, self._settle, self._same = refusal, settle, same
        self._levels: list[_Level] = []
        self._made_of: object = None
        self._told: dict[int, Callable[[int, int], None]] = {}  # by hart: what is told of the stores of CPython

    def __contains__(self, point: object) -> bool:
        return any(level.point is point for level in self._levels)

    def pages_of(self, point: Checkpoint) -> int:
        """`Checkpoint.pages`."""
        return sum(len(level.pages.written) for level in self._levels if level.point is point)

    def make(self) -> Checkpoint:
        """`Machine.checkpoint`."""
        refused = self._refusal()
        if refused:
            raise CheckpointError(f"no checkpoint of a machine with {refused}: that cannot be put back")
        self._settle()
        if self.console is not None:
            self.console.flush()
        if self._levels:
            self._require_same()
        else:
            self._made_of = self._what()
        point = Checkpoint(self, sum(int(hart.instret) for hart in self.harts()))
        level = _Level(self, point)
        for part in level.state.undoable:
            part.begin_undo()
        self._levels.append(level)
        self._use(level.pages)
        return point

    def rewind(self, point: Checkpoint | None = None, *, quiet: bool = False) -> None:
        """`Machine.rewind`."""
        require_kind("checkpoint", point, Checkpoint, NoneType)
        if not self._levels:
            raise CheckpointError("there is no checkpoint to rewind to")
        if point is not None and point not in self:
            raise CheckpointError(f"{point!r} is not one of this machine's")
        self._require_same()
        while True:
            level = self._levels[-1]
            self.harts()[0].call(put_pages_back)
            for part in level.state.undoable:
                part.undo()
            if point is None or level.point is point:
                break
            self._levels.pop()
            for part in level.state.undoable:
                part.end_undo(len(self._levels))
            self._use(self._levels[-1].pages)
        level.state.put_back()
        for hart, words in zip(self.harts(), level.harts, strict=True):
            words.put_back()
            hart.on_flush_translations()
        if self.console is not None:
            assert level.console is not None
            self.console.go_back(level.console, quiet=quiet)

    def drop(self, point: Checkpoint) -> None:
        """`Checkpoint.drop`."""
        for number, level in enumerate(self._levels):
            if level.point is point:
                if number:
                    self._levels[number - 1].pages.take(level.pages)
                for part in level.state.undoable:
                    part.end_undo(number)
                del self._levels[number]
                self._use(self._levels[-1].pages if self._levels else None)
                return

    # --- what the pages are kept with ---
    def _use(self, log: PageLog | None) -> None:
        """Keep pages in this log from now on: none has a store translation."""
        for hart in self.harts():
            hart.undo_base = 0 if log is None else log.address
            hart.on_flush_translations()
            if self._told.get(id(hart)) is not hart.on_store:
                told = self._told[id(hart)] = self._on_store(hart.on_store)
                hart.on_store = told  # type: ignore[method-assign, assignment]
        for region in self.regions:
            if region.backing is not None:
                region.backing.keep = None if log is None else self._keep

    def _on_store(self, then: Callable[[int, int], None]) -> Callable[[int, int], None]:
        def told(host: int, size: int) -> None:
            if self._levels:
                self._keep(host, size)
            then(host, size)

        return told

    def _keep(self, host: int, size: int) -> None:
        hart, log = self.harts()[0], self._levels[-1].pages
        for page in range(host & -PAGE, host + size, PAGE):
            if not ctypes.c_uint8.from_address(log.area_of(page)[0]).value & undo.DIRTY:
                hart.call(undo.keep_page, page)

    def _what(self) -> object:
        return self.regions.changes, self._same()

    def _require_same(self) -> None:
        if self._what() != self._made_of:
            raise CheckpointError("the machine's memory or policy has changed since its checkpoint was made")


class Rewindable(Named, ABC):
    """A machine with checkpoints; `_make_checkpoints` says what it is made of."""

    _checkpoints: Checkpoints | None = None
    _running = False

    def checkpoint(self) -> Checkpoint:
        """Remember the machine as it is now, between two instructions.

        Checkpoints are a stack: rewinding to one drops those that were made after it. Making one copies no memory;
        afterwards each page is copied when it is first written. CheckpointError if the machine has what cannot be put
        back (a drive that is written, a network, a share), or runs.
        """
        self._require_stopped("a checkpoint is made")
        return self.checkpoints.make()

    def rewind(self, to: Checkpoint | None = None, *, quiet: bool = False) -> None:
        """Make the machine what it was at a checkpoint, the newest if none is named; it stays, to be used again.

        Input that was typed after it comes again at the same places. With `quiet`, what the console has shown is not
        shown again. CheckpointError if there is no such checkpoint any more, if memory was added or the policy was
        changed, or while the machine runs.
        """
        self._require_stopped("the machine is put back")
        self.checkpoints.rewind(to, quiet=quiet)

    @property
    def checkpoints(self) -> Checkpoints:
        """All of them."""
        if self._checkpoints is None:
            self._checkpoints = self._make_checkpoints()
        return self._checkpoints

    def _require_stopped(self, what: str) -> None:
        if self._running:
            raise CheckpointError(f"{what} between two runs, not while one is under way")

    @abstractmethod
    def _make_checkpoints(self) -> Checkpoints: ...
