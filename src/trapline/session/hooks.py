"""What a run tells Python: code that is reached, accesses, traps, text on the console; filtered in native code.

A hook is a stop (engine.stop_points). Without a function it only counts, in native code, and the run goes on. With one
the function is called where the hart came back; what it returns decides whether the run ends there. What it raises
reaches whoever called `run`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

from trapline.dataclass import dataclass, field
from trapline.lang.given import Named, suggest
from trapline.privilege.causes import cause_name
from trapline.privilege.fields import HSTATUS_SPV, MSTATUS_MPP_SHIFT, MSTATUS_MPV, MSTATUS_SPP
from trapline.privilege.modes import MACHINE, MODE_NAMES

if TYPE_CHECKING:
    from trapline.engine.stop_points import Stop, Stopped, Stops
    from trapline.lang.state import Hart
    from trapline.session.terminal.console import Console

Answer = Callable[[Any], object]
Until = str | int | bytes | Answer | None


@dataclass(frozen=True, slots=True)
class Hit:
    """Code that is about to be executed at `address`, or an access there, which the instruction at `pc` has made.

    `hart` is its state, `number` which one it is, `instret` the instructions that it had attempted.
    """

    hart: Hart = field(repr=False)
    number: int
    address: int
    pc: int
    instret: int


@dataclass(frozen=True, slots=True)
class TakenTrap(Hit):
    """A trap that a hart has taken, before its handler's first instruction (Privileged spec, xcause, xepc, xtval).

    `origin` is the mode that it came from (U, HS, M, VU, VS), `destination` the level that handles it (M, HS, VS).
    """

    cause: int
    origin: str
    destination: str
    epc: int
    tval: int

    @property
    def name(self) -> str:
        """The cause's name, as policies spell it."""
        return cause_name(self.cause)


class Hook(Named):
    """Something that a run tells of. `count` says how often it happened; `remove` ends it."""

    def __init__(self, stops: Stops | None, stop: Stop | None, console: Console | None = None) -> None:
        self._stops, self.stop, self._console = stops, stop, console
        self.hits = 0
        self._complete = True

    @property
    def count(self) -> int:
        """How often it happened."""
        return self.hits if self.stop is None else self.stop.count

    def remove(self) -> None:
        """Tell of it no more."""
        if self._stops is not None and self.stop in tuple(self._stops):
            assert self.stop is not None
            self._stops.remove(self.stop)
        if self._console is not None:
            self._console.forget(self)

    def __enter__(self) -> Hook:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def __repr__(self) -> str:
        return f"<Hook on {self.stop.kind if self.stop is not None else 'console'}, {self.count} times>"


class Hooked:
    """A machine with hooks. `_hook_parts` says where its stops, symbols and console are."""

    closed = False

    def _hook_parts(self) -> tuple[Stops, dict[str, int], Console | None]:
        raise LookupError("a machine without stops")

    def address_of(self, where: str | int) -> int:
        """Return an address, which may be a symbol of the program; ValueError names those that are like it."""
        if isinstance(where, int):
            if not 0 <= where < 1 << 64:
                raise ValueError(f"{where:#x}: an address is 0 to 2**64 - 1")
            return where
        if not isinstance(where, str):
            raise TypeError(f"{where!r} is neither an address nor the name of a symbol")
        symbols = self._hook_parts()[1]
        if where not in symbols:
            hint = suggest(where, symbols) or "load an ELF file with symbols, or give an address"
            raise ValueError(f"no symbol is called {where!r} ({hint})")
        return symbols[where]

    def on_code(
        self, where: str | int, function: Answer | None = None, *, modes: Sequence[str] = (), physical: bool = False
    ) -> Hook:
        """Tell of each time that an instruction is reached: an address, virtual unless `physical`, or a symbol.

        `function` gets a `Hit`; the run ends there if it returns True. Without one it is counted.
        """
        _require_callable(function)
        stops, at = self._hook_parts()[0], self.address_of(where)
        stop = stops.breakpoint(at, modes=modes, physical=physical, counting=function is None)
        return self._hook(stop, function)

    def on_access(
        self,
        where: str | int,
        function: Answer | None = None,
        *,
        size: int = 8,
        read: bool = False,
        write: bool = True,
        modes: Sequence[str] = (),
        physical: bool = False,
    ) -> Hook:
        """Tell of accesses to `size` bytes at an address, virtual unless `physical`, or a symbol, behind each.

        `function` gets a `Hit`.
        """
        _require_callable(function)
        stops, at, counting = self._hook_parts()[0], self.address_of(where), function is None
        stop = stops.watch(at, size, read=read, write=write, modes=modes, physical=physical, counting=counting)
        return self._hook(stop, function)

    def on_csr(self, csr: str | int, function: Answer | None = None, *, modes: Sequence[str] = ()) -> Hook:
        """Tell of instructions that are about to write a CSR (`Stops.catch_csr`); `function` gets a `Hit`."""
        _require_callable(function)
        stop = self._hook_parts()[0].catch_csr(csr, modes=modes, counting=function is None)
        return self._hook(stop, function)

    def on_trap(
        self,
        function: Answer | None = None,
        *,
        causes: Iterable[str | int] | str | int = (),
        origins: Sequence[str] | str = (),
        destinations: Sequence[str] | str = (),
    ) -> Hook:
        """Tell of traps that a hart has taken, delegated ones too; `function` gets a `TakenTrap`.

        Causes are names or numbers as in xcause, one or several; origins U, HS, M, VU, VS; destinations M, HS, VS. All
        without.
        """
        _require_callable(function)
        wanted, came, went = _several(causes), _several(origins), _several(destinations)
        counting = function is None
        stop = self._hook_parts()[0].catch_trap(wanted, origins=came, destinations=went, counting=counting)
        return self._hook(stop, function)

    def on_console(self, text: str | bytes, function: Answer | None = None) -> Hook:
        """Tell of each time that a text appears on the console; `function` gets `Printed`."""
        _require_callable(function)
        if not isinstance(text, str | bytes):
            raise TypeError(f"{text!r} is no text")
        console = self._hook_parts()[2]
        if console is None:
            raise ValueError("a VM without a user space has no console: use Guest")
        hook = Hook(None, None, console)
        wanted = text.encode() if isinstance(text, str) else text
        console.tell(hook, wanted, function or (lambda printed: False), lambda: self._stop_at_text(wanted))
        return hook

    def _stop_at_text(self, text: bytes) -> None:
        """A hook on the console ends the run."""
        raise LookupError("a machine without a console")

    def _hook(self, stop: Stop, function: Answer | None) -> Hook:
        if function is not None:
            stop.action = function
        return Hook(self._hook_parts()[0], stop)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> object:
        """Give back what it has of the host."""

    def _require_open(self) -> None:
        if self.closed:
            raise ValueError("the machine is closed: make a new one")

    def _limit(self, most: int | None, limit: int | None) -> int | None:
        """The limit of a run that may be given by two names."""
        self._require_open()
        if most is not None and limit is not None:
            raise TypeError("limit is another name of max_instructions: give one of them")
        wanted = most if limit is None else limit
        if wanted is not None and not isinstance(wanted, int):
            raise TypeError(f"{wanted!r} is no number of instructions")
        if wanted is not None and wanted < 0:
            raise ValueError(f"{wanted} is no number of instructions")
        return wanted

    @contextlib.contextmanager
    def _until(self, until: Until) -> Iterator[None]:
        """In the block a run ends at an address, a symbol, a text on the console, or a trap that a function chooses."""
        if until is None:
            yield
            return
        if callable(until):
            hook = self.on_trap(until)
        elif isinstance(until, bytes):
            hook = self.on_console(until, lambda printed: True)
        else:
            hook = self.on_code(until, lambda hit: True)
        with hook:
            yield


def goes_on(stopped: Stopped, hart: Hart) -> bool:
    """Let the hook of a stop see it; return whether the run goes on all the same."""
    action = stopped.stop.action
    return action is not None and not action(_event(stopped, hart))


def _event(stopped: Stopped, hart: Hart) -> Hit:
    instret = int(hart.instret)
    if stopped.stop.kind != "trap":
        pc = stopped.pc if stopped.stop.kind == "watch" else stopped.address
        return Hit(hart, stopped.hart, stopped.address, pc, instret)
    status, hstatus, vsstatus = int(hart.mstatus), int(hart.hstatus), int(hart.vsstatus)
    if hart.priv == MACHINE:
        origin = status >> MSTATUS_MPP_SHIFT & 3
        origin |= 4 if status & MSTATUS_MPV and origin != MACHINE else 0
        found = "M", hart.mcause, hart.mepc, hart.mtval
    elif hart.virt == 0:
        origin = (1 if status & MSTATUS_SPP else 0) | (4 if hstatus & HSTATUS_SPV else 0)
        found = "HS", hart.scause, hart.sepc, hart.stval
    else:
        origin = 4 | (1 if vsstatus & MSTATUS_SPP else 0)
        found = "VS", hart.vscause, hart.vsepc, hart.vstval
    to, cause, epc, tval = found[0], *(int(word) for word in found[1:])
    return TakenTrap(hart, stopped.hart, epc, epc, instret, cause, MODE_NAMES[origin], to, epc, tval)


def _require_callable(function: object) -> None:
    if function is not None and not callable(function):
        raise TypeError(f"{function!r} is no function (causes=, origins= and destinations= are named)")


def _several(items: Iterable[Any] | str | int) -> list[Any]:
    return list(items) if isinstance(items, Iterable) and not isinstance(items, str) else [items]
