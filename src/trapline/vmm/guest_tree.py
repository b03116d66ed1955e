"""The device tree of a guest: the SBI instead of M-mode, so no CLINT; the guest's own extensions."""

from __future__ import annotations

from trapline.kvm.uapi.isa_ext import ISA_EXTENSIONS
from trapline.kvm.vcpu import Vcpu
from trapline.machine.aia import Aia
from trapline.machine.tree.device_tree import BoardTree, board_blob

# Part of what riscv,isa meant by I before they had names of their own.
_BASE = ("zicsr", "zifencei")

NO_AIA = Aia()


def guest_isa(vcpu: Vcpu) -> str:
    """Return the ISA string that the guest reads: what KVM says that it has, and the base."""
    letters = "".join(c for c in "imafdcvh" if vcpu.guest_has(c))
    others = [name for name in ISA_EXTENSIONS if len(name) > 1 and vcpu.guest_has(name)]
    return "_".join(["rv64" + letters, *dict.fromkeys([*_BASE, *others])])


def guest_tree(
    vcpu: Vcpu,
    memory: list[tuple[int, int]],
    vcpus: int,
    timebase: int,
    bootargs: str = "",
    initrd: tuple[int, int] | None = None,
    *,
    virtio: int = 0,
    aia: Aia = NO_AIA,
) -> bytes:
    """Return the flattened tree."""
    hart = vcpu.hart
    mmu = "riscv,sv57" if hart.has_sv57 != 0 else "riscv,sv48" if hart.has_sv48 != 0 else "riscv,sv39"
    return board_blob(
        BoardTree(
            guest_isa(vcpu),
            memory,
            vcpus,
            mmu,
            timebase,
            bootargs,
            initrd,
            machine_mode=False,
            clint=False,
            virtio=virtio,
            aia=Aia(aia.kind),
            model="trapline,guest",
        )
    )
