"""Words of the hart's state that a region holds like registers while its loop goes through a trap and back.

A call, its handler and the return write the mode, the trap's CSRs and what is counted a dozen times a round, and nobody
looks at them until the region is left. So these words are slots, too: LLVM makes values of them, and what is written
goes back to the state where the region is left, as the registers do. A word is held if the region's templates reach
it by its own address alone.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

from trapline.lang.state.words import LAYOUT

if TYPE_CHECKING:
    from collections.abc import Iterable

# What a round trip writes more than once. Causes and values of traps are written once: holding them would cost as much.
NAMES = (
    *("priv", "virt", "data_priv", "data_virt", "ctx_now", "not_retired", "mode_since"),
    *("mstatus", "mepc", "sepc", "hstatus", "vsstatus", "vsepc"),
)
_WIDE = 64  # bytes that an access of another kind may cover at most
_GEP = re.compile(r"^  (%\S+) = getelementptr inbounds (?:nuw )?i8, ptr %st, i64 (\S+)$")
_PLAIN = re.compile(r"^  (?:%\S+ = load i64, ptr (%\S+?)|store i64 [^,]+, ptr (%\S+?))(?:, .*)?$")
_CHOSEN = re.compile(r"^  (%\S+) = select i1 (\S+), i64 (\d+), i64 (\d+)$")
_POINTER = re.compile(r"^  (%\S+) = select i1 (\S+), ptr (%\S+), ptr (%\S+)$")
_LOAD = re.compile(r"^  (%\S+) = load i64, ptr (%\S+?)(, .*)?$")
_NUMBER = re.compile(r"(?<![\w.%$-])\d+\b")
_NAME = re.compile(r"%[-{}\w.$]+")


@functools.cache
def words() -> dict[int, str]:
    """By offset in the state, the words that may be held."""
    return {LAYOUT.fields[name].index * 8: name for name in NAMES}


def by_value(text: str) -> str:
    """Loads through a choice between two words of the state as a choice between their values."""
    lines = text.split("\n")
    offsets = {m[1]: (m[2], m[3], m[4]) for line in lines if (m := _CHOSEN.match(line))}
    chosen = {m[1]: offsets[m[2]] for line in lines if (m := _GEP.match(line)) and m[2] in offsets}
    pointers = {m[1]: (m[2], m[3], m[4]) for line in lines if (m := _POINTER.match(line))}
    out = []
    for line in lines:
        load = _LOAD.match(line)
        choice = load and (chosen.get(load[2]) or pointers.get(load[2]))
        if not load or not choice:
            out.append(line)
            continue
        value, rest = load[1], load[3] or ""
        ends = []
        for end, source in zip("ab", choice[1:], strict=True):
            place = source
            if load[2] in chosen:
                place = f"{value}.{end}p"
                out.append(f"  {place} = getelementptr inbounds i8, ptr %st, i64 {source}")
            out.append(f"  {value}.{end} = load i64, ptr {place}{rest}")
            ends.append(f"i64 {value}.{end}")
        out.append(f"  {value} = select i1 {choice[0]}, {', '.join(ends)}")
    return without_unused("\n".join(out))


def without_unused(text: str) -> str:
    """The text without choices and addresses that nothing uses any more."""
    lines = text.split("\n")
    while True:
        used = {name for line in lines for name in _NAME.findall(line.partition(" = ")[2] or line)}
        kept = [
            line
            for line in lines
            if not (m := _CHOSEN.match(line) or _GEP.match(line) or _POINTER.match(line)) or m[1] in used
        ]
        if kept == lines:
            return "\n".join(lines)
        lines = kept


@functools.lru_cache(maxsize=1024)
def reached(text: str) -> tuple[frozenset[int], frozenset[int]]:
    """Offsets of the words that a template accesses plainly, and of those that it may reach in another way."""
    lines = by_value(text).split("\n")
    geps = {m[1]: m[2] for line in lines if (m := _GEP.match(line))}
    pointers = {name: int(offset) for name, offset in geps.items() if offset.isdigit()}
    other: set[int] = set()
    for offset in geps.values():
        if not offset.isdigit() and not any(line.startswith(f"  {offset} = phi ") for line in lines):
            other |= words().keys()
    for line in lines:
        if _GEP.match(line):
            continue
        plain = _PLAIN.match(line)
        target = (plain[1] or plain[2]) if plain else ""
        for name in set(_NAME.findall(line)) & pointers.keys() - {target}:
            other.update(range(pointers[name], pointers[name] + _WIDE, 8))
        for number in () if plain else map(int, _NUMBER.findall(line)):
            other.update(range(number, number + (_WIDE if "ptr %st," in line else 8), 8))
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
        gep = _GEP.match(line)
        if gep and gep[2].isdigit() and int(gep[2]) in held:
            names[gep[1]] = f"%w{int(gep[2]) // 8}"
        else:
            lines.append(line)
    for at, line in enumerate(lines):
        plain = _PLAIN.match(line)
        pointer = (plain[1] or plain[2]) if plain else ""
        if pointer in names:
            lines[at] = line[: line.index(f"ptr {pointer}")] + f"ptr {names[pointer]}"
    return "\n".join(lines)


def moved(held: frozenset[int], unique: str, *, back: bool) -> list[str]:
    """Lines that write the held words to the state, or `back` from it: around a call that may look at them."""
    lines = []
    for offset in sorted(held):
        pointer, value, slot = f"%{unique}.w{offset}.p", f"%{unique}.w{offset}", f"%w{offset // 8}"
        lines.append(f"  {pointer} = getelementptr inbounds i8, ptr %st, i64 {offset}")
        source, target = (pointer, slot) if back else (slot, pointer)
        lines += [f"  {value} = load i64, ptr {source}", f"  store i64 {value}, ptr {target}"]
    return lines


def compare_words(lines: list[str], known: dict[int, int], same: str) -> str:
    """Add lines that look whether words of the state, by number, have these values too; the name of the answer."""
    for number, value in known.items():
        word = f"%guard.w{number}"
        lines.append(f"  {word}.p = getelementptr inbounds i8, ptr %st, i64 {number * 8}")
        lines += [f"  {word} = load i64, ptr {word}.p", f"  {word}.is = icmp eq i64 {word}, {value}"]
        lines.append(f"  {word}.all = and i1 {same}, {word}.is")
        same = f"{word}.all"
    return same
