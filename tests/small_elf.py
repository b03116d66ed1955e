"""Executables of a few bytes."""

from __future__ import annotations

from collections.abc import Sequence

from trapline.lab.replay.elf_file import Part, write_elf


def elf(entry: int, segments: Sequence[tuple[int, bytes]]) -> bytes:
    """An RV64 executable that loads each (physical address, bytes), without symbols."""
    return write_elf([Part(*segment) for segment in segments], {}, entry)
