"""FWFT features that KVM gives its guests (vcpu_sbi_fwft.c)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from trapline.privilege.causes import MISALIGNED_BITS, SOFTWARE_CHECK
from trapline.privilege.csr import csr_write
from trapline.privilege.csr_numbers import HEDELEG, HENVCFG
from trapline.privilege.fields import ENVCFG_ADUE
from trapline.sbi.numbers import Feature, SbiError

if TYPE_CHECKING:
    from trapline.kvm.vcpu import Vcpu

CHECK_BIT = 1 << SOFTWARE_CHECK
ENVCFG_LPE, ENVCFG_SSE = 1 << 2, 1 << 3


class GuestFeature:
    """Bits of hedeleg or henvcfg that a guest may switch; `enabled` is the VMM's (ONE_REG)."""

    snapshot_skips = ("number", "word", "bits", "_fits")

    def __init__(
        self, vcpu: Vcpu, number: int, word: str, bits: int, fits: Callable[[Vcpu], bool] = lambda vcpu: True
    ) -> None:
        self.vcpu, self.number, self.word, self.bits, self._fits = vcpu, number, word, bits, fits
        self.locked = False
        self.enabled = True
        self.at_first = fits(vcpu)  # as the vCPU was made

    @property
    def supported(self) -> bool:
        """Whether host and guest have what it needs; before 7.2 a change of the guest's ISA changes nothing here."""
        return self.at_first if self.vcpu.policy.has_bug("fwft-stale-feature") else self._fits(self.vcpu)

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


class CfiFeature(GuestFeature):
    """A bit of henvcfg for control flow; while one of them is set, software checks are delegated (hedeleg[18])."""

    def write(self, value: int) -> SbiError:
        """Set or clear the bit, and software check in hedeleg with it."""
        error = super().write(value)
        if error is SbiError.SUCCESS:
            self._delegate()
        return error

    def reset(self) -> None:
        """As after a reset: off, and software checks with the last of them."""
        super().reset()
        self._delegate()

    def _delegate(self) -> None:
        config = self.vcpu.config
        on = config.henvcfg & (ENVCFG_LPE | ENVCFG_SSE)
        config.hedeleg = config.hedeleg | CHECK_BIT if on else config.hedeleg & ~CHECK_BIT
        if self.vcpu.loaded:
            self.vcpu.hart.call(csr_write, HEDELEG, config.hedeleg)


def _misaligned_supported(vcpu: Vcpu) -> bool:
    return vcpu.vm.host_delegates_misaligned


def _adue_supported(vcpu: Vcpu) -> bool:
    return vcpu.guest_has("svadu") and vcpu.guest_has("svade")


_FEATURES: dict[str, tuple[int, str, int, Callable[[Vcpu], bool]]] = {
    "misaligned_exc_deleg": (Feature.MISALIGNED_EXC_DELEG, "hedeleg", MISALIGNED_BITS, _misaligned_supported),
    "pte_ad_hw_updating": (Feature.PTE_AD_HW_UPDATING, "henvcfg", ENVCFG_ADUE, _adue_supported),
    "landing_pad": (Feature.LANDING_PAD, "henvcfg", ENVCFG_LPE, lambda vcpu: vcpu.guest_has("zicfilp")),
    "shadow_stack": (Feature.SHADOW_STACK, "henvcfg", ENVCFG_SSE, lambda vcpu: vcpu.guest_has("zicfiss")),
}
_CFI = frozenset((Feature.LANDING_PAD, Feature.SHADOW_STACK))


def guest_features(vcpu: Vcpu) -> dict[int, GuestFeature]:
    """Return the features of this version: `supported` says which this host and guest can have.

    pointer_masking_pmlen needs an extension that the hart does not have; landing_pad and shadow_stack are there
    once it has Zicfilp and Zicfiss.
    """
    found = {}
    for named in vcpu.policy.fwft:
        if named.name not in _FEATURES:
            continue
        number, word, bits, supported = _FEATURES[named.name]
        kind = CfiFeature if number in _CFI else GuestFeature
        found[int(number)] = kind(vcpu, int(number), word, bits, supported)
    return found
