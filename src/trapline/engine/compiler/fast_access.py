"""Loads and stores of fast handlers, as LLVM: the inline probe of the translation set."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from trapline.engine import records
from trapline.engine.compiler.primitives import UNLIKELY_BAIL, Result, literal, load_bytes, store_bytes
from trapline.engine.compiler.source import U
from trapline.engine.compiler.text import WROTE

if TYPE_CHECKING:
    from trapline.engine.compiler.calls import Calls

SPLIT, FAR, RARE_CALL = "split_access", "far_load", "preserve_mostcc"  # accesses whose page's entry does not match
COLD_CALL = "preserve_allcc"  # of other cold functions, from regions: numbers stay in the host's registers
BLOCK = 64  # bytes of the cache block that fast handlers know


def split_in_page(e: Calls, va: str, tag: str, size: int, hit: str) -> None:
    """A misaligned access inside a page whose translation is there: the host does it, if the hart is one that does."""
    page, fits, able = e.label(), e.label(), e.label()
    no = e.label()
    e.branch(e.value(f"icmp eq i64 {tag}, {e.value(f'and i64 {va}, -4096')}"), page, no)
    e.place_label(page)
    offset = e.value(f"and i64 {va}, 4095")
    e.branch(e.value(f"icmp ule i64 {offset}, {4096 - size}"), fits, no)
    e.place_label(fits)
    hardware = e.value(f"load i64, ptr {e.field_pointer('misaligned_hardware')}, align 8")
    e.branch(e.value(f"icmp ne i64 {hardware}, 0"), able, no)
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


def fast_zero(e: Calls, va: str) -> Result:
    """A cache block of the common size, in a page whose translation for stores is there."""
    size = e.value(f"load i64, ptr {e.field_pointer('cache_block')}, align 8")
    common, other = e.label(), e.label()
    e.branch(e.value(f"icmp eq i64 {size}, {BLOCK}"), common, other, UNLIKELY_BAIL)
    e.place_label(other)
    e.fail()
    e.place_label(common)
    pointer = find(e, e.value(f"and i64 {va}, {-BLOCK}"), 8, records.STORE_AREA, splits=False)
    for offset in range(0, BLOCK, 8):
        store_bytes(e, e.value(f"getelementptr inbounds i8, ptr {pointer}, i64 {offset}"), 8, "0")
    e.wrote |= WROTE
    return None


def find(e: Calls, va: str, size: int, area: int, *, splits: bool) -> str:
    """A pointer to what lies at a virtual address; bails out where the translation set does not have the page."""
    if e.module.markers:
        # A region looks the page up in its own way (jit.access).
        e.gives_up_here()
        asks = splits and (size > 1 or area == records.STORE_AREA)
        delta = e.value(f"call i64 @find(i64 {va}, i64 {size}, i64 {area}, i64 {int(asks)})")
    else:
        delta = probe(e, va, size, area, splits=splits)
    return e.value(f"inttoptr i64 {e.value(f'add i64 {va}, {delta}')} to ptr")


def probe(e: Calls, va: str, size: int, area: int, *, splits: bool) -> str:
    """Host address minus va, from the translation set; bails out where that does not have the page."""
    index = e.value(f"and i64 {e.value(f'lshr i64 {va}, 8')}, {(records.DATA_ENTRIES - 1) * records.DATA_BYTES}")
    entry = e.value(f"getelementptr inbounds i8, ptr %tlb, i64 {index}")
    if area:
        entry = e.value(f"getelementptr inbounds i8, ptr {entry}, i64 {area}")
    tag = e.value(f"load i64, ptr {entry}, align 16")
    wanted = e.value(f"and i64 {va}, {-4096 | (size - 1)}")
    hit, miss = e.label(), e.label()
    e.branch(e.value(f"icmp eq i64 {tag}, {wanted}"), hit, miss, UNLIKELY_BAIL)
    e.place_label(miss)
    if splits and size > 1:
        split_in_page(e, va, tag, size, hit)
    e.fail()
    e.place_label(hit)
    return e.value(
        f"load i64, ptr {e.value(f'getelementptr inbounds i8, ptr {entry}, i64 {records.DATA_FAR}')}, align 8"
    )
