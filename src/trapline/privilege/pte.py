"""Bits of page-table entries (Privileged spec, Sv39 to Sv57; Svnapot, Svpbmt); the same in G-stage tables."""

from __future__ import annotations

PTE_V, PTE_R, PTE_W, PTE_X, PTE_U, PTE_G, PTE_A, PTE_D = 1, 2, 4, 8, 16, 32, 64, 128
PTE_LEAF = PTE_R | PTE_W | PTE_X  # any of them: the entry is a leaf
PTE_RESERVED = 0x7F << 54
PTE_PBMT = 3 << 61
PTE_N = 1 << 63
PPN_SHIFT = 10
PPN_MASK = (1 << 44) - 1
