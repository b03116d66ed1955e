"""NACL served to L1: H registers and fences by shared memory, entry of L2 by one call (SBI, Nested Acceleration).

The memory is 12 KiB of the VM's, for each vCPU where L1 has it: a scratch page (x registers, autoswap, fences, a bitmap
of CSRs that L1 has written) and 1024 words, one for each H CSR. It is looked for at each use: L1 may have lost it.
"""

from __future__ import annotations

from typing import get_args

from trapline.engine.undo_log import PAGE, keep_page
from trapline.isa.system import SRET
from trapline.kvm.nested.bugs import VSCAUSE_LOSES_INTERRUPT_BIT, has_bug
from trapline.kvm.nested.instruction import CODE_OF_CAUSE, execute_virtual, reads_pending
from trapline.kvm.nested.shadow import ANY_VMID, BY_PAGE, fence_range, fence_shadows, forget_translations
from trapline.kvm.nested.world import HSTATUS, PC, SCRATCH, VIRT, VSCAUSE, get, push, put, settle_timers
from trapline.lang.control import note_store
from trapline.lang.devices import on_hart
from trapline.lang.functions import cold, inline
from trapline.lang.memory import host_load, host_store
from trapline.lang.state import Hart
from trapline.lang.state.words import LAYOUT
from trapline.lang.values import MASK64, U64, ctz, u64
from trapline.policies.names import NaclFeature
from trapline.privilege.csr import LEVEL_H, READ_ONLY, csr_exists, csr_read, csr_write
from trapline.privilege.csr_numbers import HSTATUS as CSR_HSTATUS
from trapline.privilege.csr_numbers import HVIP as CSR_HVIP
from trapline.privilege.csr_numbers import VSCAUSE as CSR_VSCAUSE
from trapline.privilege.fields import ALL_ONES, HSTATUS_SPV
from trapline.privilege.protection import KIND_RAM, NO_REGION, region_of

SYNC_CSR, SYNC_HFENCE, SYNC_SRET, AUTOSWAP = (1 << n for n in range(4))  # bits of kvm_nacl, by number of the feature
FEATURES: dict[str, int] = {name: 1 << n for n, name in enumerate(get_args(NaclFeature))}
SERVED = 1 << 4
EID_BASE, EID_NACL = 0x10, 0x4E41434C
BASE_PROBE = 3
PROBE, SET_SHMEM, DO_SYNC_CSR, DO_SYNC_HFENCE, DO_SYNC_SRET = range(5)
CSR_MAP = LAYOUT.fields["csr_map"].index * 8
FAILURES = (-2, -3, -5, -9)
NOT_SUPPORTED, INVALID_PARAM, INVALID_ADDRESS, NO_SHMEM = (code & MASK64 for code in FAILURES)
# Offsets in the shared memory, and its size on RV64.
SWAP_FLAGS, SWAP_HSTATUS, FENCES, DIRTY, CSRS, SHMEM_SIZE = 0x200, 0x208, 0x800, 0xF80, 0x1000, 0x3000
ENTRIES, ENTRY = 60, 32
PENDING = 1 << 63


# --- on the hart that L1 sees ---
@cold
def locate(hart: Hart, pa: U64) -> None:
    """scratch[0]: the host address of the shared memory at `pa`, 0 if it is not all RAM of one slot."""
    hart.scratch[0] = 0
    region = region_of(hart, pa)
    if region != NO_REGION and hart.region_kind[region] == KIND_RAM:
        offset = pa - hart.region_base[region]
        if hart.region_size[region] - offset >= SHMEM_SIZE:
            hart.scratch[0] = hart.region_host[region] + offset
            for n in range(3):  # it is about to be written: L1 may have code there
                note_store(hart, pa + n * PAGE, region, U64(PAGE))


@cold
def there(hart: Hart, csr: U64) -> None:
    """scratch[0]: 1 if it is an H CSR that L1 has."""
    hart.scratch[0] = u64(csr < 0x1000 and csr >> 8 & 3 == LEVEL_H and csr_exists(hart, csr & 0xFFF))


@cold
def read_register(hart: Hart, csr: U64) -> None:
    """scratch[0]: its value."""
    hart.scratch[0] = csr_read(hart, csr)


@cold
def write_register(hart: Hart, csr: U64, value: U64) -> None:
    """Write it, as by CSRRW."""
    csr_write(hart, csr, value)


# --- on the hart of the vCPU ---
@cold
def has_csr(virtual: U64, csr: U64) -> bool:
    """Whether it is an H CSR that L1 has."""
    on_hart(virtual, there, csr)
    return get(virtual, U64(SCRATCH)) != 0


@inline
def csr_of(index: U64) -> U64:
    """The CSR whose word has this number."""
    return (index & 0x300) << 2 | 0x200 | (index & 0xFF)


@inline
def index_of(csr: U64) -> U64:
    """The number of a CSR's word."""
    return (csr & 0xC00) >> 2 | (csr & 0xFF)


@cold
def shared(hart: Hart, virtual: U64) -> U64:
    """Host address of the shared memory, 0 if there is none now."""
    if hart.kvm_nacl_memory == 0:
        return U64(0)
    on_hart(virtual, locate, hart.kvm_nacl_memory & ~U64(1))
    at = get(virtual, U64(SCRATCH))
    keep_shared(hart, at)
    return at


@cold
def keep_shared(hart: Hart, at: U64) -> None:
    """The shared memory is about to be written: a checkpoint keeps it."""
    if hart.undo_base != 0 and at != 0:
        for n in range(3):
            keep_page(hart, at + n * PAGE)


@cold
def take_dirty(hart: Hart, virtual: U64, at: U64, csr: U64) -> None:
    """Do L1's write of a CSR, if it has marked one."""
    index = index_of(csr)
    place = at + DIRTY + (index >> 6) * 8
    marks = host_load(place, 8)
    if marks >> (index & 63) & 1 == 0:
        return
    host_store(place, 8, marks & ~(U64(1) << (index & 63)))
    if csr >> 10 == READ_ONLY:
        return
    before = get(virtual, U64(VSCAUSE))
    on_hart(virtual, write_register, csr, host_load(at + CSRS + index * 8, 8))
    if csr == CSR_VSCAUSE and has_bug(hart, U64(VSCAUSE_LOSES_INTERRUPT_BIT)):
        put(virtual, U64(VSCAUSE), (before & ~U64(CODE_OF_CAUSE)) | (get(virtual, U64(VSCAUSE)) & CODE_OF_CAUSE))


@cold
def show(virtual: U64, at: U64, csr: U64) -> None:
    """Write a CSR's value into its word, but not over what L1 has written there and not synced."""
    index = index_of(csr)
    if host_load(at + DIRTY + (index >> 6) * 8, 8) >> (index & 63) & 1 != 0:
        return
    if reads_pending(csr):
        settle_timers(virtual)
    on_hart(virtual, read_register, csr)
    host_store(at + CSRS + index * 8, 8, get(virtual, U64(SCRATCH)))


@inline
def csrs_of(virtual: U64, n: U64) -> U64:
    """The H CSRs that L1 has among the 64 whose words have the numbers from 64 n on."""
    return get(virtual, U64(CSR_MAP) + (csr_of(n * 64) >> 6) * 8)


@cold
def sync_csrs(hart: Hart, virtual: U64, at: U64) -> None:
    """Do all writes that L1 has marked, hvip's before hip's."""
    take_dirty(hart, virtual, at, U64(CSR_HVIP))
    for n in range(16):
        marked = host_load(at + DIRTY + n * 8, 8)
        if marked != 0:
            marked = marked & csrs_of(virtual, U64(0) + n)
            for _ in range(64):
                if marked == 0:
                    break
                take_dirty(hart, virtual, at, csr_of(U64(0) + n * 64 + ctz(marked)))
                marked = marked & (marked - 1)
            host_store(at + DIRTY + n * 8, 8, U64(0))


@cold
def show_csrs(virtual: U64, at: U64) -> None:
    """Write the values of all H CSRs."""
    for n in range(16):
        left = csrs_of(virtual, U64(0) + n)
        for _ in range(64):
            if left == 0:
                break
            show(virtual, at, csr_of(U64(0) + n * 64 + ctz(left)))
            left = left & (left - 1)


@cold
def fence_entry(hart: Hart, place: U64) -> None:
    """Do one fence, if it is pending."""
    config = host_load(place, 8)
    if config & PENDING == 0:
        return
    host_store(place, 8, config & ~U64(PENDING))
    kind = config >> 56 & 15
    order = config >> 48 & 0x7F
    if kind >= 4:
        if kind < 8:
            forget_translations(hart)
        return
    vmid = config >> 16 & 0x3FFF if kind >= 2 else U64(ANY_VMID)
    count = host_load(place + 24, 8)
    if kind & 1 != 0 or order > 6 or count << (order & 7) > BY_PAGE or count > BY_PAGE:
        fence_shadows(hart, vmid, U64(0), U64(0))
        return
    fence_range(hart, vmid, host_load(place + 8, 8) << (order & 7), count << (order & 7))


@cold
def autoswap(virtual: U64, at: U64) -> None:
    """Exchange hstatus with its word, if L1 has asked for it."""
    if host_load(at + SWAP_FLAGS, 8) & 1 != 0:
        new = host_load(at + SWAP_HSTATUS, 8)
        host_store(at + SWAP_HSTATUS, 8, get(virtual, U64(HSTATUS)))
        on_hart(virtual, write_register, U64(CSR_HSTATUS), new)


@cold
def set_shmem(hart: Hart, virtual: U64, low: U64, high: U64, flags: U64) -> U64:
    """The call of this name: an error, or 0."""
    if flags != 0:
        return U64(INVALID_PARAM)
    if low == ALL_ONES and high == ALL_ONES:
        hart.kvm_nacl_memory = 0
        return U64(0)
    if low & 0xFFF != 0:
        return U64(INVALID_PARAM)
    on_hart(virtual, locate, low)
    at = get(virtual, U64(SCRATCH))
    if high != 0 or at == 0:
        return U64(INVALID_ADDRESS)
    hart.kvm_nacl_memory = low | 1
    keep_shared(hart, at)
    for n in range(16):
        host_store(at + DIRTY + n * 8, 8, U64(0))
    show_csrs(virtual, at)
    return U64(0)


@cold
def do_sync_csr(hart: Hart, virtual: U64, at: U64, csr: U64) -> U64:
    """The call of this name: an error, or 0."""
    if csr == ALL_ONES:
        sync_csrs(hart, virtual, at)
        show_csrs(virtual, at)
        return U64(0)
    if csr >= 0x1000 or not has_csr(virtual, csr):
        return U64(INVALID_PARAM)
    take_dirty(hart, virtual, at, csr)
    show(virtual, at, csr)
    return U64(0)


@cold
def do_sync_hfence(hart: Hart, at: U64, index: U64) -> U64:
    """The call of this name: an error, or 0."""
    if index != ALL_ONES and index >= ENTRIES:
        return U64(INVALID_PARAM)
    for i in range(ENTRIES):
        if index == ALL_ONES or index == i:
            fence_entry(hart, at + FENCES + i * ENTRY)
    return U64(0)


@cold
def do_sync_sret(hart: Hart, virtual: U64, at: U64) -> None:
    """The call of this name: registers, fences, and SRET."""
    if hart.kvm_nacl & SYNC_CSR != 0:
        sync_csrs(hart, virtual, at)
    show_csrs(virtual, at)
    if hart.kvm_nacl & SYNC_HFENCE != 0:
        do_sync_hfence(hart, at, U64(ALL_ONES))
    for n in range(1, 32):
        hart.x[n] = host_load(at + n * 8, 8)
    if hart.kvm_nacl & AUTOSWAP != 0:
        autoswap(virtual, at)
    execute_virtual(hart, virtual, U64(SRET))


@inline
def calls_nacl(hart: Hart) -> bool:
    """Whether L1's call is one of this extension's, or asks BASE for it."""
    if hart.kvm_nacl == 0:
        return False
    if hart.x[17] == EID_NACL:
        return True
    return hart.x[17] == EID_BASE and hart.x[16] == BASE_PROBE and hart.x[10] == EID_NACL


@cold
def serve_nacl(hart: Hart, virtual: U64) -> None:
    """Serve L1's call; what L1 goes on with is on the hart that it sees."""
    function = hart.x[16]
    at = shared(hart, virtual)
    given = hart.x[10]
    error = U64(0)
    value = U64(0)
    if hart.x[17] == EID_BASE:
        value = U64(1)
    elif function == PROBE:
        value = hart.kvm_nacl >> given & 1 if given < 4 else U64(0)
    elif function == SET_SHMEM:
        error = set_shmem(hart, virtual, given, hart.x[11], hart.x[12])
    elif function > DO_SYNC_SRET or hart.kvm_nacl >> (function - DO_SYNC_CSR) & 1 == 0:
        error = U64(NOT_SUPPORTED)
        if function == DO_SYNC_HFENCE and at != 0:
            # Linux (7.2) lists fences whatever SYNC_HFENCE is, and calls until its list has room.
            do_sync_hfence(hart, at, U64(ALL_ONES))
    elif at == 0:
        error = U64(NO_SHMEM)
    elif function == DO_SYNC_CSR:
        error = do_sync_csr(hart, virtual, at, given)
    elif function == DO_SYNC_HFENCE:
        error = do_sync_hfence(hart, at, given)
    else:
        do_sync_sret(hart, virtual, at)
        return
    hart.x[10] = error
    hart.x[11] = value
    put(virtual, U64(PC), get(virtual, U64(PC)) + 4)


@cold
def go_on(hart: Hart, virtual: U64) -> None:
    """Load what the hart that L1 sees goes on with; where L2 is left for L1, its shared memory shows the registers.

    Linux (7.2) reads them there whatever SYNC_CSR is.
    """
    if hart.kvm_world != 0 and hart.kvm_nacl_memory != 0 and get(virtual, U64(VIRT)) == 0:
        at = shared(hart, virtual)
        if at != 0:
            if hart.kvm_nacl & AUTOSWAP != 0:
                autoswap(virtual, at)
            show_csrs(virtual, at)
    push(hart, virtual)


@cold
def sync_before_sret(hart: Hart, virtual: U64) -> None:
    """L1 goes into L2 by SRET: what it has written and not synced holds there, fences too.

    Linux (7.2) without SYNC_SRET does not sync.
    """
    if hart.kvm_nacl_memory != 0 and get(virtual, U64(HSTATUS)) & HSTATUS_SPV != 0:
        at = shared(hart, virtual)
        if at != 0:
            if hart.kvm_nacl & SYNC_CSR != 0:
                sync_csrs(hart, virtual, at)
            do_sync_hfence(hart, at, U64(ALL_ONES))


@cold
def show_written(hart: Hart, virtual: U64, csr: U64) -> None:
    """L1 has written a CSR by an instruction: its word follows."""
    if hart.kvm_nacl_memory != 0 and has_csr(virtual, csr):
        at = shared(hart, virtual)
        if at != 0:
            show(virtual, at, csr)
