"""Doubles as LLVM has them: a template moves bits, but between templates they stay in the registers for numbers."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet

    from trapline.engine.jit.region import Region

_BITS = re.compile(r"  (%\S+) = bitcast double (%\S+) to i64$")
_JOINED = re.compile(r"  (%\S+) = phi i64 (.*)$")
_WAY = re.compile(r"\[ (\S+), (%\S+) \]")


def doubles(region: Region) -> set[int]:
    """The floating-point registers that hold doubles mostly: they are kept as such, all others as words."""
    count: Counter[int] = Counter()
    for block in region.blocks.values():
        for _, found in block.code:
            double = found.instruction.name.endswith((".d", "fld", "fsd"))
            for name in found.instruction.operands:
                if found.instruction.is_float(name):
                    count[found.operands[name]] += 1 if double else -1
    return {number for number, balance in count.items() if balance > 0}


def as_doubles(text: str, chosen: AbstractSet[int], new_name: Callable[[], str]) -> str:
    """Turn accesses to chosen registers into accesses of doubles.

    A double whose bits are written stays one: LLVM might make words of a loop's numbers for the sake of its bits.
    """
    lines = []
    known: dict[str, str] = {}
    for line in text.split("\n"):
        if bits := _BITS.match(line):
            known[bits[1]] = bits[2]
        word = line.rsplit(" ", 1)[-1]
        if not word.startswith("%f") or not word[2:].isdigit() or int(word[2:]) not in chosen:
            lines.append(line)
        elif line.startswith("  store i64 "):
            value = line.split()[2].rstrip(",")
            number = known.get(value) or new_name()
            if value not in known:
                lines.append(f"  {number} = bitcast i64 {value} to double")
            lines.append(f"  store double {number}, ptr {word}")
        else:
            name = line.split()[0]
            lines += [f"  {name}.n = load double, ptr {word}", f"  {name} = bitcast double {name}.n to i64"]
    return "\n".join(lines)


def joined(lines: list[str]) -> list[str]:
    """Where a result is the host's or that of a rare call, join it as a double, so that it stays in such a register."""
    doubles = {m[1]: m[2] for line in lines if (m := _BITS.match(line))}
    out = list(lines)
    for line in lines:
        phi = _JOINED.match(line)
        ways = _WAY.findall(phi[2]) if phi else []
        if phi is None or not any(value in doubles for value, _ in ways):
            continue
        ends = []
        for number, (value, block) in enumerate(ways):
            given = doubles.get(value, f"{phi[1]}.d{number}")
            ends.append(f"[ {given}, {block} ]")
            if value not in doubles:
                end = out.index(f"{block[1:]}:") + 1
                while not out[end].startswith("  br "):
                    end += 1
                out.insert(end, f"  {given} = bitcast i64 {value} to double")
        at = out.index(line)
        out[at] = f"  {phi[1]}.d = phi double {', '.join(ends)}"
        while " = phi " in out[at]:
            at += 1
        out.insert(at, f"  {phi[1]} = bitcast double {phi[1]}.d to i64")
    return out
