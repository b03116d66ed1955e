"""What pages held before they were first written: the undo log of a checkpoint, in the subset.

A page of memory has no store translation until it was kept since the last checkpoint, so a store that hits one costs
nothing. Filling a translation keeps the page, and so does every store that needs none (lang.control.note_store).
The table at `hart.undo_base`: words, then five of each area of memory.
"""

from __future__ import annotations

from trapline.lang.functions import cold, hosted
from trapline.lang.memory import copy_bytes, host_load, host_store
from trapline.lang.state import Hart
from trapline.lang.values import U64

PAGE = 4096
DIRTY_COUNT, DIRTY_LIST, AREA_COUNT, AREAS = 0, 8, 16, 24
# Of an area: host address, size; where its pages' marks are, a byte each; what is added to a page's address for its
# copy's; and the native engine's info words of its pages, 0: none.
AREA_FIRST, AREA_SIZE, AREA_MARKS, AREA_COPIES, AREA_INFOS, AREA_BYTES = 0, 8, 16, 24, 32, 40
MOST_AREAS = 64
KEPT, DIRTY = 1, 2  # of a page: its copy is what it held at the checkpoint; it may have been written since


@cold
def area_of(table: U64, page: U64) -> U64:
    """Host address of the words of the area that a page is in, or 0: a checkpoint keeps no such memory."""
    area = table + AREAS
    for i in range(MOST_AREAS):
        if i >= host_load(table + AREA_COUNT, 8):
            break
        if page - host_load(area + AREA_FIRST, 8) < host_load(area + AREA_SIZE, 8):
            return area
        area = area + AREA_BYTES
    return U64(0)


@hosted
def keep_page(hart: Hart, page: U64) -> None:
    """The page at a host address may be written from now on."""
    table = hart.undo_base
    area = area_of(table, page)
    if area == 0:
        return
    place = host_load(area + AREA_MARKS, 8) + ((page - host_load(area + AREA_FIRST, 8)) >> 12)
    mark = host_load(place, 1)
    if mark & DIRTY != 0:
        return
    if mark == 0:
        copy_bytes(hart, page + host_load(area + AREA_COPIES, 8), page, U64(PAGE))
    host_store(place, 1, U64(KEPT | DIRTY))
    count = host_load(table + DIRTY_COUNT, 8)
    host_store(host_load(table + DIRTY_LIST, 8) + count * 8, 8, page)
    host_store(table + DIRTY_COUNT, 8, count + 1)
