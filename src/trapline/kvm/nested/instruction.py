"""An instruction of L1 or L2 that trapped to L0: executed on the hart that L1 sees, with the policy's bugs."""

from __future__ import annotations

from trapline.engine.decode_block import find_entry, immediate, register_bytes, word
from trapline.engine.records import NUMBER
from trapline.isa.system import SRET, SYSTEM, WFI, WRS_NTO, WRS_STO, is_counter, is_csr, is_guest_access
from trapline.kvm.nested.bugs import (
    COUNTER_ILLEGAL,
    NO_HLV,
    SIP_MASK_SHIFTED,
    SRET_KEEPS_SPV,
    SV39X4_ONLY,
    VSCAUSE_LOSES_INTERRUPT_BIT,
    WFI_ALWAYS_22,
    has_bug,
)
from trapline.kvm.nested.shadow import ANY_VMID, fence_shadows, forget_translations
from trapline.kvm.nested.virtual import GUEST_FENCES, RUN, VIRTUAL_FENCES, deliver, execute, take
from trapline.kvm.nested.world import (
    HEDELEG,
    HGATP,
    HSTATUS,
    HVIP,
    INSN,
    MSTATUS,
    NEXT_PC,
    PC,
    VIRT,
    VSCAUSE,
    X,
    get,
    put,
    settle_timers,
)
from trapline.lang.devices import on_hart, traps_on_hart
from trapline.lang.functions import cold, inline
from trapline.lang.state import Hart
from trapline.lang.state.words import LAYOUT
from trapline.lang.values import U64, u64
from trapline.privilege.causes import ILLEGAL_INST, VIRTUAL_INST
from trapline.privilege.csr import LEVEL_H
from trapline.privilege.csr_numbers import HGATP as CSR_HGATP
from trapline.privilege.csr_numbers import SIP as CSR_SIP
from trapline.privilege.csr_numbers import TIME
from trapline.privilege.csr_numbers import VSCAUSE as CSR_VSCAUSE
from trapline.privilege.csr_numbers import VSIP as CSR_VSIP
from trapline.privilege.fields import ATP_MODE_SHIFT, ATP_SV39, HSTATUS_SPV, MSTATUS_SPIE, MSTATUS_SPP, VSSIP

TRAP_CAUSE, TRAP_TVAL, TRAP_TVAL2, TRAP_TINST, TRAP_GVA = (
    LAYOUT.fields[n].index * 8 for n in ("trap_cause", "trap_tval", "trap_tval2", "trap_tinst", "trap_gva")
)
OF_PENDING = 0x44  # the low bits of hip, vsip and sip
OF_SRET = MSTATUS_SPIE | MSTATUS_SPP
CODE_OF_CAUSE = 0x1F


@inline
def of_hypervisor(bits: U64) -> bool:
    """Whether an instruction that L1 may not execute in VS-mode is one of the H extension, or a return into L2."""
    if bits & 0x7F != SYSTEM or bits == WFI or bits == WRS_NTO or bits == WRS_STO:
        return False
    return not is_csr(bits) or bits >> 28 & 3 == LEVEL_H


@inline
def reads_pending(csr: U64) -> bool:
    """Whether it is hip, vsip or sip."""
    return csr & 0xFF == OF_PENDING


@inline
def of_host_counters(bits: U64) -> bool:
    """Whether it accesses a counter that the flat KVM emulates."""
    return is_counter(bits) and bits >> 20 & 0xFFF != TIME


@cold
def fence(hart: Hart, virtual: U64, number: U64, rs1: U64, rs2: U64) -> None:
    """What L1's fences mean for the translations that L2 runs on."""
    if number in VIRTUAL_FENCES:
        forget_translations(hart)
    if number in GUEST_FENCES:
        vmid = hart.x[rs2] if rs2 != 0 else U64(ANY_VMID)
        fence_shadows(hart, vmid, hart.x[rs1] << 2, u64(rs1 != 0))


@cold
def execute_as_hardware(hart: Hart, virtual: U64, bits: U64) -> bool:
    """Execute an instruction on the hart that L1 sees, or take the trap that it raises there; whether it trapped."""
    put(virtual, U64(INSN), bits)
    put(virtual, U64(NEXT_PC), get(virtual, U64(PC)) + (U64(4) if bits & 3 == 3 else U64(2)))
    entry = find_entry(hart, bits)
    failed = True
    put(virtual, U64(TRAP_CAUSE), U64(ILLEGAL_INST))
    put(virtual, U64(TRAP_TVAL2), U64(0))
    put(virtual, U64(TRAP_TINST), U64(0))
    put(virtual, U64(TRAP_GVA), U64(0))
    if entry != 0:
        number = word(entry, U64(NUMBER))
        if number in RUN:
            registers = register_bytes(bits, entry)
            rd = registers & 31
            rs1 = registers >> 8 & 31
            rs2 = registers >> 16 & 31
            if is_csr(bits) and reads_pending(bits >> 20):
                settle_timers(virtual)
            put(virtual, X + rs1 * 8, hart.x[rs1])
            put(virtual, X + rs2 * 8, hart.x[rs2])
            put(virtual, X + rd * 8, hart.x[rd])
            failed = traps_on_hart(virtual, execute, number, rd, rs1, rs2, immediate(bits, entry))
            if not failed:
                hart.x[rd] = get(virtual, X + rd * 8)
                put(virtual, U64(PC), get(virtual, U64(NEXT_PC)))
                fence(hart, virtual, number, rs1, rs2)
    if failed:
        on_hart(virtual, deliver)
    return failed


@inline
def kept(field: U64, virtual: U64, old: U64, bits: U64) -> None:
    """Give bits of a word the value that they had."""
    put(virtual, field, (get(virtual, field) & ~bits) | (old & bits))


@cold
def refused(hart: Hart, virtual: U64, bits: U64) -> bool:
    """Whether a bug of the policy makes it a trap for L1, which is taken."""
    cause = U64(0)
    if get(virtual, U64(VIRT)) == 0:
        if is_guest_access(bits) and has_bug(hart, U64(NO_HLV)):
            cause = U64(ILLEGAL_INST)
    elif bits == WFI and has_bug(hart, U64(WFI_ALWAYS_22)):
        cause = U64(VIRTUAL_INST)
    elif is_counter(bits) and has_bug(hart, U64(COUNTER_ILLEGAL)):
        cause = U64(ILLEGAL_INST)
    if cause != 0:
        delegated = get(virtual, U64(HEDELEG))
        put(virtual, U64(HEDELEG), U64(0))  # it is injected into L1 whatever L1 has delegated
        on_hart(virtual, take, cause, bits, U64(0), U64(0), U64(0))
        put(virtual, U64(HEDELEG), delegated)
    return cause != 0


@cold
def execute_with_bugs(hart: Hart, virtual: U64, bits: U64) -> bool:
    """Execute it as an L0 does that has bugs."""
    if refused(hart, virtual, bits):
        return True
    vscause = get(virtual, U64(VSCAUSE))
    hvip = get(virtual, U64(HVIP))
    mstatus = get(virtual, U64(MSTATUS))
    inner = get(virtual, U64(VIRT))
    if execute_as_hardware(hart, virtual, bits):
        return True
    csr = bits >> 20 & 0xFFF
    if not is_csr(bits):
        csr = U64(0)
    if csr == CSR_VSCAUSE and has_bug(hart, U64(VSCAUSE_LOSES_INTERRUPT_BIT)):
        kept(U64(VSCAUSE), virtual, vscause, ~U64(CODE_OF_CAUSE))
    if (csr == CSR_VSIP or csr == CSR_SIP) and has_bug(hart, U64(SIP_MASK_SHIFTED)):
        kept(U64(HVIP), virtual, hvip, U64(VSSIP))
    if csr == CSR_HGATP and has_bug(hart, U64(SV39X4_ONLY)) and get(virtual, U64(HGATP)) >> ATP_MODE_SHIFT != ATP_SV39:
        put(virtual, U64(HGATP), U64(0))
    if bits == SRET and inner == 0 and get(virtual, U64(VIRT)) != 0 and has_bug(hart, U64(SRET_KEEPS_SPV)):
        kept(U64(MSTATUS), virtual, mstatus, U64(OF_SRET))
        kept(U64(HSTATUS), virtual, U64(HSTATUS_SPV), U64(HSTATUS_SPV))
    return False


@cold
def execute_virtual(hart: Hart, virtual: U64, bits: U64) -> bool:
    """Execute an instruction on the hart that L1 sees, or take the trap that it raises there; whether it trapped."""
    if hart.kvm_nested_bugs != 0:
        return execute_with_bugs(hart, virtual, bits)
    return execute_as_hardware(hart, virtual, bits)
