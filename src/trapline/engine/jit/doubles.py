"""Doubles as LLVM has them: a template moves bits, but between templates they stay in the registers for numbers."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from trapline.engine.llvm import Builder, Double, Word
from trapline.engine.llvm_lines import BITS, JOINED, STORED, WAY

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from trapline.engine.jit.region import Region


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


def as_doubles(b: Builder, text: str, chosen: AbstractSet[int]) -> str:
    """Turn accesses to chosen registers into accesses of doubles.

    A double whose bits are written stays one: LLVM might make words of a loop's numbers for the sake of its bits.
    """
    if "%f" not in text:
        return text
    known: dict[str, str] = {}
    for line in text.split("\n"):
        if bits := BITS.match(line):
            known[bits[1]] = bits[2]
        word = line.rsplit(" ", 1)[-1]
        if not word.startswith("%f") or not word[2:].isdigit() or int(word[2:]) not in chosen:
            b.lines.append(line)
        elif stored := STORED.match(line):
            b.write(known.get(stored[1]) or b.number(Word(stored[1])), word, "double")
        else:
            number = Double(b.read(word, "double"))
            b.called(line.split()[0], b.bits, number)
    return b.taken()


def joined(lines: list[str]) -> list[str]:
    """Where a result is the host's or that of a rare call, join it as a double, so that it stays in such a register."""
    doubles = {m[1]: m[2] for line in lines if (m := BITS.match(line))}
    out, b = list(lines), Builder("")
    for line in lines:
        phi = JOINED.match(line)
        ways = WAY.findall(phi[2]) if phi else []
        if phi is None or not any(value in doubles for value, _ in ways):
            continue
        ends = []
        for number, (value, block) in enumerate(ways):
            given = doubles.get(value, f"{phi[1]}.d{number}")
            ends.append((given, block[1:]))
            if value not in doubles:
                end = out.index(f"{block[1:]}:") + 1
                while not out[end].startswith("  br "):
                    end += 1
                b.called(given, b.number, Word(value))
                out.insert(end, b.taken())
        at = out.index(line)
        joint = b.called(f"{phi[1]}.d", b.join_doubles, *ends)
        out[at] = b.taken()
        while " = phi " in out[at]:
            at += 1
        b.called(phi[1], b.bits, joint)
        out.insert(at, b.taken())
    return out
