"""`--log exec,int,mmu,sbi`: what harts do as lines of text, with the names that QEMU's -d has."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from trapline.engine.api import Engine
from trapline.lab.errors import UsageError
from trapline.lab.symbols import Symbols
from trapline.lang.given import suggest
from trapline.lang.state import Hart
from trapline.machine.sampled import sampled
from trapline.privilege.causes import (
    ACCESS_FAULTS,
    ECALL_HS,
    ECALL_VS,
    GUEST_PAGE_FAULTS,
    INTERRUPT,
    PAGE_FAULTS,
    cause_name,
)
from trapline.privilege.modes import mode_name
from trapline.session.observe.trace import Traced

OPTION = "--log"
ITEMS = ("exec", "int", "mmu", "sbi")
_FAULTS = ACCESS_FAULTS + PAGE_FAULTS + GUEST_PAGE_FAULTS
_CALLS = {ECALL_HS: "HS", ECALL_VS: "VS"}  # causes of calls to the level below
_DEEPEST = 64


class Out(Protocol):
    """Where text goes."""

    def write(self, text: str, /) -> Any:
        """Write some."""


def parse_log(text: str | None, file: str | None) -> tuple[frozenset[str], str | None]:
    """Return the items of the option's value, ITEMS[:FILE], and the file; UsageError says which word is wrong."""
    if text is None:
        if file is not None:
            raise UsageError("needs to know what", "--log-file", f"--log {','.join(ITEMS)}")
        return frozenset(), None
    items, colon, named = text.partition(":")
    if colon and not named:
        raise UsageError(f"{text[:40]!r} names no file behind the colon", OPTION, "--log ITEMS:FILE")
    if colon and file is not None:
        raise UsageError(f"two files: {named[:60]!r} and {file[:60]!r} (--log-file)", OPTION, "give one of them")
    for word in items.split(","):
        if word not in ITEMS:
            raise UsageError(f"no item is called {word[:40]!r}{suggest(word, ITEMS, ': ')}", OPTION, ", ".join(ITEMS))
    return frozenset(items.split(",")), named if colon else file


class LogText:
    """Writes the lines of some items; `symbols` name the code."""

    def __init__(self, items: frozenset[str], out: Out | None, symbols: Symbols) -> None:
        self._items, self._out, self._symbols = items, out or sys.stderr, symbols
        self._calls: dict[tuple[int, str], list[Traced | None]] = {}

    def write(self, found: Sequence[Traced]) -> None:
        """Write what is wanted of some traps and returns."""
        self._out.write("".join(line + "\n" for t in found for line in self._lines(t)))

    def text(self, line: str) -> None:
        """Write a line that is ready."""
        self._out.write(line + "\n")

    def end(self) -> None:
        """Write the calls that have not come back."""
        if "sbi" in self._items:
            from trapline.lab.trace.log_calls import call_text

            open_ = [t for calls in self._calls.values() for t in calls if t is not None]
            self._out.write("".join(f"{call_text(t)} = ?\n" for t in open_))

    def _lines(self, t: Traced) -> list[str]:
        lines = []
        if "sbi" in self._items:
            lines += self._call(t)
        if t.returns:
            return lines
        if "int" in self._items:
            lines.append(self._trap(t))
        if "mmu" in self._items and t.cause in _FAULTS:
            gpa = f", gpa:{t.tval2 << 2:#018x}" if t.tval2 else ""
            lines.append(f"mmu: hart:{t.hart}, {cause_name(t.cause)}, va:{t.tval:#018x}{gpa}, {self._where(t)}")
        return lines

    def _trap(self, t: Traced) -> str:
        number, asynchronous = t.cause & ~INTERRUPT, int(t.cause >= INTERRUPT)
        words = f"cause:{number:016x}, epc:{t.epc:#018x}, tval:{t.tval:#018x}, desc={cause_name(t.cause)}"
        return f"int: hart:{t.hart}, async:{asynchronous}, {words}, to={t.level}, {self._where(t)}"

    def _where(self, t: Traced) -> str:
        name = self._symbols.name(t.mode, t.epc)
        return f"from={t.mode}, pc:{t.epc:#018x}" + (f" {name}" if name else "")

    def _call(self, t: Traced) -> list[str]:
        calls = self._calls.setdefault((t.hart, t.level), [])
        if not t.returns:
            calls.append(t if t.cause in _CALLS and t.mode == _CALLS[t.cause] else None)
            del calls[:-_DEEPEST]
            return []
        call = calls.pop() if calls else None
        if call is None:
            return []
        from trapline.lab.trace.log_calls import call_text, result_text  # the SBI's tables, only where calls are told

        return [f"{call_text(call)} = {result_text(call, t)}"]


def exec_log(engine: Engine, harts: Sequence[Hart], symbols: Symbols, line: Callable[[str], None]) -> Engine:
    """Return an engine that tells each block of code that is entered: where pc does not follow what was before."""
    before = {id(hart): (number, 0) for number, hart in enumerate(harts)}

    def look(hart: Hart) -> None:
        (number, last), pc = before[id(hart)], int(hart.pc)
        before[id(hart)] = number, pc
        if pc - last not in (2, 4):
            mode = mode_name(hart)
            name = symbols.name(mode, pc)
            line(f"exec: hart:{number}, {mode}, pc:{pc:#018x}" + (f" {name}" if name else ""))

    return sampled(engine, 1, look)
