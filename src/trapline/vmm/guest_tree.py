"""The device tree of a guest: the SBI instead of M-mode, so no CLINT; the guest's own extensions, so no H."""

from __future__ import annotations

from trapline.kvm.vcpu import Vcpu
from trapline.machine.device_tree import BoardTree, board_blob, isa_extensions, isa_string


def guest_isa(vcpu: Vcpu, isa: str) -> str:
    """Return the ISA string that the guest reads: the host's, less what KVM keeps from it."""
    kept = [w for w in isa_extensions(isa) if w != "h" and w not in vcpu.isa_disabled]
    return isa_string("rv64" + "".join(w if len(w) == 1 else f"_{w}" for w in kept))


def guest_tree(
    vcpu: Vcpu,
    isa: str,
    memory: list[tuple[int, int]],
    vcpus: int,
    timebase: int,
    bootargs: str = "",
    initrd: tuple[int, int] | None = None,
    *,
    virtio: int = 0,
) -> bytes:
    """Return the flattened tree."""
    hart = vcpu.hart
    mmu = "riscv,sv57" if hart.has_sv57 != 0 else "riscv,sv48" if hart.has_sv48 != 0 else "riscv,sv39"
    return board_blob(
        BoardTree(
            guest_isa(vcpu, isa),
            memory,
            vcpus,
            mmu,
            timebase,
            bootargs,
            initrd,
            machine_mode=False,
            clint=False,
            virtio=virtio,
            model="trapline,guest",
        )
    )
