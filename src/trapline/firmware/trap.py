"""The trap that firmware was entered with, as M-mode software reads it."""

from __future__ import annotations

from trapline.dataclass import dataclass
from trapline.lang.functions import Trap
from trapline.lang.state import Hart
from trapline.privilege.causes import INTERRUPT
from trapline.privilege.fields import MSTATUS_GVA, MSTATUS_MPP, MSTATUS_MPP_SHIFT, MSTATUS_MPV
from trapline.privilege.modes import MACHINE


@dataclass(frozen=True, slots=True)
class MachineTrap:
    """mcause, mepc, mtval, mtval2, mtinst, and mstatus.GVA, MPP and MPV."""

    cause: int
    epc: int
    tval: int
    tval2: int
    tinst: int
    gva: bool
    priv: int
    virt: int

    @property
    def is_interrupt(self) -> bool:
        """Return whether mcause has its top bit set."""
        return bool(self.cause & INTERRUPT)

    @property
    def origin(self) -> int:
        """Return the mode index of where the trap came from (privilege.modes)."""
        return self.priv | self.virt << 2

    def replaced_by(self, inner: Trap) -> MachineTrap:
        """Return the trap of an access that was made on behalf of this one, raised at the same instruction."""
        return MachineTrap(
            inner.cause, self.epc, inner.tval, inner.tval2, inner.tinst, bool(inner.gva), self.priv, self.virt
        )


def last_trap(hart: Hart) -> Trap:
    """Return the trap that the compiled handler left in the hart's trap_*."""
    return Trap(hart.trap_cause, hart.trap_tval, hart.trap_tval2, hart.trap_tinst, hart.trap_gva)


def read_trap(hart: Hart) -> MachineTrap:
    """Read what take_trap wrote for M-mode."""
    mstatus = int(hart.mstatus)
    priv = (mstatus & MSTATUS_MPP) >> MSTATUS_MPP_SHIFT
    virt = 1 if mstatus & MSTATUS_MPV and priv != MACHINE else 0
    tval2, tinst = (int(hart.mtval2), int(hart.mtinst)) if hart.has_h != 0 else (0, 0)
    cause, epc, tval = int(hart.mcause), int(hart.mepc), int(hart.mtval)
    return MachineTrap(cause, epc, tval, tval2, tinst, bool(mstatus & MSTATUS_GVA), priv, virt)
