"""Interrupts that KVM injects: pending bits in software, hvip while the vCPU is loaded (vcpu.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trapline.kvm.numbers import EINVAL, IRQ_PMU_OVF, IRQ_VS_SOFT, IRQ_VS_TIMER, VS_IRQS
from trapline.privilege.csr import csr_read, csr_write
from trapline.privilege.csr_numbers import HVIP, VSIE

if TYPE_CHECKING:
    from trapline.kvm.vcpu import Vcpu

VS_LEVEL = 1 << 1 | 1 << 5 | 1 << 9  # where vsie has software, timer and external interrupts


def set_interrupt(vcpu: Vcpu, irq: int, *, level: bool = True) -> int:
    """Make a VS-level interrupt pending, or take it back."""
    if irq not in VS_IRQS:
        return -EINVAL
    bit = 1 << irq
    vcpu.irqs_pending = vcpu.irqs_pending | bit if level else vcpu.irqs_pending & ~bit
    vcpu.irqs_pending_mask |= bit
    return 0


def flush_interrupts(vcpu: Vcpu) -> None:
    """Move what changed since the last entry into hvip."""
    mask = vcpu.irqs_pending_mask
    if not mask:
        return
    vcpu.irqs_pending_mask = 0
    vcpu.csrs.hvip = vcpu.csrs.hvip & ~mask | vcpu.irqs_pending & mask
    if vcpu.loaded:
        vcpu.hart.call(csr_write, HVIP, vcpu.csrs.hvip)
        vcpu.aia.update_hvip()


def sync_interrupts(vcpu: Vcpu) -> None:
    """After an exit: learn vsie, and whether the guest changed its software interrupt."""
    vcpu.csrs.vsie = int(vcpu.hart.call(csr_read, VSIE))
    hvip = int(vcpu.hart.call(csr_read, HVIP))
    bit = 1 << IRQ_VS_SOFT
    changed = vcpu.csrs.hvip ^ hvip
    if changed & bit and not vcpu.irqs_pending_mask & bit:
        vcpu.irqs_pending_mask |= bit
        vcpu.irqs_pending = vcpu.irqs_pending & ~bit | hvip & bit
    if changed & ~hvip & 1 << IRQ_PMU_OVF:
        vcpu.irqs_pending_mask |= 1 << IRQ_PMU_OVF
        vcpu.irqs_pending &= ~(1 << IRQ_PMU_OVF)


def has_interrupts(vcpu: Vcpu) -> bool:
    """Whether an interrupt is pending that the guest has enabled."""
    enabled = (vcpu.csrs.vsie & VS_LEVEL) << 1 | vcpu.csrs.vsie & 1 << IRQ_PMU_OVF
    return bool(vcpu.irqs_pending & enabled) or vcpu.aia.has_interrupts()


def timer_pending(vcpu: Vcpu) -> bool:
    """Whether the vCPU's timer has expired, enabled or not."""
    return vcpu.timer.expired() or bool(vcpu.irqs_pending & 1 << IRQ_VS_TIMER)
