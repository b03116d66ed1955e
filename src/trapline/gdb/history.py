"""A run's way back: checkpoints along it, and running forward from one of them to where it is wanted.

A place is counted in instructions that all CPUs have attempted. The run is deterministic, so what happens between two
checkpoints happens again exactly; the console does not show it a second time, and input comes from its log.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trapline.session.state.checkpoint import Checkpoint, CheckpointError

if TYPE_CHECKING:
    from trapline.engine.stop_points import Stopped
    from trapline.gdb.target import Target

SLICES = 10  # turns of the engine between two checkpoints of a run that goes on
MOST = 32  # checkpoints; then those of the far past become fewer
PARTS = 16  # into which a stretch is cut to find its last stop
SHORT = 2_000  # instructions in which all stops are looked at


class Interrupted(Exception):
    """The client wants the run held, or it ended: it is wherever it is."""


@dataclass(frozen=True, slots=True)
class Place:
    """A checkpoint. `changed`: somebody has written registers or memory here, so no run from before leads to it."""

    point: Checkpoint
    position: int
    attempts: tuple[int, ...]
    changed: bool


class History:
    """The past of one run, from when a client came."""

    def __init__(self, target: Target, held: Callable[[], bool] = lambda: False) -> None:
        """`held`: whether the client has asked for an end of the way that is under way."""
        self._target, self._machine, self._held_now = target, target.machine, held
        self.slice = SLICES * int(target.turn)
        self.begun = False
        self._places: list[Place] = []

    # --- keeping it ---
    def begin(self) -> bool:
        """Remember the run from here on; return whether it can go back at all."""
        self.begun = True
        try:
            self._mark()
        except CheckpointError:
            return False
        return True

    def forget(self) -> None:
        """Nobody goes back any more."""
        for place in self._places:
            place.point.drop()
        self._places.clear()
        self.begun = False

    def leave(self) -> None:
        """The run is about to go on from where it was held."""
        if not self._places:
            return
        changed, self._target.changed = self._target.changed, False
        if changed or self._target.position() - self._places[-1].position >= self.slice:
            self._mark(changed=changed)
        while len(self._places) > MOST:
            self._thin()

    def mark(self) -> None:
        """The run has made a slice."""
        if self._places:
            self._mark()
        while len(self._places) > MOST:
            self._thin()

    def _mark(self, *, changed: bool = False) -> Place:
        harts = self._target.harts
        found = Place(
            self._machine.checkpoint(), self._target.position(), tuple(int(h.instret) for h in harts), changed
        )
        self._places.append(found)
        return found

    def _thin(self) -> None:
        """Drop the checkpoint that leaves the smallest hole for its age."""
        now, places = self._places[-1].position, self._places
        holes = [
            ((after.position - before.position) / (now - place.position + 1), number)
            for number, (before, place, after) in enumerate(zip(places, places[1:], places[2:], strict=False), 1)
            if not place.changed
        ]
        number = min(holes)[1] if holes else 0
        places.pop(number).point.drop()

    # --- going back ---
    def back_step(self, cpu: int) -> bool:
        """Undo the last attempt of a CPU; False, at the beginning, if there is none."""
        wanted = int(self._target.harts[cpu].instret) - 1
        place = next((p for p in reversed(self._places) if p.attempts[cpu] <= wanted), None)
        if place is None:
            self._to(self._places[0])
            return False
        self._to(place)
        with self._target.stops.counting():
            while int(self._target.harts[cpu].instret) < wanted:
                self._run(None, (cpu, wanted))
        return True

    def restart(self) -> str:
        """Go back to the beginning of the run; return what a client is told. What came after is gone."""
        if not self._places:
            return "this run cannot go back: start it again\n"
        if self._places[0].position:
            return "the beginning of this run is not remembered: --gdb-wait (-S) does that\n"
        self._to(self._places[0])
        return "the run is at its beginning\n"

    def back_continue(self) -> Stopped | None:
        """Go back to the last stop before now; without one, to the beginning. What the stop was."""
        end = now = self._target.position()
        if not list(self._target.stops):
            self._to(self._places[0])
            return None
        with self._target.stops.recounted():
            for place in reversed(self._places.copy()):
                if place.position >= now:
                    continue
                stopped = self._last_between(place, end, now)
                if stopped is not None:
                    return stopped
                end = place.position
        self._to(self._places[0])
        return None

    def _last_between(self, place: Place, end: int, now: int) -> Stopped | None:
        """Find the last stop from a place to `end`, and leave the run there."""
        self._to(place)
        if end - place.position <= SHORT:
            return self._last_of_all(place, end, now)
        places, counts = [place], [self._hits()]
        size = max(SHORT, (end - place.position) // PARTS)
        with self._target.stops.counting():
            while (at := self._target.position()) < end:
                self._run_to(min(end, at + size))
                counts.append(self._hits())
                if self._target.position() < end:
                    places.append(self._mark())
        ends = [*(p.position for p in places[1:]), end]
        for part, before, after, until in reversed(list(zip(places, counts[:-1], counts[1:], ends, strict=True))):
            if after > before:
                stopped = self._last_between(part, until, now)
                if stopped is not None:
                    return stopped
        return None

    def _last_of_all(self, place: Place, end: int, now: int) -> Stopped | None:
        wanted, number, found = 0, 0, None
        while (stopped := self._next_stop(end)) is not None:
            number += 1
            at = self._target.position()
            if at < now or (at == now and stopped.stop.kind == "watch"):
                wanted = number
        self._to(place)
        for _ in range(wanted):
            found = self._next_stop(end)
        return found

    def _next_stop(self, end: int) -> Stopped | None:
        while (at := self._target.position()) <= end:
            # One more: what stops before the instruction at the end is found, too.
            reason = self._run(end - at + 1)
            if reason == "stop":
                return self._target.stopped_by if self._target.position() <= end else None
            if reason == "limit":
                return None
        return None

    def _hits(self) -> int:
        return sum(stop.count for stop in self._target.stops)

    # --- running again ---
    def _to(self, place: Place) -> None:
        """Put the run back to a checkpoint, and let it stop there for what it stopped for."""
        self._machine.rewind(place.point, quiet=True)
        del self._places[self._places.index(place) + 1 :]
        self._target.changed = False
        for hart in self._target.harts:
            hart.stop_pass_at = 0

    def _run_to(self, position: int) -> None:
        while (at := self._target.position()) < position:
            self._run(position - at)

    def _run(self, most: int | None, goal: tuple[int, int] | None = None) -> str:
        """Run on; come back where input arrived, so that it arrives there again."""
        due = self._machine.console.source.next_position()
        if due is not None and int(self._target.harts[0].instret) < due[0] and (goal is None or goal > (0, due[0])):
            goal = 0, due[0]
        self._target.step_to(*(goal or (0, None)))
        try:
            result: Any = self._machine.run(most)
        finally:
            self._target.step_to(0, None)
        # A run that was over for its own reason keeps that one; without a client there is no past any more.
        if result.reason not in ("stop", "step", "limit") or self._held_now() or not self.begun:
            raise Interrupted(result.reason)
        return str(result.reason)
