"""The engine in parts that are compiled at the same time.

A part holds the definitions of its own functions, the bodies of those that are compiled in place, and declarations of
the rest, which the linker finds in the other parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from trapline.engine.definitions import Constant, Definition, Item


class Module:
    """Definitions by name, and what stands in front of every part: metadata and LLVM's own functions."""

    def __init__(self, front: str, items: Iterable[Item]) -> None:
        self.front = front
        self.items = {item.name: item for item in items}
        self.whole = {name for name, item in self.items.items() if item.stands_alone}

    @property
    def text(self) -> str:
        """Everything in one part."""
        return "\n\n".join([self.front, *(item.text for item in self.items.values())])

    @property
    def exported(self) -> set[str]:
        """The functions that the image gives by name."""
        return {name for name, item in self.items.items() if isinstance(item, Definition) and item.exported}

    def reached(self, names: set[str], stop: Callable[[str], bool]) -> set[str]:
        """These and what they name, directly or through others, up to where `stop` says so."""
        found: set[str] = set()
        todo = list(names)
        while todo:
            name = todo.pop()
            if name not in found and name in self.items and not stop(name):
                found.add(name)
                todo += self.items[name].uses
        return found

    def may_take_in(self, name: str) -> bool:
        """Whether LLVM may choose to compile other functions into this one or into what it is put together from."""
        inside, seen = [name], {name}
        for at in inside:  # which grows meanwhile
            for used in self.items[at].uses - seen - self.whole:
                item = self.items.get(used)
                if item is None or isinstance(item, Constant):
                    continue
                if not item.is_taken_in:
                    return True
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
                    todo += self.items[name].uses
        texts = [_in_part(item, own) for name, item in self.items.items() if name in needed]
        return "\n".join([self.front, *texts])


def _in_part(item: Item, own: set[str]) -> str:
    if isinstance(item, Definition) and item.stands_alone:
        return item.shared_text if item.name in own else item.declaration
    return item.text
