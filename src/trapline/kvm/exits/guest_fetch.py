"""The guest's instruction, fetched by HS-mode with HLVX.HU, one or two parcels (kvm_riscv_vcpu_unpriv_read)."""

from __future__ import annotations

from trapline.kvm.flags import READS_AS_THE_GUEST
from trapline.lang.control import attempt
from trapline.lang.functions import cold, hosted
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege.causes import INST_ACCESS, INST_PAGE_FAULT, LOAD_ACCESS, LOAD_PAGE_FAULT
from trapline.privilege.memory import guest_load


@cold
def read_parcels(hart: Hart, pc: U64) -> U64:
    """HLVX.HU once or twice."""
    bits = guest_load(hart, pc, U64(2), U64(1))
    if bits & 3 == 3:
        bits = bits | (guest_load(hart, pc + 2, U64(2), U64(1)) << 16)
    return bits


@hosted
def fetches_guest(hart: Hart) -> bool:
    """Fetch the guest's instruction to hart.attempted; False if that faults: hart.trap_* is then the fault.

    A load page fault becomes an instruction page fault; other causes stay what the load took.
    """
    if not attempt(hart, read_parcels, hart.guest_sepc):
        return True
    if hart.trap_cause == LOAD_PAGE_FAULT:
        hart.trap_cause = INST_PAGE_FAULT
    elif hart.trap_cause == LOAD_ACCESS and hart.kvm_flags & READS_AS_THE_GUEST != 0:
        hart.trap_cause = INST_ACCESS
    return False
