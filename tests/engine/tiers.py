"""The same guest with and without compiled regions, compared word for word."""

from __future__ import annotations

import ctypes
import random

from trapline.engine.native import NativeEngine
from trapline.engine.records import CONTEXTS, FETCH_AREA, FETCH_ENTRIES, SET_BYTES
from trapline.engine.tlb import EMPTY
from trapline.lang.state import Hart
from trapline.lang.state.words import LAYOUT
from trapline.machine.machine import Machine
from trapline.verify.campaign import Variant, generator
from trapline.verify.lockstep import make_machine

# Scratch of the engines, beside what is marked as this process's own.
ENGINE_WORDS = {
    "region_last", "next_pc", "insn", "insn_length", "access_va", "walk_gpa", "walk_pte", "walk_level",
    "walk_page", "scratch", "x", "attention",
}  # fmt: skip


def whole_state(machine: Machine) -> dict[str, list[int]]:
    """Every word of the hart that a guest can tell, or that counts."""
    hart = machine.harts[0]
    found = {
        name: [int(hart.mem[f.index + i]) for i in range(f.count)]
        for name, f in LAYOUT.fields.items()
        if not f.host and name not in ENGINE_WORDS
    }
    found["x"] = [int(hart.x[i]) for i in range(32)]
    return found


def differences(left: Machine, right: Machine) -> dict[str, tuple[list[int], list[int]]]:
    """The words in which two machines differ."""
    a, b = whole_state(left), whole_state(right)
    return {name: (a[name], b[name]) for name in a if a[name] != b[name]}


def compare_with_switches(
    seed: int, variant: Variant, rng: random.Random, attempts: int
) -> tuple[int, dict[str, tuple[list[int], list[int]]]]:
    """Run a stream on both, regions coming and going: how many attempts, and the words that differ."""
    elf = generator(variant).stream(seed, 4, 120).elf
    plain, mixed = (make_machine(elf, variant.isa, NativeEngine(jit=jit)) for jit in ("off", "force"))
    done = 0
    while done < attempts:
        size = rng.choice((1, 5, 60, 700, 3000))
        done += size
        for machine in (plain, mixed):
            machine.engine.run(machine.harts[0], size)
            machine.harts[0].attention = 0
        switch(mixed.engine, mixed.harts[0], rng)
    return done, differences(plain, mixed)


def switch(engine: NativeEngine, hart: Hart, rng: random.Random) -> None:
    """Take some regions out, and begin some at any decoded instruction."""
    tier = engine.tier
    assert tier is not None
    for page in list(engine.code.by_table.values()):
        for region in list(page.regions):
            if region.page is page and rng.random() < 0.4:
                tier.drop(region)
        starts = [offset for offset in range(0, 4096, 2) if page.view[offset] != engine.symbols["h.undecoded"]]
        for offset in rng.sample(starts, min(len(starts), 2)):
            record = page.table + offset * 8
            at = address_of(engine, hart, page.table)
            if at is not None:
                tier.heat.note(record, hart, at + offset, int(hart.priv | hart.virt << 2))
            tier.make(record)


def address_of(engine: NativeEngine, hart: Hart, table: int) -> int | None:
    """Where a page with these records lies, by the first fetch entry that has it."""
    for number in range(CONTEXTS):
        for entry in range(FETCH_ENTRIES):
            place = int(hart.tlb_base) + number * SET_BYTES + FETCH_AREA + entry * 32
            tag, found = (ctypes.c_uint64 * 2).from_address(place)
            if found == table and tag != EMPTY:
                return int(tag)
    return None
