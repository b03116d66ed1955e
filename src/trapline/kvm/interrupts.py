"""Interrupts that KVM injects: pending bits in software, hvip while the vCPU is loaded (vcpu.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trapline.kvm.entry import set_pending, sync_pending
from trapline.kvm.uapi.numbers import EINVAL, IRQ_PMU_OVF, IRQ_VS_TIMER, VS_IRQS
from trapline.privilege.fields import S_INTERRUPTS

if TYPE_CHECKING:
    from trapline.kvm.vcpu import Vcpu


def set_interrupt(vcpu: Vcpu, irq: int, *, level: bool = True) -> int:
    """Make a VS-level interrupt pending, or take it back."""
    if irq not in VS_IRQS:
        return -EINVAL
    vcpu.hart.call(set_pending, 1 << irq, int(level))
    return 0


def sync_interrupts(vcpu: Vcpu) -> None:
    """After an exit: learn vsie, and whether the guest changed its software interrupt."""
    vcpu.hart.call(sync_pending)


def converts_overflow(vcpu: Vcpu) -> bool:
    """Whether KVM knows that interrupt 13 has the same bit in vsip and hvip: before, it was shifted like the others."""
    return not vcpu.policy.has_bug("vsip-hvip-conversion")


def has_interrupts(vcpu: Vcpu) -> bool:
    """Whether an interrupt is pending that the guest has enabled."""
    enabled = (vcpu.csrs.vsie & S_INTERRUPTS) << 1
    if converts_overflow(vcpu):
        enabled |= vcpu.csrs.vsie & 1 << IRQ_PMU_OVF
    return bool(vcpu.irqs_pending & enabled) or vcpu.aia.has_interrupts()


def timer_pending(vcpu: Vcpu) -> bool:
    """Whether the vCPU's timer has expired, enabled or not."""
    return vcpu.timer.expired() or bool(vcpu.irqs_pending & 1 << IRQ_VS_TIMER)
