"""Which CSR a random instruction may name in which mode, and which of those it may write."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from random import Random

from trapline.privilege.csr_numbers import CSR_BY_NAME

# Read and written by the runtime's handlers: losing one loses the stream.
_MACHINE_OWN = {"mtvec", "pmpcfg0", "pmpaddr3", "pmpaddr4", "pmpaddr5"}
_HOST_OWN = {"stvec", "satp"}
_GUEST_OWN = {"vstvec", "vsatp", "hgatp"}
_ACCEPTED = tomllib.loads((Path(__file__).parent / "accepted.toml").read_text())["difference"]
# What implementations may choose, or what depends on time: never read, never written.
EXCLUDED = {name for difference in _ACCEPTED for name in difference.get("csrs", ())}
NOT_IN_M = {name for difference in _ACCEPTED for name in difference.get("machine_csrs", ())}
UNIMPLEMENTED = frozenset({0x7A5})
# A write changes translation: fence.
_TRANSLATION = {"satp", "vsatp", "hgatp", "menvcfg", "henvcfg"}
# Bits that implementations may choose: never set.
MASKED: dict[str, int] = {k: v for difference in _ACCEPTED for k, v in difference.get("masked", {}).items()}


@dataclass(frozen=True, slots=True)
class CsrChoice:
    """One access: the CSR's number, whether it may be written, whether fences must follow."""

    number: int
    write: bool
    fence: bool
    masked: int = 0  # bits not to write


class CsrChooser:
    """Draws CSRs: those that exist, mostly those of the mode, and some numbers that do not exist."""

    def __init__(self) -> None:
        self.names = {n: c for n, c in CSR_BY_NAME.items() if n not in EXCLUDED and not n.endswith("scratch")}
        self.levels: dict[int, list[str]] = {level: [] for level in range(4)}
        for name, number in self.names.items():
            if number not in UNIMPLEMENTED:
                self.levels[number >> 8 & 3].append(name)
        self.unnamed = [n for n in range(4096) if n not in set(CSR_BY_NAME.values()) and n not in UNIMPLEMENTED]

    @staticmethod
    def number(name: str) -> int:
        """Return a CSR's number (the scratch registers are drawn by no access: they hold the handlers' save areas)."""
        return CSR_BY_NAME[name]

    def choose(self, rng: Random, mode: str, travels: bool, translation_trapped: bool) -> CsrChoice:
        """Return a CSR for an access that the code believes to be in `mode`."""
        if rng.random() < 0.04:
            return CsrChoice(rng.choice(self.unnamed), rng.random() < 0.5, False)
        weights = {"M": (2, 4, 5, 8), "HS": (2, 6, 8, 1), "VS": (2, 8, 2, 1)}.get(mode, (6, 2, 1, 1))
        name = rng.choice(self.levels[rng.choices(range(4), weights)[0]])
        while mode == "M" and name in NOT_IN_M:
            name = rng.choice(self.levels[3])
        fence = name in _TRANSLATION or name.startswith("pmp")
        return CsrChoice(
            self.names[name], self._may_write(name, mode, travels, translation_trapped), fence, MASKED.get(name, 0)
        )

    @staticmethod
    def _may_write(name: str, mode: str, travels: bool, translation_trapped: bool) -> bool:
        if travels:  # the code may be in a higher mode than it believes
            return name not in _MACHINE_OWN | _HOST_OWN | _GUEST_OWN | {"mstatus", "medeleg"}
        if mode == "M":
            return name not in _MACHINE_OWN
        if mode == "HS":
            return name not in _HOST_OWN and not (translation_trapped and name in ("vsatp", "hgatp"))
        return name not in _HOST_OWN
