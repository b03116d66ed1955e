"""Where a random stream's parts lie in memory, and what its runtime keeps where.

Physical memory: runtime code, runtime data, body code, data pages and page tables, each in a 2 MiB
page of its own, so that every stage can map each with one leaf and its own permissions.
"""

from __future__ import annotations

RAM = 0x8000_0000
RAM_SIZE = 64 << 20
MEGAPAGE = 2 << 20
PAGE = 4096

CODE = RAM  # reset and the handlers of M, HS and VS
CODE_SIZE = 0x10000
STATE = RAM + 0x10_0000  # save areas, configurations, blocks
BODY = RAM + MEGAPAGE  # the random instructions
GADGETS = BODY + 0x10_0000  # pages that may be jumped to
GADGET_PAGES = 2
DATA_PAGES = 24
TABLES = RAM + 3 * MEGAPAGE
TABLE_PAGES = 48
DATA = TABLES - DATA_PAGES * PAGE  # adjoins the tables, so that one signature holds both
LOG = DATA - PAGE  # the accumulator after each block

USER_ALIAS = 0x4000_0000  # added to the address of body and data where users may reach them
HOLE = 0x100_0000_0000  # no memory there
ABOVE_RAM = RAM + (1 << 30)

# Virtual (and guest-physical) windows of odd mappings: one table of 4 KiB pages, then superpages.
ZOO = 0x0000_0000
ZOO_SUPERPAGES = 0x0020_0000
ZOO_SUPERPAGE_COUNT = 12
ZOO_TABLES = ZOO + 8 * MEGAPAGE * 4  # virtual pages whose table's own guest-physical page is odd
GIGAPAGE = 0x4000_0000
EXEC_ZOO_PAGES = 64  # the last pages of the zoo map gadgets
EXEC_ZOO = ZOO + (512 - EXEC_ZOO_PAGES) * PAGE

TOHOST = RAM + 0x37A_49A8  # far from all else: a stray store to it would be a command to the simulator
FROMHOST = TOHOST + 64


class State:
    """Offsets of the runtime's variables from the save area that mscratch, sscratch and vsscratch point to."""

    T0, T1, T2, T3, T4, T5 = range(0, 48, 8)
    ACC, PRIME, NEXT, LOG, ESCALATE = range(48, 88, 8)


SAVE_M = STATE + 0x100
SAVE_S = STATE + 0x200
SAVE_V = STATE + 0x300
BLOCKS = STATE + 0x1000
