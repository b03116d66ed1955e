"""Which pages a hart has written whose memory logs that, in the subset: for the dirty log of a hypervisor.

Only stores that need no cached translation come here (lang.control.note_store). A hart that has a log is one that an L0
executes single instructions on (kvm.nested): it has no others.
"""

from __future__ import annotations

from trapline.lang.functions import cold
from trapline.lang.state import Hart
from trapline.lang.state.words import STORED_PAGES
from trapline.lang.values import U64


@cold
def log_store(hart: Hart, pa: U64) -> None:
    """Note the page at `pa`, once; one page more than there are places means that any page may be written."""
    for i in range(STORED_PAGES):
        if i >= hart.stored_count:
            break
        if hart.stored_pages[i] == pa >> 12:
            return
    if hart.stored_count < STORED_PAGES:
        hart.stored_pages[hart.stored_count] = pa >> 12
        hart.stored_count = hart.stored_count + 1
    else:
        hart.stored_count = STORED_PAGES + 1
