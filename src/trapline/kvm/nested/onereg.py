"""ONE_REG of a guest that is a hypervisor: the CSRs of H that it sees, as in KVM's series of January 2026.

Subtype 3 of KVM_REG_RISCV_CSR has them in the order of struct kvm_vcpu_nested_csr. The general CSRs are always L1's
S-level ones, and vs* here L2's, whichever of the two runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trapline.kvm.nested.world import pull_l1, push_l1, traps_to_vs
from trapline.lang.state import Hart
from trapline.privilege.csr import csr_read, csr_write
from trapline.privilege.csr_numbers import CSR_BY_NAME

if TYPE_CHECKING:
    from trapline.kvm.vcpu import Vcpu

# The h-halves are RV32's.
HEXT_CSRS = (
    *("hstatus", "hedeleg", "hideleg", "hvip", "hcounteren", "htimedelta", "htimedeltah", "htval", "htinst"),
    *("henvcfg", "henvcfgh", "hgatp", "vsstatus", "vsie", "vstvec", "vsscratch", "vsepc", "vscause", "vstval", "vsatp"),
)
_NOT_ON_RV64 = ("htimedeltah", "henvcfgh")


def _hart(vcpu: Vcpu) -> Hart:
    """The hart that the guest sees, up to date; the vCPU is put."""
    assert vcpu.nested is not None
    hart = vcpu.nested.hart
    if hart.virt == 0:
        vcpu.hart.call(pull_l1, vcpu.hart.kvm_virtual)
    return hart


def get_hext(vcpu: Vcpu, number: int) -> int:
    """Value of a register by its number in HEXT_CSRS."""
    name, hart = HEXT_CSRS[number], _hart(vcpu)
    if name in _NOT_ON_RV64:
        return 0
    if name == "vsie":  # as KVM keeps it: whatever hideleg says
        return int(hart.call(csr_read, CSR_BY_NAME["hie"])) >> 1
    return int(hart.call(csr_read, CSR_BY_NAME[name]))


def set_hext(vcpu: Vcpu, number: int, value: int) -> None:
    """Write one, with its WARL bits; L1's next SRET goes by hstatus.SPV as written."""
    name, hart = HEXT_CSRS[number], _hart(vcpu)
    if name in _NOT_ON_RV64:
        return
    if name == "vsie":
        hart.call(csr_write, CSR_BY_NAME["hie"], value << 1 & 0x444)
    else:
        hart.call(csr_write, CSR_BY_NAME[name], value)
    if hart.virt == 0:
        vcpu.hart.call(push_l1, vcpu.hart.kvm_virtual)
        vcpu.hart.kvm_traps_seen = vcpu.hart.call(traps_to_vs)


def get_virt(vcpu: Vcpu) -> int:
    """1 where L2 goes on."""
    assert vcpu.nested is not None
    return int(vcpu.nested.hart.virt)


def set_virt(vcpu: Vcpu, value: int) -> None:
    """Say which of the two goes on, at pc and in the mode of the core registers (NestedHart.loaded)."""
    _hart(vcpu).virt = int(value != 0)
