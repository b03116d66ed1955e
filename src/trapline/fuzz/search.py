"""One process's search: batch behind batch, and what is new or wrong in each."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from trapline.engine.api import Engine
from trapline.fuzz.findings import HOST, Case, Group, Key
from trapline.fuzz.image import PROGRAMS, ZOOS
from trapline.fuzz.judge import Judged, World
from trapline.fuzz.make import Maker
from trapline.fuzz.minimise import fewest, minimise
from trapline.fuzz.target import DEADLY, End
from trapline.lab.route import with_zcb, without_compressed
from trapline.lab.settings import Settings
from trapline.policies import Policy
from trapline.privilege.isa_string import DEFAULT_ISA

REFERENCE_SHARE = 0.05  # of the time, for the reference engine
CORPUS = 2000  # programs
LOOKED_FIRST, LOOKED_SHARE = 4096, 0.04  # programs that may run again to find which reaches a new edge
_TURNS = (0, 0, 1, 0, 0, 2, 0, 1)  # which of the plan's harts a batch is for
_STARTERS = 40  # programs that a turn may have run behind the one that started another vCPU


@dataclass(frozen=True, slots=True)
class Plan:
    """What is searched."""

    settings: Settings
    mode: str = "VU"
    seed: int = 0
    nested: Policy | None = None
    engine: str | Engine = "native"
    isas: tuple[str, str, str] = (DEFAULT_ISA, with_zcb(DEFAULT_ISA), without_compressed(DEFAULT_ISA))


@dataclass(slots=True)
class News:
    """What a batch brought."""

    runs: int = 0
    groups: list[Group] = field(default_factory=list)  # seen for the first time
    again: list[Key] = field(default_factory=list)
    corpus: list[bytes] = field(default_factory=list)


class Search:
    """A search; `step` runs one batch. `before` is told what is about to run, so that a crash can be explained."""

    def __init__(
        self, plan: Plan, stream: str = "", before: Callable[[Sequence[bytes], Case], Any] | None = None
    ) -> None:
        self.plan, self.before = plan, before or (lambda programs, case: None)
        self.rng = Random(f"{plan.seed}/{stream}")
        self.worlds: dict[str, World] = {}
        self.makers = {isa: Maker(isa, plan.mode, self.rng, nested=plan.nested is not None) for isa in plan.isas}
        self.known: set[Key] = set()
        self.covered: set[object] = set()
        self.edges = 0  # bits (firmware.exit_edges)
        self._ran = self._looked = 0  # programs, and those run again to find which reaches an edge
        self.corpus: list[bytes] = []
        self.batches = 0
        self._reference_time, self._began = 0.0, time.process_time()

    def world(self, isa: str) -> World:
        """What programs for this ISA run on."""
        if isa not in self.worlds:
            self.worlds[isa] = World(self.plan.settings, self.plan.mode, isa, self.plan.engine, self.plan.nested)
        return self.worlds[isa]

    def step(self, most: int = PROGRAMS) -> News:
        """Run a batch of at most so many programs."""
        isa = self.plan.isas[_TURNS[self.batches % len(_TURNS)]]
        maker = self.makers[isa]
        maker.renew()
        self.batches += 1
        zoo = self.rng.randrange(ZOOS)
        programs = maker.programs(min(most, PROGRAMS), self.corpus)
        news = News()
        self.before(programs, Case(b"", self.plan.mode, zoo, isa))
        try:
            self._batch(self.world(isa), programs, zoo, news)
        except Exception:  # whatever is wrong in trapline itself is a finding
            self._host_error(isa, programs, zoo, news)
        return news

    def _batch(self, world: World, programs: list[bytes], zoo: int, news: News) -> None:
        while programs:
            outcome = world.target.run(programs, zoo)
            done = outcome.at
            fresh, edges = world.target.covered() - self.covered, world.target.edges() & ~self.edges
            if done:
                self._compare(world, programs[:done], outcome.log, zoo, news)
            if outcome.end in DEADLY:
                one = self._starter(world, programs[: done + 1], zoo) if outcome.other else programs[done]
                self._found(world, world.death(outcome, one), one, zoo, news, programs[: done + 1])
            self._ran += min(done + 1, len(programs))
            if fresh or (edges and self._looked < LOOKED_FIRST + LOOKED_SHARE * self._ran):
                self._keep(world, programs[: done + 1], fresh, edges, zoo, news)
            news.runs += min(done + 1, len(programs))
            programs = programs[done + 1 :]
        self._engines(world, news)

    # --- what is wrong ---
    def _compare(self, world: World, programs: list[bytes], log: bytes, zoo: int, news: News) -> None:
        self._last = programs[-4:], zoo
        if world.nested is not None:
            return
        answers: list[bytes] = []
        odd: Sequence[int] = range(len(programs))
        for machine in world.machines:  # most programs need the first alone
            answers.append(machine.log_of(programs, zoo))
            odd = world.odd(programs, log, answers, odd)
            if not odd:
                return
        for n in odd:
            judged = world.judge(programs[n], zoo)
            if judged is not None:
                self._found(world, judged, programs[n], zoo, news)

    def _starter(self, world: World, programs: list[bytes], zoo: int) -> bytes:
        """Return which of the last programs started the vCPU that came to a bad end."""
        for program in reversed(programs[-_STARTERS:]):
            if world.target.run([program], zoo).end in DEADLY:
                return program
        return programs[-1]

    def _found(
        self, world: World, judged: Judged, program: bytes, zoo: int, news: News, batch: Sequence[bytes] = ()
    ) -> None:
        """Make a program small that shows this; if none does alone, as few as possible of those of its batch."""
        key = judged.key
        if key in self.known:
            news.again.append(key)
            return

        def shows(candidate: bytes, ahead: Sequence[bytes] = ()) -> bool:
            found = world.judge(candidate, zoo, ahead)
            return found is not None and found.key == key

        self.known.add(key)
        ahead: Sequence[bytes] = ()
        if shows(program):
            program = minimise(program, shows)
            judged = world.judge(program, zoo) or judged
        elif len(batch) > 1:
            program, ahead = batch[-1], batch[:-1]
            if shows(program, ahead):
                ahead = fewest(ahead, lambda fewer: shows(program, fewer))
        news.groups.append(self._group(world, judged, program, zoo, ahead))

    def _group(self, world: World, judged: Judged, program: bytes, zoo: int, ahead: Sequence[bytes] = ()) -> Group:
        behind = (f"behind {len(ahead)} of its batch, not alone:",) if ahead else ()
        text = (*behind, *world.listing(program), *judged.text)
        return Group(judged.key, Case(program, world.mode, zoo, world.isa, tuple(ahead)), 1, text, judged.expected)

    def _host_error(self, isa: str, programs: list[bytes], zoo: int, news: News) -> None:
        """Find the program that raises an exception of Python by itself; what it ran on is made anew."""
        culprit, ahead = b"".join(programs[-1:]), tuple(programs[:-1])
        error = f"{traceback.format_exc(limit=-3)}in a batch; none of its programs raises it alone"
        for program in programs:
            try:
                self.world(isa).judge(program, zoo)
            except Exception:
                culprit, ahead, error = program, (), traceback.format_exc(limit=-3)
                break
        self.worlds.pop(isa, None)
        lines = error.strip().splitlines()
        key = Key(HOST, -1, self.plan.mode, lines[-1], "exception")
        news.runs += len(programs)
        if key in self.known:
            news.again.append(key)
        else:
            self.known.add(key)
            news.groups.append(Group(key, Case(culprit, self.plan.mode, zoo, isa, ahead), 1, tuple(lines)))

    def _engines(self, world: World, news: News) -> None:
        """Let the reference engine run the last program, as often as there is time for."""
        now = time.process_time()
        if self._reference_time > REFERENCE_SHARE * (now - self._began) or not hasattr(self, "_last"):
            return
        programs, zoo = self._last
        for program in programs[-1:]:
            judged = world.engines(program, zoo)
            if judged is not None and judged.key not in self.known:
                self.known.add(judged.key)
                news.groups.append(self._group(world, judged, program, zoo))
            elif judged is not None:
                news.again.append(judged.key)
        self._reference_time += time.process_time() - now

    # --- what is new ---
    def _keep(self, world: World, programs: list[bytes], fresh: set[object], edges: int, zoo: int, news: News) -> None:
        """Find the program that reaches what none has reached before; it becomes part of the corpus.

        Routes are few: they come first. Edges that no program reaches alone count as seen; those of other programs of
        the batch do not.
        """
        self.covered |= fresh
        self._looked += len(programs)
        while len(programs) > 1:
            half = programs[: len(programs) // 2]
            world.target.run(half, zoo)
            reached = self._reached(world, fresh, edges)
            programs = half if reached else programs[len(programs) // 2 :]
        # A batch begins again behind a program that ends the guest: none is changed into many others.
        ends_well = world.target.run(programs, zoo).end is End.DONE
        if not fresh:
            self.edges |= world.target.edges() & edges or edges
        if len(self.corpus) < CORPUS and ends_well and self._reached(world, fresh, edges):
            self.corpus.append(programs[0])
            news.corpus.append(programs[0])

    def _reached(self, world: World, fresh: set[object], edges: int) -> bool:
        return bool(world.target.covered() & fresh) if fresh else bool(world.target.edges() & edges)
