"""Instructions of the opcode SYSTEM as whoever emulates them meets them: their bits, and what kind each is of."""

from __future__ import annotations

from trapline.lang.functions import inline
from trapline.lang.values import U64
from trapline.privilege.csr_numbers import CYCLE  # the first of 32 counters

SYSTEM = 0x73
SRET, WFI, WRS_NTO, WRS_STO = 0x10200073, 0x10500073, 0x00D00073, 0x01D00073


@inline
def is_csr(bits: U64) -> bool:
    """Whether it is a CSR instruction."""
    return bits & 0x7F == SYSTEM and bits >> 12 & 3 != 0


@inline
def is_counter(bits: U64) -> bool:
    """Whether it accesses a counter that user code may be given."""
    return is_csr(bits) and bits >> 25 & 0x7F == CYCLE >> 5


@inline
def is_guest_access(bits: U64) -> bool:
    """Whether it is HLV, HLVX or HSV."""
    return bits & 0x7F == SYSTEM and bits >> 12 & 7 == 4
