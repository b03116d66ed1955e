"""FWFT features of hosted firmware: bits of medeleg and menvcfg."""

from __future__ import annotations

from typing import ClassVar

from trapline.dataclass import dataclass
from trapline.lang.state import Hart
from trapline.privilege import csr_numbers as csr
from trapline.privilege.causes import MISALIGNED_BITS
from trapline.privilege.csr import csr_read, csr_write
from trapline.privilege.fields import ENVCFG_ADUE
from trapline.sbi.numbers import Feature, SbiError


@dataclass(slots=True)
class CsrBits:
    """A feature that is on when bits of a CSR are set."""

    snapshot_skips: ClassVar = ("number", "bits")

    hart: Hart
    number: int
    bits: int
    locked: bool = False

    def read(self) -> int:
        """Return 1 if any of the bits is set."""
        return 1 if int(self.hart.call(csr_read, self.number)) & self.bits else 0

    def write(self, value: int) -> SbiError:
        """Set or clear the bits; bits that the hart ties to zero stay so and the call still succeeds."""
        if value not in (0, 1):
            return SbiError.INVALID_PARAM
        old = int(self.hart.call(csr_read, self.number)) & ~self.bits
        self.hart.call(csr_write, self.number, old | (self.bits if value else 0))
        return SbiError.SUCCESS


def features_of(hart: Hart, adue_needs_svade: bool = False) -> dict[int, CsrBits]:
    """Return the features that this hart can have."""
    found = {int(Feature.MISALIGNED_EXC_DELEG): CsrBits(hart, csr.MEDELEG, MISALIGNED_BITS)}
    if hart.has_svadu != 0 and (hart.has_svade != 0 or not adue_needs_svade):
        found[int(Feature.PTE_AD_HW_UPDATING)] = CsrBits(hart, csr.MENVCFG, ENVCFG_ADUE)
    return found
