"""The signature of an architecture test: memory between two symbols, as Spike writes it (+signature)."""

from __future__ import annotations

from collections.abc import Mapping

from trapline.session.regions import Regions

DEFAULT_GRANULARITY = 16


def signature(regions: Regions, symbols: Mapping[str, int], granularity: int = DEFAULT_GRANULARITY) -> str:
    """Return lines of `granularity` bytes in hexadecimal, the byte at the highest address first.

    The last line is filled up with zeros.
    """
    begin, end = signature_bounds(symbols, granularity)
    data = regions.read(begin, end - begin) if end > begin else b""
    lines = []
    for at in range(0, len(data), granularity):
        lines.append(data[at : at + granularity].ljust(granularity, b"\0")[::-1].hex())
    return "".join(line + "\n" for line in lines)


def signature_bounds(symbols: Mapping[str, int], granularity: int) -> tuple[int, int]:
    """Return where a program's signature begins and ends; ValueError if it has none, or no lines of that length."""
    if granularity not in (1, 2, 4, 8, 16, 32, 64):
        raise ValueError(f"signature granularity {granularity} is not a power of two from 1 to 64")
    missing = [name for name in ("begin_signature", "end_signature") if name not in symbols]
    if missing:
        raise ValueError(f"the program has no symbol {' and no '.join(missing)}: no signature to write")
    begin, end = symbols["begin_signature"], symbols["end_signature"]
    if end < begin:
        raise ValueError(f"end_signature {end:#x} lies before begin_signature {begin:#x}")
    return begin, end
