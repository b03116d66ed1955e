"""A template without what cannot happen where its mode, and where its trap goes, are numbers.

LLVM would find the same, but later than registers and words of the state become values. So a word that only a dead path
touches would count as one that the region uses.
"""

from __future__ import annotations

import functools
import operator
from collections import Counter
from collections.abc import Callable
from re import Match

from trapline.engine.llvm import Builder
from trapline.engine.llvm_lines import (
    BRANCH,
    CASE,
    CHOICE,
    NAME,
    SWITCH,
    TARGET,
    TWO,
    VALUE,
    WAY,
    one_line_switches,
)

_MASK = (1 << 64) - 1
_WORD: dict[str, Callable[[int, int], int]] = {
    "add": operator.add,
    "sub": operator.sub,
    "and": operator.and_,
    "or": operator.or_,
    "xor": operator.xor,
    "shl": lambda a, b: a << b if b < 64 else 0,
    "lshr": lambda a, b: a >> b if b < 64 else 0,
}
_COMPARE: dict[str, Callable[[int, int], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}


def number(operand: str) -> int | None:
    """The word that an operand is, if it is a number."""
    if operand in ("true", "false"):
        return int(operand == "true")
    return int(operand) & _MASK if operand.lstrip("-").isdigit() else None


def folded(kind: str, rest: str) -> str | None:
    """The operand that an operation comes to, if that is known."""
    if kind == "zext" and rest.startswith(("i1 true to", "i1 false to")):
        return str(int(rest.startswith("i1 true")))
    if kind == "select":
        choice = CHOICE.match(rest)
        return None if choice is None else choice[2] if choice[1] == "true" else choice[3]
    two = TWO.match(rest)
    if two is None or (kind not in _WORD and kind != "icmp"):
        return None
    a, b = number(two[3]), number(two[4])
    if a is None or b is None:
        return None
    if kind == "icmp":
        sign = (1 << 63) if (two[1] or "")[0] == "s" else 0
        return str(_COMPARE[(two[1] or "")[-2:]](a ^ sign, b ^ sign)).lower()
    value = _WORD[kind](a, b) & _MASK
    if two[2] == "i1":
        return "true" if value & 1 else "false"
    return str(value - (1 << 64) if value >> 63 else value)


def straightened(line: str) -> str:
    """A branch or switch whose way is known as a jump."""
    b = Builder("")
    if branch := BRANCH.match(line):
        b.goto(branch[2] if branch[1] == "true" else branch[3])
    elif switch := SWITCH.match(line):
        ways: dict[str, str] = dict(CASE.findall(switch[3]))
        b.goto(ways.get(switch[1]) or switch[2])
    else:
        return line
    return b.taken()


def blocks_of(text: str) -> dict[str, list[str]]:
    """The blocks by their labels, in order; a switch is one line."""
    blocks: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in one_line_switches(text).split("\n"):
        if line.endswith(":"):
            lines = blocks[line[:-1]] = []
        else:
            lines.append(line)
    return blocks


def reachable(blocks: dict[str, list[str]]) -> dict[str, Counter[str]]:
    """The blocks that can be reached from the first, each with the edges that lead to it."""
    first = next(iter(blocks))
    edges: dict[str, Counter[str]] = {first: Counter()}
    work = [first]
    while work:
        label = work.pop()
        for target in TARGET.findall(blocks[label][-1]):
            if target not in blocks:
                continue
            if target not in edges:
                edges[target] = Counter()
                work.append(target)
            edges[target][label] += 1
    return edges


def joined(line: str, edges: Counter[str]) -> tuple[str, str | None]:
    """A phi with the ways that are left, and the operand that it comes to where that is one."""
    head = line[: line.index("[")]
    left = Counter(edges)
    ways = []
    for value, way in WAY.findall(line):
        label = way[1:]
        if left[label] > 0:
            left[label] -= 1
            ways.append((value, label))
    values = {value for value, _ in ways}
    return head + ", ".join(f"[ {v}, %{w} ]" for v, w in ways), values.pop() if len(values) == 1 else None


@functools.lru_cache(maxsize=1024)
def pruned(text: str, priv: str, virt: str, to: str) -> str:
    """A template's text in a mode, with a destination of its trap, without the blocks that these rule out."""
    blocks = blocks_of(text.replace("{priv}", priv).replace("{virt}", virt).replace("{to}", to))
    while True:
        edges = reachable(blocks)
        known: dict[str, str] = {}
        kept: dict[str, list[str]] = {}
        for label in [label for label in blocks if label in edges]:
            kept[label] = []
            for line in blocks[label]:
                value, found = None, VALUE.match(line)
                if found and found[2] == "phi":
                    line, value = joined(line, edges[label])
                elif found:
                    value = folded(found[2], found[3])
                if found and value is not None:
                    known[found[1]] = value
                else:
                    kept[label].append(straightened(line))
        if not known and kept == blocks:
            return "\n".join(line for label, lines in kept.items() for line in (f"{label}:", *lines))
        blocks = {label: [substituted(line, known) for line in lines] for label, lines in kept.items()}


def substituted(line: str, known: dict[str, str]) -> str:
    """A line with what is known in place of names."""

    def replace(match: Match[str]) -> str:
        name = match[0]
        while name in known:
            name = known[name]
        return name

    return NAME.sub(replace, line) if "%" in line else line
