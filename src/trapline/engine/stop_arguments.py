"""What is asked of a stop: modes, causes, levels and address spaces as people name them."""

from __future__ import annotations

from collections.abc import Sequence

from trapline.engine.observe import stops as layout
from trapline.lang.given import near, require_kind, short, whole
from trapline.privilege.causes import CAUSE_NAMES, INTERRUPT, INTERRUPT_NAMES
from trapline.privilege.csr_numbers import CSR_BY_NAME
from trapline.privilege.modes import MODE_BY_NAME

ALL_MODES = 0xFF
CAUSES = {name: code for code, name in CAUSE_NAMES.items()} | {n: INTERRUPT | c for c, n in INTERRUPT_NAMES.items()}


def mode_numbers(names: Sequence[str]) -> list[int]:
    """Return the numbers of modes by name, of all without."""
    return [MODE_BY_NAME[name] for name in known("mode", names, tuple(MODE_BY_NAME)) or MODE_BY_NAME]


def known(what: str, names: Sequence[str], known: tuple[str, ...]) -> list[str]:
    """Return names that there are, of which one goes without a list."""
    given = [names] if isinstance(names, str) else names
    require_kind(f"{what}s", given, list, tuple, set, frozenset)
    for name in given:
        if name not in known:
            raise ValueError(f"no {what} is called {short(name)}: {', '.join(known)}")
    return list(given)


def stop_cause(cause: str | int) -> int:
    """Return a cause, which may be a name, as in xcause; ValueError for one that no hart takes."""
    if isinstance(cause, str):
        if cause not in CAUSES:
            raise ValueError(f"no cause is called {short(cause)}{near(cause, CAUSES)}")
        return CAUSES[cause]
    require_kind("cause", cause, int, str)
    whole("cause", cause)
    if cause & ~INTERRUPT > 31:
        raise ValueError(f"{cause:#x} is no cause: a hart takes 0 to 31, and {INTERRUPT:#x} more for an interrupt")
    return cause


def csr_number(csr: str | int) -> int:
    """Return the number of a CSR, which may be a name; ValueError for one that is none."""
    if isinstance(csr, str):
        if csr not in CSR_BY_NAME:
            raise ValueError(f"no CSR is called {short(csr)}{near(csr, CSR_BY_NAME)}")
        return CSR_BY_NAME[csr]
    return whole("number", csr, 0, 4095)


def masked(pair: tuple[int, int]) -> tuple[int, int]:
    """(mask, value) of satp, vsatp or hgatp."""
    require_kind("space and guest", pair, tuple, list)
    if len(pair) != 2:
        raise ValueError(f"space and guest are (mask, value), not {short(pair)}")
    return whole("mask", pair[0]), whole("value", pair[1])


def passed(ignore: int, counting: bool) -> int:
    """Return how many hits do not end a run."""
    return layout.EVER if counting else whole("ignore", ignore, 0, layout.EVER)


def mode_bits(names: Sequence[str]) -> int:
    """Return modes as bits."""
    return sum(1 << number for number in set(mode_numbers(names))) if names else ALL_MODES
