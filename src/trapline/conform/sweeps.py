"""The sweeps that there are."""

from __future__ import annotations

from collections.abc import Sequence

from trapline.conform import sweep_calls, sweep_csrs, sweep_pmu, sweep_vcpus
from trapline.conform.sweep import Sweep
from trapline.lab.errors import UsageError
from trapline.lang.given import suggest


def sweeps() -> tuple[Sweep, ...]:
    """Return all of them."""
    csrs = (sweep_csrs.reads(), sweep_csrs.writes(), sweep_csrs.kept())
    return (*csrs, *sweep_calls.sweeps(), sweep_pmu.counters(), *sweep_vcpus.sweeps())


def named(names: Sequence[str] = ()) -> tuple[Sweep, ...]:
    """Return the sweeps of these names, all without any; UsageError names the one that does not exist."""
    known = {s.name: s for s in sweeps()}
    for name in names:
        if name not in known:
            raise UsageError(f"there is no sweep {name!r}", remedy=suggest(name, tuple(known)) or ", ".join(known))
    return tuple(known[n] for n in dict.fromkeys(names)) if names else tuple(known.values())
