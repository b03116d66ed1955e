"""KVM's numbers of ISA extensions (KVM_RISCV_ISA_EXT_ID), since when, and which a VMM may switch (isa.c)."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from trapline.privilege.isa_string import extensions
from trapline.privilege.isa_string import parse as isa_words

if TYPE_CHECKING:
    from trapline.kvm.vcpu import Vcpu

# In the order of the enumeration, the position is the number: the release, then what it added.
_RELEASES = """
    6.0: a c d f h i m svpbmt sstc
    6.1: svinval zihintpause zicbom
    6.4: zicboz zbb ssaia
    6.5: v svnapot
    6.6: zba zbs zicntr zicsr zifencei zihpm
    6.7: smstateen zicond
    6.8: zbc zbkb zbkc zbkx zknd zkne zknh zkr zksed zksh zkt zvbb zvbc zvkb zvkg zvkned zvknha zvknhb zvksed
    6.8: zvksh zvkt zfh zfhmin zihintntl zvfh zvfhmin zfa
    6.9: ztso zacas
    6.10: sscofpmf
    6.11: zimop zca zcb zcd zcf zcmop zawrs
    6.13: smnpm ssnpm svade svadu
    6.14: svvptc zabha ziccrse
    6.15: zaamo zalrsc
    6.18: zicbop zfbfmin zvfbfmin zvfbfwma
    7.0: zclsd zilsd zalasr
    7.3: zicfilp zicfiss
"""
SINCE: dict[str, str] = {
    name: line.partition(":")[0].strip()
    for line in _RELEASES.strip().splitlines()
    for name in line.partition(":")[2].split()
}
ISA_EXTENSIONS: tuple[str, ...] = tuple(SINCE)

# The single letters are older than the enumeration: CONFIG's isa has them since 5.16.
_LETTERS = frozenset("acdfhim")
# There are bits in henvcfg, hstateen0 or sstatus that take these away; the others cannot be disabled.
_DISABLE_ALLOWED = frozenset(("d", "f", "v", "svpbmt", "zicbom", "zicboz", "smstateen", "smnpm", "svadu"))
# What no guest hypervisor gets: interrupt files, and counters that filter by its modes (kvm.nested).
WITHHELD = ("smaia", "ssaia", "sscofpmf")
_PART_OF = {"zca": ("c",), "zcd": ("c", "d"), "zaamo": ("a",), "zalrsc": ("a",)}


def known(vcpu: Vcpu, name: str) -> bool:
    """Whether the KVM of this version has a number for the extension."""
    return name in SINCE and (name in _LETTERS or vcpu.policy.knows(name, SINCE[name]))


def host_has(vcpu: Vcpu, name: str) -> bool:
    """Whether the host has an extension that this KVM knows: __kvm_riscv_isa_check_host."""
    return name in host_extensions(vcpu.vm.isa) and known(vcpu, name)


@cache
def host_extensions(isa: str) -> frozenset[str]:
    """Names in the host's ISA string, what they imply, and the parts of A and C that have names of their own."""
    found = {"i", *isa_words(isa), *extensions(isa)}
    return frozenset(found | {part for part, whole in _PART_OF.items() if set(whole) <= found})


def enable_allowed(vcpu: Vcpu, name: str) -> bool:
    """Whether a guest may have it: Sscofpmf needs AIA to filter its interrupt, H a KVM that nests."""
    if vcpu.vm.nested and name in WITHHELD:
        return False
    return (name != "h" or vcpu.vm.nested) and (name != "sscofpmf" or host_has(vcpu, "ssaia"))


def disable_allowed(vcpu: Vcpu, name: str) -> bool:
    """Whether a VMM may take the extension away from a guest."""
    if name == "ssaia":
        return bool(vcpu.hart.has_smstateen != 0)
    return name in _DISABLE_ALLOWED or (name == "svade" and host_has(vcpu, "svadu"))


def withheld(vcpu: Vcpu) -> set[str]:
    """Extensions of the host that no guest gets."""
    return {name for name in SINCE if not enable_allowed(vcpu, name) and host_has(vcpu, name)}


def guest_mask(vcpu: Vcpu) -> int:
    """Return the single letters of the guest's ISA as in misa."""
    return sum(1 << ord(c) - ord("a") for c in "acdfhimv" if vcpu.guest_has(c))
