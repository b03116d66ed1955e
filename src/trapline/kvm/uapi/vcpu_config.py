"""What KVM decides of a vCPU when it first runs: henvcfg and hstateen0 (vcpu_config.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trapline.privilege.fields import (
    ENVCFG_ADUE,
    ENVCFG_CBCFE,
    ENVCFG_CBIE,
    ENVCFG_CBZE,
    ENVCFG_PBMTE,
    ENVCFG_STCE,
    STATEEN_AIA,
    STATEEN_CSRIND,
    STATEEN_ENVCFG,
    STATEEN_IMSIC,
    STATEEN_SE,
)

if TYPE_CHECKING:
    from trapline.kvm.vcpu import Vcpu


def configure(vcpu: Vcpu) -> None:
    """Switch on what the guest's extensions need."""
    for extension, bits in (
        ("svpbmt", ENVCFG_PBMTE),
        ("zicbom", ENVCFG_CBIE | ENVCFG_CBCFE),
        ("zicboz", ENVCFG_CBZE),
    ):
        if vcpu.guest_has(extension):
            vcpu.config.henvcfg |= bits
    if vcpu.timer.sstc:
        vcpu.config.henvcfg |= ENVCFG_STCE
    if vcpu.guest_has("svadu") and not vcpu.guest_has("svade"):
        vcpu.config.henvcfg |= ENVCFG_ADUE
    if vcpu.guest_has("smstateen"):
        vcpu.config.hstateen0 |= STATEEN_ENVCFG | STATEEN_SE
    elif vcpu.hart.has_smstateen != 0:
        vcpu.config.hstateen0 |= STATEEN_ENVCFG
    if vcpu.aia.available and vcpu.guest_has("ssaia"):
        vcpu.config.hstateen0 |= STATEEN_IMSIC | STATEEN_AIA | STATEEN_CSRIND
