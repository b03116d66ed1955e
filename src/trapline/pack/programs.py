"""The programs of the pack, by name, and how they are written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from trapline.lab.errors import UsageError
from trapline.lang.given import suggest
from trapline.pack import access, environment, exceptions, interrupts, priorities, returns, virtual, walks, warl
from trapline.pack.build import FINISHER, UART, build
from trapline.pack.rows import Case, Options, unique

MADE: dict[str, tuple[str, Callable[[Options], Iterable[Case]]]] = {
    "exceptions": ("each cause by medeleg, hedeleg and mode, with all fields of the trap", exceptions.cases),
    "interrupts": (
        "each interrupt by mideleg, hideleg, mode and enable; hvip, vsip and their aliases",
        interrupts.cases,
    ),
    "priorities": ("which of several pending interrupts is taken, at each level and across them", priorities.cases),
    "warl": ("what the registers of delegation must hold, and must not", warl.cases),
    "virtual": ("virtual against illegal instruction, by TVM, TW, TSR, VTVM, VTW, VTSR and counters", virtual.cases),
    "hlv": ("HLV, HSV, HLVX and the guest's accesses through two stages, and their faults", access.hlv),
    "walks": ("A and D bits by ADUE, PBMT, implicit accesses, tables of three to five levels", walks.cases),
    "environment": ("menvcfg and henvcfg, Sstc's gates and timers, VGEIN and GEILEN, CBO", environment.cases),
    "mprv": ("loads and stores of M-mode under MPRV with MPV", access.mprv),
    "returns": ("MRET and SRET: the mode they enter by MPV and MPP, SPV and SPP", returns.cases),
}
TIED = ("xtval", "htval", "hedeleg-19")


@dataclass(frozen=True, slots=True)
class Program:
    """A program of the pack."""

    name: str
    what: str
    cases: tuple[Case, ...]

    @property
    def checks(self) -> int:
        """How many fields are compared, if no case is skipped."""
        return sum(len(case.checks) for case in self.cases)


def programs(options: Options, only: Iterable[str] = ()) -> list[Program]:
    """Return the programs, or those named; UsageError if there is none of a name."""
    only = tuple(only)
    for name in only:
        if name not in MADE:
            remedy = suggest(name, list(MADE)) or f"there are {', '.join(MADE)}"
            raise UsageError(f"no program {name!r}", "--only", remedy)
    letters = options.isa.lower().split("_")[0]
    if not letters.startswith("rv64") or "h" not in letters:
        raise UsageError(f"{options.isa!r}", "--isa", "the programs are for rv64 with h, such as rv64gch_zicntr")
    for name in options.zero - set(TIED):
        raise UsageError(f"{name!r}", "--zero", f"it takes {', '.join(TIED)}")
    return [Program(n, what, unique(make(options))) for n, (what, make) in MADE.items() if not only or n in only]


def write(folder: Path, made: Iterable[Program], uart: int = UART, finisher: int = FINISHER) -> list[Path]:
    """Write an ELF for each program and return their paths; UsageError if the folder cannot be written."""
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for program in made:
            paths.append(folder / f"{program.name}.elf")
            paths[-1].write_bytes(build(program.cases, uart, finisher))
    except OSError as error:
        raise UsageError(f"cannot write {str(folder)!r}: {error.strerror}") from None
    return paths
