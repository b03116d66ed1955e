"""SBI calls in a log, by name."""

from __future__ import annotations

from trapline.sbi.legacy import FUNCTIONS as LEGACY
from trapline.sbi.numbers import Eid, SbiError
from trapline.sbi.serve import EXTENSIONS
from trapline.session.observe.trace import Traced

_EID, _ERRORS = {int(e): e.name for e in Eid}, {int(e): e.name for e in SbiError}
_SIGN = 1 << 63


def call_text(t: Traced) -> str:
    """Return an SBI call with its names (SBI 3.0, chapter 3): extension, function, a0."""
    eid, fid, a0 = t.a7 & 0xFFFF_FFFF, t.a6 & 0xFFFF_FFFF, t.a0
    if eid in LEGACY:
        name = f"LEGACY.{LEGACY[eid].__name__}"
    else:
        extension = EXTENSIONS.get(eid)
        function = extension.functions.get(fid) if extension is not None else None
        name = f"{_EID.get(eid, f'{eid:#x}')}.{function.__name__ if function is not None else fid}"
    return f"sbi: hart:{t.hart}, {t.mode}, {name}({a0:#x})"


def result_text(call: Traced, t: Traced) -> str:
    """Return what an SBI call gave: error and value."""
    error = t.a0 - (1 << 64) if t.a0 & _SIGN else t.a0
    if call.a7 & 0xFFFF_FFFF in LEGACY:
        return str(error)
    return f"{_ERRORS.get(error, str(error))}, {t.a1:#x}"
