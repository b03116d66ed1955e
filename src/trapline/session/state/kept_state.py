"""What the attributes of a machine's objects are at a checkpoint, to be put back within microseconds.

The objects are those that a snapshot saves (session.state.plain_state), but nothing is turned into data: an attribute
gets the value back that it had, and each list, dict, deque, set and bytearray the elements.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from operator import attrgetter
from typing import Any, Protocol, runtime_checkable

from trapline.lang.devices import DeviceState
from trapline.lang.layout import Field
from trapline.session.state.plain_state import KEPT, STATEFUL, frozen

_LEAVES = (bool, int, float, str, bytes, Enum, type(None))


@runtime_checkable
class Undoable(Protocol):
    """An object that keeps a log of its own of what changes (a disk)."""

    def begin_undo(self) -> None:
        """A checkpoint: from now on what changes can be undone, up to the next one."""

    def undo(self) -> None:
        """Undo what has changed since the last `begin_undo`, which stays."""

    def end_undo(self, number: int) -> None:
        """Forget one `begin_undo`, counted from the first that holds: its changes belong to the one before."""


def spans(fields: Iterable[Field]) -> list[tuple[int, int]]:
    """First and last + 1 of the words of these fields, neighbours joined."""
    found: list[tuple[int, int]] = []
    for f in sorted(fields, key=lambda f: f.index):
        if found and found[-1][1] == f.index:
            found[-1] = found[-1][0], f.index + f.count
        else:
            found.append((f.index, f.index + f.count))
    return found


class KeptWords:
    """Some words of a block of them."""

    def __init__(self, mem: memoryview, parts: Iterable[tuple[int, int]]) -> None:
        self._mem = mem
        self._parts = [(low, high, memoryview(bytes(mem[low:high])).cast("Q")) for low, high in parts]

    def put_back(self) -> None:
        """Make them what they were."""
        for low, high, words in self._parts:
            self._mem[low:high] = words


class KeptState:
    """Everything that `roots` reach. Attributes that an object of `tops` leaves out of snapshots are left alone.

    So are those in the `checkpoint_skips` of a class: what it knows of words that do not go back.
    """

    def __init__(self, roots: Iterable[Any], kept: Sequence[type], tops: Sequence[type]) -> None:
        self._kept, self._tops = (*KEPT, *kept), tuple(tops)
        self._seen: dict[int, Any] = {}  # the objects stay alive, so that their ids stay theirs
        self._attributes: list[tuple[dict[str, Any], dict[str, Any]]] = []
        # By class and names: how to look, and the objects with what they held. Most have not changed.
        self._slots: dict[tuple[type, tuple[str, ...]], tuple[Callable[[Any], Any], list[Any], list[Any]]] = {}
        self._refill: list[tuple[Callable[[], None], Callable[[Any], None], Any]] = []
        self._items: list[tuple[Any, Any]] = []
        self.words: list[KeptWords] = []
        self.undoable: list[Undoable] = []
        for root in roots:
            self._walk(root)

    def put_back(self) -> None:
        """Give everything back what it had; the words and what is `undoable` apart."""
        for attributes, before in self._attributes:
            attributes.update(before)
        for (_, names), (look, holders, held) in self._slots.items():
            if list(map(look, holders)) != held:
                _set_slots(names, look, holders, held)
        for clear, fill, items in self._refill:
            clear()
            fill(items)
        for target, items in self._items:
            target[:] = items
        for words in self.words:
            words.put_back()

    def _walk(self, value: Any) -> None:
        if isinstance(value, _LEAVES) or id(value) in self._seen or isinstance(value, self._kept):
            return
        self._seen[id(value)] = value
        if isinstance(value, (tuple, frozenset)):
            self._walk_all(value)
        elif isinstance(value, (list, bytearray)):
            self._items.append((value, value[:]))
            self._walk_all(value if isinstance(value, list) else ())
        elif isinstance(value, dict):
            self._refill.append((value.clear, value.update, dict(value)))
            self._walk_all(value.keys())
            self._walk_all(value.values())
        elif isinstance(value, deque):
            self._refill.append((value.clear, value.extend, tuple(value)))
            self._walk_all(value)
        elif isinstance(value, set):
            self._refill.append((value.clear, value.update, frozenset(value)))
        elif isinstance(value, DeviceState):
            self.words.append(KeptWords(value.mem, [(0, len(value.mem))]))
        elif isinstance(value, Undoable):
            self.undoable.append(value)
        elif type(value).__module__.startswith(STATEFUL):
            self._walk_object(value)

    def _walk_all(self, values: Iterable[Any]) -> None:
        for value in values:
            self._walk(value)

    def _walk_object(self, value: Any) -> None:
        skipped = getattr(type(value), "snapshot_skips", ()) if isinstance(value, self._tops) else ()
        skipped = (*skipped, *getattr(type(value), "checkpoint_skips", ()))
        own = getattr(value, "__dict__", None)
        if own is not None:
            found = {name: kept for name, kept in own.items() if name not in skipped}
            self._attributes.append((own, found))
            self._walk_all(found.values())
        slotted: list[tuple[str, Any]] = []
        for cls in type(value).__mro__:
            slots = cls.__dict__.get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if name not in ("__weakref__", "__dict__") and name not in skipped and hasattr(value, name):
                    slotted.append((name, getattr(value, name)))
        if slotted and not frozen(type(value)):
            names = tuple(name for name, _ in slotted)
            look, holders, held = self._slots.setdefault((type(value), names), (attrgetter(*names), [], []))
            holders.append(value)
            held.append(look(value))
        self._walk_all(kept for _, kept in slotted)


def _set_slots(names: tuple[str, ...], look: Callable[[Any], Any], holders: list[Any], held: list[Any]) -> None:
    for holder, then in zip(holders, held, strict=True):
        if look(holder) != then:
            for name, value in zip(names, then if len(names) > 1 else (then,), strict=True):
                object.__setattr__(holder, name, value)
