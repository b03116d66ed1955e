"""Which exit came behind which other: what a search for new programs takes for new (trapline.fuzz).

An edge is an exit, what became of it, and the exit that the same 128 bytes of code raised before; it sets one bit of
8,192 by its hash. Two edges may share a bit: then the second is not seen. Exits that Python handles are not noted,
and none where nobody wants them (hart.edges_wanted).
"""

from __future__ import annotations

from trapline.lang.functions import inline
from trapline.lang.state import Hart
from trapline.lang.state.words import EDGE_LANES, EDGE_WORDS, LAYOUT
from trapline.lang.values import U64, u64

_EDGES = LAYOUT.fields["exit_edges"]
_CODE = 7  # log2 of the bytes of code whose exits follow each other
_MIX, _KEEP = 0x9E37_79B9_7F4A_7C15, 51  # a multiplier that spreads, and the shift that leaves 13 bits
_LANE = 64 - (EDGE_LANES.bit_length() - 1)  # the shift that leaves a lane: code and its handler rarely share one


@inline
def note_edge(hart: Hart, index: U64, detail: U64) -> None:
    """An exit with its counter's number, whose trap's epc is in scratch[0]; `detail` is what else tells it apart."""
    step = hart.guest_sepc - hart.scratch[0]
    if step > 4:
        step = 8 | (hart.vscause << 4)  # somewhere else: as a rule to the guest's handler, with this cause
    found = (((index << 12) | (step & 0xFFF)) + (detail << 40)) * U64(_MIX)
    found = found ^ (found >> 29)
    block = hart.scratch[0] >> _CODE
    lane = (block * U64(_MIX)) >> _LANE
    edge = found
    if hart.edge_code[lane] == block:
        edge = found + hart.edge_before[lane]
    edge = (edge * U64(_MIX)) >> _KEEP
    hart.exit_edges[edge >> 6] = hart.exit_edges[edge >> 6] | (U64(1) << (edge & 63))
    hart.edge_code[lane] = block
    hart.edge_before[lane] = (found << 1) | u64(True)


def edges(hart: Hart) -> int:
    """Return the edges seen on a hart, as the bits of a number."""
    assert EDGE_WORDS * 64 == 1 << 64 - _KEEP
    return int.from_bytes(bytes(hart.mem[_EDGES.index : _EDGES.index + _EDGES.count]), "little")
