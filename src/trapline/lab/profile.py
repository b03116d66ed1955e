"""`--profile FILE`: where harts were every so many instructions, by level and function."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from trapline.engine.api import Engine
from trapline.lab.errors import UsageError
from trapline.lab.output import behind_result, require_writable, write_text
from trapline.lab.symbols import Symbols
from trapline.lang.state import Hart
from trapline.machine.sampled import sampled
from trapline.privilege.modes import MODE_NAMES

OPTION = "--profile"
EVERY = 1_000_003  # instructions; a prime, so that no loop keeps step with it
COLLAPSED, SPEEDSCOPE = (".txt", ".folded"), ".json"
_SCHEMA = "https://www.speedscope.app/file-format-schema.json"
Stack = tuple[str, ...]


class Profile:
    """Samples of some harts: how often each was found in a mode at a pc."""

    def __init__(self, harts: Sequence[Hart], every: int = EVERY) -> None:
        self.harts, self.every = list(harts), every
        self.samples: Counter[tuple[int, int, int]] = Counter()  # hart, mode index, pc
        self._numbers = {id(hart): number for number, hart in enumerate(harts)}

    def around(self, engine: Engine) -> Engine:
        """Return an engine that takes the samples."""
        return sampled(engine, self.every, self._look)

    def _look(self, hart: Hart) -> None:
        self.samples[self._numbers[id(hart)], int(hart.priv) | int(hart.virt) << 2, int(hart.pc)] += 1

    def stacks(self, symbols: Symbols) -> Counter[Stack]:
        """Return the samples by hart, level and function; a page's address where no symbol is known."""
        vectors = (("M", "mtvec"), ("HS", "stvec"), ("VS", "vstvec"))
        symbols.settle({level: [int(getattr(h, name)) & ~3 for h in self.harts] for level, name in vectors})
        found: Counter[Stack] = Counter()
        for (number, mode, pc), count in self.samples.items():
            level = MODE_NAMES[mode]
            name = symbols.name(level, pc, exact=False) or f"{pc & ~0xFFF:#x}"
            found[f"hart {number}", level, name] += count
        return found


def collapsed(stacks: Counter[Stack]) -> str:
    """Return a line for each stack, as flamegraph.pl and speedscope read them: frames, and how many samples."""
    return "".join(f"{';'.join(f.replace(';', ':') for f in s)} {n}\n" for s, n in sorted(stacks.items()))


def speedscope(stacks: Counter[Stack], every: int) -> dict[str, Any]:
    """Return speedscope's file: a profile for each hart, weights in instructions."""
    frames = {name: at for at, name in enumerate(sorted({f for stack in stacks for f in stack}))}
    profiles = []
    for hart in sorted({stack[0] for stack in stacks}):
        own = sorted((s, n) for s, n in stacks.items() if s[0] == hart)
        profiles.append({
            "type": "sampled", "name": hart, "unit": "none", "startValue": 0,
            "endValue": every * sum(n for _, n in own),
            "samples": [[frames[f] for f in s[1:]] for s, _ in own],
            "weights": [every * n for _, n in own],
        })  # fmt: skip
    return {"$schema": _SCHEMA, "shared": {"frames": [{"name": name} for name in frames]}, "profiles": profiles}


def check_profile(path: str | None, every: int | None, *, debugged: bool) -> None:
    """Refuse what makes no sense, or cannot be written, before anything runs."""
    if path is None:
        if every is not None:
            raise UsageError("needs a file", "--profile-every", "--profile FILE")
        return
    if Path(path).suffix.lower() not in (*COLLAPSED, SPEEDSCOPE):
        endings = ".txt or .folded for collapsed stacks, .json for speedscope"
        raise UsageError(f"{path!r} does not say in which format", OPTION, f"its name ends in {endings}")
    if debugged:
        raise UsageError("goes without a debugger", OPTION)
    require_writable(path, OPTION)


@contextlib.contextmanager
def profiled(profile: Profile, path: str, symbols: Symbols) -> Iterator[None]:
    """Write the profile at the end of the block, however it ends."""
    try:
        yield
    finally:
        stacks = profile.stacks(symbols)
        as_json = Path(path).suffix.lower() == SPEEDSCOPE
        text = json.dumps(speedscope(stacks, profile.every)) + "\n" if as_json else collapsed(stacks)
        with behind_result():
            write_text(text, path, OPTION)
