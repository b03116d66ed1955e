"""Loads and stores of fast handlers, as LLVM: the inline probe of the translation set."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from trapline.engine import records
from trapline.engine.compiler.primitives import Result, literal, load_bytes, store_bytes
from trapline.engine.compiler.source import U
from trapline.engine.compiler.text import WROTE
from trapline.engine.llvm import LIKELY, Pointer, Word, words
from trapline.privilege import memory

if TYPE_CHECKING:
    from trapline.engine.compiler.calls import Calls

# What handlers have in place: a look into the translation set.
PROBES = {memory.load: "load", memory.store: "store", memory.amo_load: "amo_load", memory.zero_block: "zero"}
SPLIT, FAR = "split_access", "far_load"  # accesses whose page's entry does not match
SAMPLE = "sample_inside"  # a sample is due
RARE, RARE_CALL = (SPLIT, FAR, SAMPLE), "preserve_mostcc"  # how regions call these
COLD_CALL = "preserve_allcc"  # of other cold functions, from regions: numbers stay in the host's registers
BLOCK = 64  # bytes of the cache block that fast handlers know


def split_in_page(e: Calls, va: Word, tag: Word, size: int, hit: str) -> None:
    """A misaligned access inside a page whose translation is there: the host does it, if the hart is one that does."""
    page, fits, able = e.label(), e.label(), e.label()
    no = e.label()
    e.branch(e.compare("eq", tag, e.mask(va, -4096)), page, no)
    e.place_label(page)
    offset = e.mask(va, 4095)
    e.branch(e.compare("ule", offset, 4096 - size), fits, no)
    e.place_label(fits)
    hardware = e.load(e.field_pointer("misaligned_hardware"))
    e.branch(e.compare("ne", hardware, 0), able, no)
    e.place_label(able)
    e.goto(hit)
    e.place_label(no)


def fast_access(e: Calls, node: ast.Call, name: str) -> Result:
    """The inline TLB probe of a load, store or AMO; a miss bails out to the normal reading."""
    args = node.args[1:]
    if name == "zero":
        return fast_zero(e, e.as_word(args[0]))
    size, splits = literal(e, args[1]), name in ("load", "store")
    va = e.as_word(args[0])
    area = records.LOAD_AREA if name == "load" else records.STORE_AREA
    pointer = find(e, va, size, area, splits=splits)
    if name == "store":
        store_bytes(e, pointer, size, e.as_word(args[2]))
        e.wrote |= WROTE
        return None
    return load_bytes(e, pointer, size), U


def fast_zero(e: Calls, va: Word) -> Result:
    """A cache block of the common size, in a page whose translation for stores is there."""
    size = e.load(e.field_pointer("cache_block"))
    common, other = e.label(), e.label()
    e.branch(e.compare("eq", size, BLOCK), common, other, LIKELY)
    e.place_label(other)
    e.fail()
    e.place_label(common)
    pointer = find(e, e.mask(va, -BLOCK), 8, records.STORE_AREA, splits=False)
    for offset in range(0, BLOCK, 8):
        store_bytes(e, e.at(pointer, offset), 8, 0)
    e.wrote |= WROTE
    return None


def find(e: Calls, va: Word, size: int, area: int, *, splits: bool) -> Pointer:
    """A pointer to what lies at a virtual address; bails out where the translation set does not have the page."""
    if e.module.markers:
        # A region looks the page up in its own way (jit.access).
        e.gives_up_here()
        asks = splits and (size > 1 or area == records.STORE_AREA)
        delta = Word(e.call(e.named("find"), "i64", words(va, size, area, int(asks)), convention=""))
    else:
        delta = probe(e, va, size, area, splits=splits)
    return e.pointer(e.add(va, delta))


def probe(e: Calls, va: Word, size: int, area: int, *, splits: bool) -> Word:
    """Host address minus va, from the translation set; bails out where that does not have the page."""
    index = e.mask(e.lshr(va, 8), (records.DATA_ENTRIES - 1) * records.DATA_BYTES)
    entry = e.at(Pointer("%tlb"), index)
    if area:
        entry = e.at(entry, area)
    tag = e.load(entry, 16)
    wanted = e.mask(va, -4096 | (size - 1))
    hit, miss = e.label(), e.label()
    e.branch(e.compare("eq", tag, wanted), hit, miss, LIKELY)
    e.place_label(miss)
    if splits and size > 1:
        split_in_page(e, va, tag, size, hit)
    e.fail()
    e.place_label(hit)
    return e.load(e.at(entry, records.DATA_FAR))
