"""KVM's numbers of ISA extensions (KVM_RISCV_ISA_EXT_ID), and which a VMM may switch (isa.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trapline.kvm.vcpu import Vcpu
    from trapline.lang.state import Hart

# In the order of the enumeration: the position is the number.
ISA_EXTENSIONS: tuple[str, ...] = tuple(
    """
    a c d f h i m svpbmt sstc svinval zihintpause zicbom zicboz zbb ssaia v svnapot zba zbs zicntr zicsr
    zifencei zihpm smstateen zicond zbc zbkb zbkc zbkx zknd zkne zknh zkr zksed zksh zkt zvbb zvbc zvkb zvkg
    zvkned zvknha zvknhb zvksed zvksh zvkt zfh zfhmin zihintntl zvfh zvfhmin zfa ztso zacas sscofpmf zimop
    zca zcb zcd zcf zcmop zawrs smnpm ssnpm svade svadu svvptc zabha ziccrse zaamo zalrsc zicbop zfbfmin
    zvfbfmin zvfbfwma zclsd zilsd zalasr zicfilp zicfiss
    """.split()
)

# There are bits in henvcfg, hstateen0 or sstatus that take these away; the others cannot be disabled.
_DISABLE_ALLOWED = frozenset(("d", "f", "v", "svpbmt", "zicbom", "zicboz", "smstateen", "smnpm", "svadu"))
_ALWAYS = frozenset(("i", "zihintpause"))
_PART_OF = {"zca": "c", "zaamo": "a", "zalrsc": "a"}


def host_has(hart: Hart, name: str) -> bool:
    """Whether the host offers an extension to its guests."""
    if name in _ALWAYS:
        return True
    if name == "svade":
        return True  # menvcfg.ADUE = 0 behaves as Svade says, with or without Svadu
    if name == "zcd":
        return bool(hart.has_c != 0 and hart.has_d != 0)
    return bool(getattr(hart, f"has_{_PART_OF.get(name, name)}", 0) != 0)


def disable_allowed(hart: Hart, name: str) -> bool:
    """Whether a VMM may take the extension away from a guest."""
    return name in _DISABLE_ALLOWED or (name == "svade" and bool(hart.has_svadu != 0))


def guest_mask(vcpu: Vcpu) -> int:
    """Return the single letters of the guest's ISA as in misa."""
    letters = "acdfimv"
    return sum(1 << ord(c) - ord("a") for c in letters if host_has(vcpu.hart, c) and vcpu.guest_has(c))
