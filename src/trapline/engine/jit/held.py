"""Words of the hart's state that a region holds like registers while its loop goes through a trap and back.

A call, its handler and the return write the mode, the trap's CSRs and what is counted a dozen times a round, and nobody
looks at them until the region is left. So these words are slots, too: LLVM makes values of them, and what is written
goes back to the state where the region is left, as the registers do. A word is held if the region's templates reach
it by its own address alone.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from trapline.engine.llvm import STATE, Builder, Flag, Pointer, Word
from trapline.engine.llvm_lines import (
    AT_STATE,
    CHOSEN_OFFSET,
    CHOSEN_POINTER,
    LOAD,
    NAME,
    NUMBER,
    PLAIN_ACCESS,
    TAKES_STATE,
    accessed_at,
)
from trapline.lang.state.words import LAYOUT

if TYPE_CHECKING:
    from collections.abc import Iterable

# What a round trip writes more than once. Causes and values of traps are written once: holding them would cost as much.
NAMES = (
    *("priv", "virt", "data_priv", "data_virt", "ctx_now", "not_retired", "mode_since"),
    *("mstatus", "mepc", "sepc", "hstatus", "vsstatus", "vsepc"),
)
_WIDE = 64  # bytes that an access of another kind may cover at most


@functools.cache
def words() -> dict[int, str]:
    """By offset in the state, the words that may be held."""
    return {LAYOUT.fields[name].index * 8: name for name in NAMES}


def by_value(text: str) -> str:
    """Loads through a choice between two words of the state as a choice between their values."""
    lines = text.split("\n")
    offsets = {m[1]: (m[2], m[3], m[4]) for line in lines if (m := CHOSEN_OFFSET.match(line))}
    chosen = {m[1]: offsets[m[2]] for line in lines if (m := AT_STATE.match(line)) and m[2] in offsets}
    pointers = {m[1]: (m[2], m[3], m[4]) for line in lines if (m := CHOSEN_POINTER.match(line))}
    b = Builder("")
    for line in lines:
        load = LOAD.match(line)
        choice = load and (chosen.get(load[2]) or pointers.get(load[2]))
        if not load or not choice:
            b.lines.append(line)
            continue
        value, rest = load[1], load[3] or ""
        ends = []
        for end, source in zip("ab", choice[1:], strict=True):
            place = source if load[2] in pointers else b.called(f"{value}.{end}p", b.at, STATE, int(source))
            ends.append(b.called(f"{value}.{end}", b.read, place, "i64", rest))
        b.called(value, b.select, Flag(choice[0]), *map(Word, ends))
    return without_unused(b.taken())


def without_unused(text: str) -> str:
    """The text without choices and addresses that nothing uses any more."""
    lines = text.split("\n")
    while True:
        used = {name for line in lines for name in NAME.findall(line.partition(" = ")[2] or line)}
        kept = [
            line
            for line in lines
            if not (m := CHOSEN_OFFSET.match(line) or AT_STATE.match(line) or CHOSEN_POINTER.match(line))
            or m[1] in used
        ]
        if kept == lines:
            return "\n".join(lines)
        lines = kept


@functools.lru_cache(maxsize=1024)
def reached(text: str) -> tuple[frozenset[int], frozenset[int]]:
    """Offsets of the words that a template accesses plainly, and of those that it may reach in another way."""
    lines = by_value(text).split("\n")
    geps = {m[1]: m[2] for line in lines if (m := AT_STATE.match(line))}
    pointers = {name: int(offset) for name, offset in geps.items() if offset.isdigit()}
    other: set[int] = set()
    for offset in geps.values():
        if not offset.isdigit() and not any(line.startswith(f"  {offset} = phi ") for line in lines):
            other |= words().keys()
    for line in lines:
        if AT_STATE.match(line):
            continue
        plain = PLAIN_ACCESS.match(line)
        target = (plain[1] or plain[2]) if plain else ""
        for name in set(NAME.findall(line)) & pointers.keys() - {target}:
            other.update(range(pointers[name], pointers[name] + _WIDE, 8))
        for number in () if plain else map(int, NUMBER.findall(line)):
            other.update(range(number, number + (_WIDE if TAKES_STATE in line else 8), 8))
    return frozenset(pointers.values()), frozenset(other)


def held_words(templates: Iterable[str]) -> frozenset[int]:
    """Offsets of the words that a region of these templates may hold."""
    used: set[int] = set()
    other: set[int] = set()
    for text in set(templates):
        plain, rest = reached(text)
        used |= plain
        other |= rest
    return frozenset(used & words().keys() - other)


@functools.lru_cache(maxsize=1024)
def hold(text: str, held: frozenset[int]) -> str:
    """A template's text with slots (`%w` and the number of the word) for the words that are held."""
    names: dict[str, str] = {}
    lines = []
    for line in by_value(text).split("\n"):
        gep = AT_STATE.match(line)
        if gep and gep[2].isdigit() and int(gep[2]) in held:
            names[gep[1]] = f"%w{int(gep[2]) // 8}"
        else:
            lines.append(line)
    for at, line in enumerate(lines):
        plain = PLAIN_ACCESS.match(line)
        pointer = (plain[1] or plain[2]) if plain else ""
        if pointer in names:
            lines[at] = accessed_at(line, pointer, names[pointer])
    return "\n".join(lines)


def moved(b: Builder, held: frozenset[int], *, back: bool) -> None:
    """Write the held words to the state, or `back` from it: around a call that may look at them."""
    for offset in sorted(held):
        place, slot = b.at(STATE, offset), Pointer(f"%w{offset // 8}")
        source, target = (place, slot) if back else (slot, place)
        b.write(b.read(source), target)


def compare_words(b: Builder, known: dict[int, int], same: Flag) -> Flag:
    """Whether words of the state, by number, have these values too."""
    for number, value in known.items():
        word = b.read(b.at(STATE, number * 8))
        same = b.flags("and", same, b.compare("eq", word, value))
    return same
