"""Several interrupts pending at once: the level that takes one comes first, then the order within a level."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from trapline.pack import rows
from trapline.pack.rows import Case, Check, Options, csr, held, status
from trapline.privilege.causes import INTERRUPT
from trapline.privilege.fields import S_INTERRUPTS, VS_INTERRUPTS

ORDER = "Machine: mip and mie, priority of simultaneous interrupts; H: SGEI, VSEI, VSSI, VSTI come last"
LEVELS = "Machine: mip and mie; H: interrupts of M come before those of HS, and these before those of VS"

_NAMES = {9: "SEI", 1: "SSI", 5: "STI", 10: "VSEI", 2: "VSSI", 6: "VSTI"}
_S, _VS = (9, 1, 5), (10, 2, 6)  # in the order in which they are taken


def cases(_options: Options) -> Iterator[Case]:
    """Return each neighbouring pair and all at once, for M, HS and VS, then sets that are split between levels."""
    for mode in ("U", "HS", "VS", "VU"):
        for pending in (*pairwise(_S), _S):
            yield _case(mode, pending, 0, 0, "M", pending[0], ORDER)
        for pending in (*pairwise((*_S, *_VS)), (*_S, *_VS)):
            yield _case(mode, pending, S_INTERRUPTS, 0, "HS", pending[0], ORDER)
    for mode in ("VS", "VU"):
        for pending in (*pairwise(_VS), _VS):
            yield _case(mode, pending, S_INTERRUPTS, VS_INTERRUPTS, "VS", pending[0], ORDER)
        yield _case(mode, (5, 9), 1 << 9, 0, "M", 5, LEVELS)
        yield _case(mode, (5, 10), 0, VS_INTERRUPTS, "M", 5, LEVELS)
        yield _case(mode, (5, 10), S_INTERRUPTS, VS_INTERRUPTS, "HS", 5, LEVELS)
        yield _case(mode, (6, 10), S_INTERRUPTS, 1 << 10, "HS", 6, LEVELS)


def _case(mode: str, pending: tuple[int, ...], mideleg: int, hideleg: int, to: str, number: int, rule: str) -> Case:
    by_mip, virtual = (sum(1 << n for n in pending if n in kind) for kind in (_S, _VS))
    setup = (
        csr("vsstatus", rows.SIE), status("mstatus", rows.SPIE, rows.SPIE), csr("hstatus", 0), held("mideleg", mideleg),
        csr("hideleg", hideleg), held("mip", by_mip), held("hvip", virtual), csr("mie", by_mip | virtual),
    )  # fmt: skip
    prefix = {"M": "m", "HS": "s", "VS": "vs"}[to]
    checks = (
        Check("taker (0 M, 1 HS, 2 VS, 3 nobody)", "taker", rows.TAKERS[to], rule),
        Check(f"{prefix}cause", f"{prefix}cause", INTERRUPT | number - (to == "VS"), rule),
    )
    names = ", ".join(_NAMES[n] for n in pending)
    name = f"{names} in {mode}, mideleg {mideleg:#x}, hideleg {hideleg:#x}"
    return Case(name, mode, setup, ("nop", "nop"), checks)
