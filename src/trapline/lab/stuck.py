"""A hart that can do nothing any more: the first instruction of its trap handler traps itself. Told while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from trapline.privilege.causes import INTERRUPT, cause_name

if TYPE_CHECKING:
    from trapline.lang.state import Hart

EVERY = 0.3  # seconds between two looks; a hart that is there at two of them is told of


class Stuck:
    """Looks at harts now and then, from outside, and says it once."""

    def __init__(self, harts: Sequence[Hart], say: Callable[[str], object], *, guest: bool) -> None:
        self._harts, self._say, self._guest = harts, say, guest
        self._next = time.monotonic() + EVERY
        self._seen: dict[int, str] = {}
        self._told = False

    def __call__(self) -> None:
        """Look, if it is time."""
        if self._told or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + EVERY
        seen = {n: said for n, hart in enumerate(self._harts) if (said := stuck(hart, guest=self._guest))}
        for n, said in seen.items():
            if self._seen.get(n) == said and not self._told:
                self._told = True
                self._say(f"trapline: {'vCPU' if self._guest else 'hart'} {n} takes one trap for ever: {said}\n")
        self._seen = seen


def stuck(hart: Hart, *, guest: bool) -> str:
    """Return which trap a hart, or the guest on it, takes at the first instruction of its handler, or nothing."""
    level = "vs" if guest or int(hart.virt) else "m" if int(hart.priv) == 3 else "s"
    csr = hart.csr
    pc = int(csr.sepc if guest and not int(hart.virt) else hart.pc)  # the hypervisor may be looked at
    vector, epc, cause = (int(getattr(csr, level + name)) for name in ("tvec", "epc", "cause"))
    if cause & INTERRUPT or not pc == epc == vector & ~3:
        return ""
    return f"{cause_name(cause)} at {pc:#x}, where {level}tvec leads"
