"""Back to a checkpoint: pages get what they held then, and code that has changed is forgotten. In the subset."""

from __future__ import annotations

from trapline.engine.code_bytes import HELD_BYTES, forget_bytes, marks
from trapline.engine.records import CODE_COUNT
from trapline.engine.undo_log import (
    AREA_COPIES,
    AREA_FIRST,
    AREA_INFOS,
    AREA_MARKS,
    DIRTY_COUNT,
    DIRTY_LIST,
    KEPT,
    PAGE,
    area_of,
)
from trapline.lang.control import forget_code
from trapline.lang.functions import cold, hosted
from trapline.lang.memory import copy_bytes, host_load, host_store
from trapline.lang.state import Hart
from trapline.lang.values import U64

MOST_PAGES = 1 << 40


@cold
def forget_changed(hart: Hart, table: U64, page: U64, copy: U64) -> None:
    """Forget what was decoded from bytes that are not those of the copy."""
    for i in range(512):
        if host_load(page + i * 8, 8) != host_load(copy + i * 8, 8):
            found = marks(table, U64(i * 8), U64(8))
            if found & HELD_BYTES != 0:
                forget_code(hart, table, U64(i * 8), U64(8))
            elif found != 0:
                forget_bytes(table, U64(i * 8), U64(i * 8 + 8))


@cold
def put_page_back(hart: Hart, area: U64, page: U64) -> None:
    """One page becomes what it was; its copy stays."""
    offset = page - host_load(area + AREA_FIRST, 8)
    copy = page + host_load(area + AREA_COPIES, 8)
    infos = host_load(area + AREA_INFOS, 8)
    if infos != 0:
        table = host_load(infos + (offset >> 12 << 3), 8) & ~1
        if table != 0 and host_load(table + CODE_COUNT, 8) != 0:
            forget_changed(hart, table, page, copy)
    copy_bytes(hart, page, copy, U64(PAGE))
    host_store(host_load(area + AREA_MARKS, 8) + (offset >> 12), 1, U64(KEPT))


@hosted
def put_pages_back(hart: Hart) -> None:
    """Undo what was written since the checkpoint of hart.undo_base. Translations have to be forgotten after that."""
    undo = hart.undo_base
    count = host_load(undo + DIRTY_COUNT, 8)
    for i in range(MOST_PAGES):
        if i >= count:
            break
        page = host_load(host_load(undo + DIRTY_LIST, 8) + i * 8, 8)
        area = area_of(undo, page)
        if area != 0:
            put_page_back(hart, area, page)
    host_store(undo + DIRTY_COUNT, 8, U64(0))
