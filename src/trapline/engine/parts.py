"""The engine's LLVM text in parts that are compiled at the same time.

A part holds the definitions of its own functions, the bodies of those that are compiled in place, and declarations of
the rest, which the linker finds in the other parts.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_BEGINS = re.compile(r"\n(?=define |declare |@|!)")
_NAMED = re.compile(r'(?:define |declare )?[^@\n]*?@("[^"]+"|[\w.$-]+)')
_NAMES = re.compile(r'@("[^"]+"|[\w.$-]+)')
_PARAMETER = re.compile(r'(ptr(?: noalias)?|i64|i1) %(?:"[^"]*"|[\w.@-]+)')


class Text:
    """A module's text by what it defines."""

    def __init__(self, text: str) -> None:
        self.items: dict[str, str] = {}
        self.loose: list[str] = []  # metadata
        for item in _BEGINS.split(f"\n{text}"):
            found = _NAMED.match(item) if item.startswith(("define ", "declare ", "@")) else None
            if found is None:
                self.loose.append(item)
            else:
                self.items[found[1].strip('"')] = item.rstrip()
        self.names = {name: {n.strip('"') for n in _NAMES.findall(item)} for name, item in self.items.items()}
        self.whole = {name for name, item in self.items.items() if _stands_alone(item)}

    @property
    def named(self) -> set[str]:
        """The functions that the image gives by name."""
        return {name for name in self.whole if "define internal " not in self.items[name].partition("\n")[0]}

    def reached(self, names: set[str], stop: Callable[[str], bool]) -> set[str]:
        """These and what they name, directly or through others, up to where `stop` says so."""
        found: set[str] = set()
        todo = list(names)
        while todo:
            name = todo.pop()
            if name not in found and name in self.items and not stop(name):
                found.add(name)
                todo += self.names[name]
        return found

    def may_take_in(self, name: str) -> bool:
        """Whether LLVM may choose to compile other functions into this one or into what it is put together from."""
        inside, seen = [name], {name}
        for at in inside:  # which grows meanwhile
            for used in self.names[at] - seen - self.whole:
                head = self.items.get(used, "").partition("\n")[0]
                if head.startswith("define ") and "alwaysinline" not in head:
                    return True
                if head.startswith("define "):
                    seen.add(used)
                    inside.append(used)
        return False

    def divide(self, part_of: Callable[[str], int], count: int) -> list[str]:
        """The text of each part; `part_of` tells to which one a function goes that is not compiled in place."""
        owners = {name: part_of(name) for name in self.whole}
        return [self._part({name for name, owner in owners.items() if owner == n}) for n in range(count)]

    def _part(self, own: set[str]) -> str:
        needed: set[str] = set()
        todo = list(own)
        while todo:
            name = todo.pop()
            if name not in needed and name in self.items:
                needed.add(name)
                if name in own or name not in self.whole:
                    todo += self.names[name]
        items = []
        for name, item in self.items.items():
            if name in needed:
                shared = item.replace("define internal ", "define hidden ", 1)
                items.append(item if name not in self.whole else shared if name in own else _declaration(item))
        return "\n".join([*self.loose, *items])


def _stands_alone(item: str) -> bool:
    """Whether a function is called, not compiled in place: it belongs to one part alone."""
    head = item.partition("\n")[0]
    return head.startswith("define ") and ("noinline" in head or not head.startswith("define internal "))


def _declaration(item: str) -> str:
    head = item.partition("\n")[0].removesuffix("{").replace(" noinline ", " ")
    return _PARAMETER.sub(r"\1", re.sub(r"^define (?:internal )?", "declare hidden ", head))
