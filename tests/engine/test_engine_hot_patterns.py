"""What regions find in a block, groups of accesses and rotations, changes no result, wherever it begins and ends."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.engine.harness import BASE, Bench

DATA, ROUNDS = BASE + 0x8000, 60
REGISTERS = ("t1", "t2", "a1", "a2", "a3", "a4")
LOADS = (("ld", 8), ("lw", 4), ("lwu", 4), ("lhu", 2), ("lb", 1))
STORES = (("sd", 8), ("sw", 4), ("sh", 2), ("sb", 1))


def accesses(rng: random.Random) -> list[str]:
    """Loads and stores through two registers, which move in between."""
    lines = []
    for _ in range(14):
        base, offset = rng.choice(("s2", "s3")), rng.randrange(-40, 40)
        name, size = rng.choice(STORES if rng.random() < 0.5 else LOADS)
        if rng.random() < 0.85:
            offset &= -size
        lines.append(f"{name} {rng.choice(REGISTERS)}, {offset}({base})")
        if rng.random() < 0.15:
            lines.append(f"addi {base}, {base}, {rng.choice((-16, 8, 24, 3))}")
        if rng.random() < 0.2:
            lines.append("add a1, a1, t1")
    return lines


def rotations(rng: random.Random) -> list[str]:
    """Shifts of words and what joins them, with amounts that fit nearly always."""
    lines = []
    for _ in range(12):
        source, left, right = (rng.choice(REGISTERS) for _ in range(3))
        by = rng.randrange(1, 32)
        pair = [f"slliw {left}, {source}, {by}", f"srliw {right}, {source}, {32 - by if rng.random() < 0.9 else by}"]
        rng.shuffle(pair)
        between = [f"addi {rng.choice(REGISTERS)}, {rng.choice(REGISTERS)}, 77"] if rng.random() < 0.3 else []
        lines += [pair[0], *between, pair[1], f"or {rng.choice(REGISTERS)}, {left}, {right}"]
    return lines


def program(body: list[str], step: int) -> str:
    """The lines in a loop, two pointers a page apart that walk over page ends, registers with something in them."""
    fill = [f"li {name}, {0x9E3779B97F4A7C15 * (n + 1) & 0x7FFFFFFFFFFFFFFF}" for n, name in enumerate(REGISTERS)]
    start = [f"li s0, {ROUNDS}", f"li s2, {DATA + 0xF80}", f"li s3, {DATA + 0x2F90}"]
    end = [f"addi s2, s2, {step}", "addi s3, s3, 8", "addi s0, s0, -1", "bnez s0, again", "end: j end"]
    return "\n".join([*fill, *start, "again:", *body, *end])


@pytest.mark.parametrize("kind", [accesses, rotations], ids=lambda kind: kind.__name__)
def test_patterns_in_regions(kind: Callable[[random.Random], list[str]]) -> None:
    """Random blocks leave the registers and the memory that the interpreter leaves."""
    for seed in range(25):
        rng = random.Random(seed)
        body = kind(rng)
        source, limit = program(body, rng.choice((8, 16, 1, 64))), ROUNDS * (len(body) + 4)
        forced, plain = Bench("forced", source), Bench("native", source)
        for bench in (forced, plain):
            bench.hart.misaligned_hardware = seed % 2
            bench.run(limit)
        assert forced.state() == plain.state(), (seed, body)
        assert bytes(forced.regions.read(DATA, 0x8000)) == bytes(plain.regions.read(DATA, 0x8000)), (seed, body)
        assert forced.engine.tier.compiled
