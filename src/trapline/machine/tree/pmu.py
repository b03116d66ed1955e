"""The device tree's node for the programmable counters (OpenSBI's binding riscv,pmu, as on QEMU's virt).

Events have the numbers of the SBI specification, which firmware writes into mhpmevent as they are; each counter takes
each event.
"""

from __future__ import annotations

from trapline.machine.tree.fdt import Node, cells64
from trapline.privilege.hpm import (
    EVENT_CYCLES,
    EVENT_DTLB_LOAD_MISS,
    EVENT_DTLB_STORE_MISS,
    EVENT_INSTRUCTIONS,
    EVENT_ITLB_MISS,
    EVENT_TRAP_KINDS,
    EVENT_TRAPS,
    HPM_END,
    HPM_FIRST,
)

_ALL = (1 << HPM_END) - (1 << HPM_FIRST)
_MCYCLE, _MINSTRET = 1 << 0, 1 << 2


def pmu_node() -> Node:
    """Return the node."""
    events = (
        (EVENT_CYCLES, _ALL | _MCYCLE),
        (EVENT_INSTRUCTIONS, _ALL | _MINSTRET),
        (EVENT_DTLB_LOAD_MISS, _ALL),
        (EVENT_DTLB_STORE_MISS, _ALL),
        (EVENT_ITLB_MISS, _ALL),
    )
    node = Node("pmu", compatible="riscv,pmu")
    node.set("riscv,event-to-mhpmcounters", [cell for event, counters in events for cell in (event, event, counters)])
    # Selector and mask, of the 48 bits that a raw event may have.
    return node.set(
        "riscv,raw-event-to-mhpmcounters",
        [*cells64(EVENT_TRAPS, 0xFFFF_FFFF_FFFF_FFFF & ~EVENT_TRAP_KINDS), _ALL],
    )
