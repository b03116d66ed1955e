"""What `monitor` says: the commands of the monitor, and those that only a debugger has."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from trapline.lang.given import suggest
from trapline.people import times
from trapline.policies import causes
from trapline.privilege.causes import INTERRUPT, INTERRUPT_NAMES
from trapline.privilege.modes import DESTINATION_NAMES, MODE_BY_NAME

if TYPE_CHECKING:
    from trapline.engine.stop_points import Stop
    from trapline.gdb.target import Target

HELP = """\
catch trap CAUSE|any [from MODE] [to LEVEL]  stop at a trap, before its handler
catch csr NAME                               stop before it is written
catches                                      what is caught, and how often it was
uncatch N|all                                catch it no more
gpa EXPR                                     where a guest physical address is
routes                                       how often traps took which way"""
_OF_THE_CONSOLE = {"stop", "s", "cont", "c", "quit", "q", "cpu"}
_OWN = ("catch", "catches", "uncatch", "gpa", "routes")


class Commands:
    """The commands of one debugger. `catches` are those stops that gdb does not know of."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.catches: dict[int, tuple[str, Stop]] = {}
        self._next = 1

    def run(self, line: str, cpu: int) -> str:
        """Run one command; return what it answers, lines that end."""
        words = line.split()
        try:
            answer = "\n".join(self._answer(words, line, cpu))
        except (ValueError, ArithmeticError) as error:
            answer = str(error)
        return answer + "\n" if answer else ""

    def _answer(self, words: Sequence[str], line: str, cpu: int) -> Iterable[str]:
        match words:
            case []:
                return []
            case ["help", *names]:
                return self._help(names)
            case ["catch", *rest]:
                return self._catch(rest)
            case ["catches"]:
                shown = [f"{n}: {text}, hit {times(stop.count)}" for n, (text, stop) in self.catches.items()]
                return shown or ["nothing is caught"]
            case ["uncatch", *rest]:
                return self._uncatch(rest)
            case ["gpa", *rest]:
                self._target.monitor.cpu = cpu
                return [f"{self._target.host_physical(self._target.monitor.value(rest)):#x}"]
            case ["routes"]:
                return self._target.routes()
            case ["catches" | "routes" as name, *_]:
                return [f"{name} takes no argument"]
            case ["system_reset", *_]:
                return ["system_reset takes no argument"]
            case [name, *_] if name in _OF_THE_CONSOLE:
                own = "thread does" if name == "cpu" else "continue, interrupt and kill do"
                return [f"{name!r} is for the console: here gdb's own {own} it"]
        self._target.monitor.cpu = cpu
        return self._target.monitor.run(line)

    def _help(self, names: Sequence[str]) -> Iterable[str]:
        own = [text for text in HELP.splitlines() if not names or text.split()[0] in names]
        others = [name for name in names if name not in _OWN]
        if names and not others:
            return own
        shown = self._target.monitor.run(" ".join(["help", *others]))
        of_console = () if names else (*_OF_THE_CONSOLE, "Ctrl-A")
        return [*own, *(text for text in shown if re.split(r"[| ]", text)[0] not in of_console)]

    def _uncatch(self, words: Sequence[str]) -> Iterable[str]:
        match words:
            case ["all"]:
                self.forget()
            case [number] if re.fullmatch("[0-9]{1,9}", number) and int(number) in self.catches:
                self._target.stops.remove(self.catches.pop(int(number))[1])
            case _:
                return ["uncatch N or all: `catches` lists them"]
        return []

    def _catch(self, words: Sequence[str]) -> Iterable[str]:
        match words:
            case ["trap", cause, *rest]:
                origins, destinations = _ends(rest)
                numbers = [] if cause == "any" else [_cause(cause)]
                stop = self._target.stops.catch_trap(numbers, origins=origins, destinations=destinations)
            case ["csr", name]:
                stop = self._target.stops.catch_csr(name)
            case _:
                raise ValueError("catch trap CAUSE|any [from MODE] [to LEVEL], or catch csr NAME")
        number, self._next = self._next, self._next + 1
        self.catches[number] = " ".join(words), stop
        return [f"{number}: {' '.join(words)}"]

    def forget(self) -> None:
        """Catch nothing any more."""
        for _, stop in self.catches.values():
            self._target.stops.remove(stop)
        self.catches.clear()

    def describe(self, stop: Stop) -> str | None:
        """What is caught by a stop, as it was given."""
        return next((text for text, known in self.catches.values() if known is stop), None)


def _ends(words: Sequence[str]) -> tuple[list[str], list[str]]:
    origins: list[str] = []
    destinations: list[str] = []
    rest = list(words)
    while rest:
        way, *rest = rest
        if way not in ("from", "to") or not rest:
            raise ValueError(f"{way[:40]!r}: expected from MODE or to LEVEL")
        name, known = rest.pop(0).upper(), (MODE_BY_NAME if way == "from" else DESTINATION_NAMES)
        if name not in known:
            raise ValueError(f"{way} {name[:40]}: expected {', '.join(known)}")
        (origins if way == "from" else destinations).append(name)
    return origins, destinations


def _cause(text: str) -> int:
    for code, name in INTERRUPT_NAMES.items():
        if text == name:
            return INTERRUPT | code
    if not causes.is_cause(text):
        raise ValueError(f"no cause is called {text[:40]!r}{suggest(text, causes.NUMBERS, ': ')}")
    return causes.number(text)
