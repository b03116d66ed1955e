"""`trapline conform --firmware`: what an M-mode image does with every trap, and which model it is most like."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trapline.conform.firmware_probes import PROBES
from trapline.conform.firmware_run import Board, FirmwareSeen, Seen
from trapline.engine.api import Engine
from trapline.firmware.models import MODELS, FirmwareModel, model
from trapline.lab.errors import UsageError
from trapline.lang.given import suggest
from trapline.plain import plain
from trapline.privilege.isa_string import DEFAULT_ISA

# What a model states of the set-up; the rest is shown only.
COMPARED = ("medeleg", "mideleg", "mcounteren", "menvcfg", "mstateen0")
ISA = f"{DEFAULT_ISA}_zcb"
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Difference:
    """A field in which the image and the model differ; `event` is empty for the set-up."""

    event: str
    mode: str
    hedeleg: int
    field: str
    real: str
    model: str


@dataclass(frozen=True, slots=True)
class FirmwareReport:
    """What an image does, the model that it is compared with, and where they differ."""

    path: str
    real: FirmwareSeen
    against: FirmwareModel
    other: FirmwareSeen
    named: bool  # the user named the model; else it is the nearest
    differences: tuple[Difference, ...]
    distances: tuple[tuple[str, int], ...]  # of every model that was tried

    @property
    def passed(self) -> bool:
        """Whether nothing differs from a model that was named."""
        return not (self.named and self.differences)

    def as_data(self) -> dict[str, Any]:
        models = {seen.key: seen for seen in self.other.events}
        of_event = "event=probe group from=mode hedeleg how to cause"
        return {
            **plain(self, "firmware=path console=real.console instructions_to_s_mode=real.instructions"),
            "set_up": dict(self.real.set_up),
            **plain(self, "model=against.name named passed"),
            "distances": dict(self.distances),
            "differences": [plain(d, "event from=mode hedeleg field real model") for d in self.differences],
            "events": [
                {
                    **plain(e, of_event), "fields": dict(e.fields), **plain(e, "result where instructions"),
                    "model_instructions": models[e.key].instructions,
                }
                for e in self.real.events
            ],
        }  # fmt: skip


def conform_firmware(
    path: str | Path,
    *,
    against: str | None = None,
    event: str | None = None,
    isa: str | None = None,
    misaligned: str = "trap",
    entry: int | None = None,
    engine: str | Engine = "native",
    progress: Progress | None = None,
) -> FirmwareReport:
    """Ask an M-mode image, then the models (or the one that is named), and compare.

    `event` is a regular expression over the names of events. UsageError: the image never starts S-mode, or no event
    has such a name.
    """
    wanted = _chooser(event)
    if against is not None and against not in MODELS:
        remedy = suggest(against, list(MODELS)) or f"there are {', '.join(MODELS)}"
        raise UsageError(f"no model {against!r}", "--firmware-model", remedy)
    chosen = [model(against)] if against is not None else list(MODELS.values())
    total = 1 + len(chosen)

    def asked(board: Board, name: str, number: int) -> FirmwareSeen:
        def step(done: int, of: int) -> None:
            if progress is not None:
                progress(number * of + done, total * of, name)

        set_up = board.set_up()
        printed = bytes(board.printed).decode(errors="replace")
        return FirmwareSeen(name, printed, board.came, set_up, tuple(board.events(wanted, step)))

    hart = isa or ISA
    with Board(hart, misaligned, engine, **({} if entry is None else {"entry": entry})) as board:
        board.boot(Path(path))
        real = asked(board, Path(path).name, 0)
    compared = []
    for number, one in enumerate(chosen, 1):
        with Board(hart, misaligned, engine) as board:
            board.model(one)
            seen = asked(board, one.name, number)
        compared.append((differences(real, seen), one, seen))
    best = min(compared, key=lambda entry: len(entry[0]))
    distances = tuple((one.name, len(found)) for found, one, _ in compared)
    return FirmwareReport(str(path), real, best[1], best[2], against is not None, best[0], distances)


def _chooser(event: str | None) -> Callable[[str], bool]:
    try:
        expression = re.compile(event or "", re.IGNORECASE)
    except re.error as error:
        raise UsageError(f"{event!r} is no regular expression: {error}", "--event") from None
    if not any(expression.search(probe.name) for probe in PROBES):
        raise UsageError(f"no event {event!r}", "--event", "`trapline conform --firmware FILE` shows their names")
    return lambda name: expression.search(name) is not None


def differences(real: FirmwareSeen, other: FirmwareSeen) -> tuple[Difference, ...]:
    """Return what differs: of the set-up what a model states, and of each event all but its cost."""
    there = dict(other.set_up)
    found = [
        Difference("", "", 0, name, f"{value:#x}", f"{there[name]:#x}")
        for name, value in real.set_up
        if name in COMPARED and value != there[name]
    ]
    by_key = {seen.key: seen for seen in other.events}
    for one in real.events:
        found += _of_event(one, by_key[one.key])
    return tuple(found)


def _of_event(real: Seen, other: Seen) -> list[Difference]:
    def differ(field: str, here: str, there: str) -> Difference:
        return Difference(real.probe, real.mode, real.hedeleg, field, here, there)

    if (real.how, real.to, real.cause) != (other.how, other.to, other.cause):
        return [differ("route", route(real), route(other))]
    there = dict(other.fields)
    found = [differ(name, value, there[name]) for name, value in real.fields if value != there[name]]
    if real.result != other.result:
        found.append(differ("result", _words(real.result), _words(other.result)))
    return found


def route(seen: Seen) -> str:
    """Return in words who got an event."""
    if seen.how in ("hung", "ended"):
        return seen.how
    if seen.how in ("emulated", "runs", "sbi"):
        return seen.how
    return f"{seen.how} to {seen.to}: {seen.cause}"


def _words(result: tuple[int, ...]) -> str:
    return " ".join(f"{n:#x}" for n in result)
