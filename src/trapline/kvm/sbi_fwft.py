"""FWFT features that KVM gives its guests (vcpu_sbi_fwft.c)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from trapline.privilege.csr import csr_write
from trapline.privilege.csr_numbers import HEDELEG, HENVCFG
from trapline.privilege.fields import ENVCFG_ADUE
from trapline.sbi.numbers import Feature, SbiError

if TYPE_CHECKING:
    from trapline.kvm.vcpu import Vcpu

MISALIGNED = 1 << 4 | 1 << 6


class GuestFeature:
    """Bits of hedeleg or henvcfg that a guest may switch; `enabled` is the VMM's (ONE_REG)."""

    def __init__(self, vcpu: Vcpu, number: int, word: str, bits: int) -> None:
        self.vcpu, self.number, self.word, self.bits = vcpu, number, word, bits
        self.locked = False
        self.enabled = True

    def read(self) -> int:
        """Return 1 if all bits are set."""
        return int(getattr(self.vcpu.config, self.word) & self.bits == self.bits)

    def write(self, value: int) -> SbiError:
        """Set or clear the bits, in the hart too if the vCPU is loaded."""
        if value not in (0, 1):
            return SbiError.INVALID_PARAM
        old = getattr(self.vcpu.config, self.word)
        new = old | self.bits if value else old & ~self.bits
        setattr(self.vcpu.config, self.word, new)
        if self.vcpu.loaded:
            self.vcpu.hart.call(csr_write, HEDELEG if self.word == "hedeleg" else HENVCFG, new)
        return SbiError.SUCCESS

    def reset(self) -> None:
        """As after a reset: unlocked, and off unless the policy has the bits on for everyone."""
        self.locked = False
        default = self.vcpu.policy.hedeleg & self.bits if self.word == "hedeleg" else 0
        setattr(self.vcpu.config, self.word, getattr(self.vcpu.config, self.word) & ~self.bits | default)


def _misaligned_supported(vcpu: Vcpu) -> bool:
    return vcpu.vm.host_delegates_misaligned


def _adue_supported(vcpu: Vcpu) -> bool:
    return vcpu.guest_has("svadu") and vcpu.guest_has("svade")


_FEATURES: dict[str, tuple[int, str, int, Callable[[Vcpu], bool]]] = {
    "misaligned_exc_deleg": (Feature.MISALIGNED_EXC_DELEG, "hedeleg", MISALIGNED, _misaligned_supported),
    "pte_ad_hw_updating": (Feature.PTE_AD_HW_UPDATING, "henvcfg", ENVCFG_ADUE, _adue_supported),
}


def guest_features(vcpu: Vcpu) -> dict[int, GuestFeature]:
    """Return the features of this version that this host and guest can have.

    pointer_masking_pmlen, landing_pad and shadow_stack need extensions that the hart does not have.
    """
    found = {}
    for named in vcpu.policy.fwft:
        if named.name not in _FEATURES:
            continue
        number, word, bits, supported = _FEATURES[named.name]
        if supported(vcpu):
            found[int(number)] = GuestFeature(vcpu, int(number), word, bits)
    return found
