"""The SBI calls that a hosted exit serves by itself: TIME, IPI and RFENCE towards vCPUs that exist, HSM status,
and those of extensions that are not there.

The Python side (vcpu_sbi, sbi.time, sbi.ipi, sbi.rfence, sbi.hsm) serves every call; these are those among them that
touch nothing but the vCPUs' words. hart.kvm_flags says which extensions are on.
"""

from __future__ import annotations

from trapline.kvm.entry import REQUEST_TRANSLATIONS, cut_turn, program_timer
from trapline.kvm.exits.kept_answers import is_kept
from trapline.kvm.flags import (
    FENCE_RANGE_WRAPS,
    REFUSES_NO_HART,
    REFUSES_UNKNOWN,
    SERVES_HSM_STATUS,
    SERVES_IPI,
    SERVES_RFENCE,
    SERVES_TIME,
    STATUS_OF_CALLER,
)
from trapline.lang.functions import cold, inline
from trapline.lang.memory import host_load, host_store
from trapline.lang.state import Hart
from trapline.lang.state.words import LAYOUT, SBI_RULES
from trapline.lang.values import U64
from trapline.privilege.fields import VSSIP
from trapline.sbi.harts import ALL_HARTS

EID_TIME, EID_IPI, EID_RFENCE, EID_HSM = 0x54494D45, 0x735049, 0x52464E43, 0x48534D
HART_GET_STATUS = 2
STARTED, STOPPED, SUSPENDED = 0, 1, 4  # SBI, HSM: hart states
NOT_SUPPORTED = 0xFFFF_FFFF_FFFF_FFFE  # -2
INVALID_PARAM = 0xFFFF_FFFF_FFFF_FFFD  # -3
REMOTE_FENCE_I, REMOTE_SFENCE_VMA_ASID = 0, 2

IRQS, IRQS_MASK, REQUESTS, IS_STOPPED, BLOCKED = (
    LAYOUT.fields[n].index * 8 for n in ("kvm_irqs", "kvm_irqs_mask", "kvm_requests", "kvm_stopped", "kvm_blocked")
)


@inline
def every_hart(hart: Hart) -> U64:
    """A bit for each vCPU of the VM."""
    return U64(ALL_HARTS) >> ((64 - hart.kvm_peer_count) & 63)


@inline
def named_harts(hart: Hart, mask: U64, base: U64) -> U64:
    """The vCPUs that hart_mask and hart_mask_base name; 0 if that is nobody, or not only vCPUs that exist."""
    if base == ALL_HARTS:
        return every_hart(hart)
    if base >= 64 or (mask << (base & 63)) >> (base & 63) != mask:
        return U64(0)
    named = mask << (base & 63)
    return named if named & ~every_hart(hart) == 0 else U64(0)


@inline
def set_bits(address: U64, bits: U64) -> None:
    """Set bits of a word of another vCPU."""
    host_store(address, 8, host_load(address, 8) | bits)


@cold
def is_offered(hart: Hart, eid: U64) -> bool:
    """Whether an extension is there."""
    for i in range(SBI_RULES):  # noqa: SIM110 (the subset has no generators)
        if eid >= hart.kvm_sbi[i * 2] and eid <= hart.kvm_sbi[i * 2 + 1]:
            return True
    return False


@inline
def hart_status(hart: Hart) -> None:
    """HSM hart_get_status: stopped, suspended while it blocks, or started; an error for a hart that does not exist."""
    if hart.x[10] >= hart.kvm_peer_count:
        hart.scratch[2] = INVALID_PARAM
        return
    other = hart.kvm_peers[hart.x[10] & 63]
    if host_load(other + IS_STOPPED, 8) != 0:
        hart.scratch[3] = STOPPED
    elif hart.kvm_flags & STATUS_OF_CALLER == 0 and host_load(other + BLOCKED, 8) != 0:
        hart.scratch[3] = SUSPENDED
    else:
        hart.scratch[3] = STARTED


@cold
def serve_call(hart: Hart, act: U64) -> bool:
    """Serve the guest's call (act 1), or tell whether it can be served here (act 0).

    The answer is in hart.scratch: 2 the error, 3 the value.
    """
    eid = hart.x[17]
    fid = hart.x[16]
    hart.scratch[2] = 0
    hart.scratch[3] = 0
    if is_kept(hart):
        return True
    if hart.kvm_flags & REFUSES_UNKNOWN != 0 and not is_offered(hart, eid):
        hart.scratch[2] = NOT_SUPPORTED
        return True
    if eid == EID_HSM and fid == HART_GET_STATUS and hart.kvm_flags & SERVES_HSM_STATUS != 0:
        missing = hart.x[10] >= hart.kvm_peer_count
        # The upper half of an id may not be looked at (hsm-hartid-truncated).
        if missing and (hart.x[10] >> 32 != 0 or hart.kvm_flags & REFUSES_NO_HART == 0):
            return False
        hart_status(hart)
        return True
    if eid == EID_TIME and fid == 0 and hart.kvm_flags & SERVES_TIME != 0:
        if act != 0:
            program_timer(hart, hart.x[10])
        return True
    named = named_harts(hart, hart.x[10], hart.x[11])
    if named == 0:
        return False
    if eid == EID_IPI and fid == 0 and hart.kvm_flags & SERVES_IPI != 0:
        for i in range(64):
            if act != 0 and (named >> i) & 1 != 0:
                set_bits(hart.kvm_peers[i] + IRQS, U64(VSSIP))
                set_bits(hart.kvm_peers[i] + IRQS_MASK, U64(VSSIP))
        if act != 0:
            cut_turn(hart)
        return True
    if eid != EID_RFENCE or fid > REMOTE_SFENCE_VMA_ASID or hart.kvm_flags & SERVES_RFENCE == 0:
        return False
    if fid != REMOTE_FENCE_I and hart.kvm_flags & FENCE_RANGE_WRAPS != 0 and hart.x[12] + hart.x[13] < hart.x[12]:
        return False
    for i in range(64):
        if act != 0 and fid != REMOTE_FENCE_I and (named >> i) & 1 != 0:
            set_bits(hart.kvm_peers[i] + REQUESTS, U64(REQUEST_TRANSLATIONS))
    return True
