"""Where things are in the memory of the pack's programs, and the page tables.

Sv39: entry n maps the GiB at n << 30 to itself for supervisor code, entry 64 + n the same for user code.
Sv39x4: the first three GiB to themselves. Entry 3 is nothing in either; entry 5 of the VS-stage's table points to a
table that the G-stage does not map. Tables of four and five levels begin with entries that lead to these.
"""

from __future__ import annotations

from trapline.privilege.fields import ATP_MODE_SHIFT, ATP_SV39
from trapline.privilege.pte import PTE_A, PTE_D, PTE_R, PTE_U, PTE_V, PTE_W, PTE_X

BASE = 0x8000_0000
CODE_SIZE = 0x10_0000
TABLES_AT = BASE + CODE_SIZE
S_TABLE, G_TABLE = TABLES_AT + 0x4000, TABLES_AT
DATA = BASE + 0x12_0000
NO_ACCESS = BASE + 0x13_0000  # 64 KiB
HOLE = (3 << 30) + 0x120
USER = 64 << 30
NO_TABLE = (5 << 30) + 0x120  # its page table is at HOLE's page
READ_ONLY, EXECUTE_ONLY, NOT_USER = ((n << 30) + 0x12_0120 for n in (6, 7, 8))  # all are DATA + 0x120
AGED_ENTRY = 9  # of either table; a case writes the entry that it needs
AGED = AGED_ENTRY << 30 | 0x12_0120  # DATA + 0x120
TABLE_WINDOW = 11  # entry of the G-stage: RAM, for VS-stage tables that the guest knows by another address
SV48, SV57, SV48X4, SV57X4 = S_TABLE + 0x1000, S_TABLE + 0x2000, S_TABLE + 0x4000, S_TABLE + 0x8000
_SV57_MIDDLE, _SV57X4_MIDDLE = S_TABLE + 0x3000, S_TABLE + 0xC000

SATP = ATP_SV39 << ATP_MODE_SHIFT | S_TABLE >> 12
HGATP = ATP_SV39 << ATP_MODE_SHIFT | G_TABLE >> 12

_DATA = 2 << 28  # the GiB of RAM
_AD = PTE_A | PTE_D
_LEAF = PTE_V | PTE_R | PTE_W | PTE_X | _AD


def _tables() -> bytes:
    supervisor, guest = [0] * 512, [0] * 2048
    for window, user in ((0, 0), (64, PTE_U)):
        for gib in range(3):
            supervisor[window + gib] = gib << 28 | _LEAF | user
        supervisor[window + 5] = 3 << 28 | PTE_V
        supervisor[window + 6] = _DATA | PTE_V | PTE_R | _AD | user
        supervisor[window + 7] = _DATA | PTE_V | PTE_X | _AD | user
    for gib in range(3):
        guest[gib] = gib << 28 | _LEAF | PTE_U
    guest[6] = _DATA | PTE_V | PTE_R | _AD | PTE_U
    guest[7] = _DATA | PTE_V | PTE_X | _AD | PTE_U
    guest[8] = _DATA | _LEAF
    guest[(3 << 9) + 2] = _DATA | _LEAF | PTE_U
    guest[TABLE_WINDOW] = _DATA | _LEAF | PTE_U
    upper = [0] * ((_SV57X4_MIDDLE + 0x1000 - SV48) // 8)
    for table, entry, below in (
        (SV48, 0, S_TABLE), (SV48, 1, S_TABLE), (SV57, 0, SV48), (SV57, 1, _SV57_MIDDLE), (_SV57_MIDDLE, 0, S_TABLE),
        (SV48X4, 0, G_TABLE), (SV48X4, 3 << 9, G_TABLE),
        (SV57X4, 0, _SV57X4_MIDDLE), (SV57X4, 3 << 9, _SV57X4_MIDDLE), (_SV57X4_MIDDLE, 0, G_TABLE),
    ):  # fmt: skip
        upper[(table - SV48) // 8 + entry] = below >> 2 | PTE_V
    return b"".join(entry.to_bytes(8, "little") for entry in (*guest, *supervisor, *upper))


TABLES = _tables()
