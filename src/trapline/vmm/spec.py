"""What a guest and its user space are made of: every default once, kept in snapshots."""

from __future__ import annotations

from collections.abc import Sequence

from trapline.dataclass import dataclass
from trapline.kvm.spec import VmSpec
from trapline.lang.given import require_kind
from trapline.machine import memory_map as mm
from trapline.machine.aia import Aia, parse_aia
from trapline.machine.spec import HartOptions, HartSpec, require_bytes
from trapline.machine.virtio.options import NO_VIRTIO, VirtioOptions
from trapline.vmm.arguments import SlotArgument, parse_nacl
from trapline.vmm.interrupts import MODES


class GuestOptions(HartOptions, total=False):
    """The fields of GuestSpec, as keyword arguments."""

    host_fwft: bool
    memory: int
    vcpus: int
    memslots: Sequence[SlotArgument]
    backing: str
    virtio: VirtioOptions
    aia: str | Aia
    nested: bool
    nacl: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestSpec(HartSpec):
    """A guest, but for the policy and firmware that it runs under. ValueError names what cannot be.

    `memory` in bytes; `aia` and `nacl` as their parsers read them; the rest as in VmSpec.
    """

    host_fwft: bool = False
    memory: int = mm.DEFAULT_MEMORY
    vcpus: int = 1
    memslots: Sequence[SlotArgument] = ()
    backing: str = "auto"
    virtio: VirtioOptions = NO_VIRTIO
    aia: str | Aia = "none"
    nested: bool = False
    nacl: str = ""

    def __post_init__(self) -> None:
        HartSpec.__post_init__(self)
        require_bytes(self.memory)
        require_kind("aia", self.aia, str, Aia)
        require_kind("virtio", self.virtio, VirtioOptions)
        require_kind("memslots", self.memslots, list, tuple)
        for slot in self.memslots:
            require_kind("memslot", slot, SlotArgument)
        self.vm()

    def interrupt_controllers(self) -> Aia:
        """Return `aia` as an object; ValueError if the text means none."""
        return parse_aia(self.aia, modes=tuple(MODES)) if isinstance(self.aia, str) else self.aia

    def vm(self) -> VmSpec:
        """Return the VM underneath."""
        return VmSpec(
            isa=self.isa,
            timebase=self.timebase,
            ratio=self.ratio,
            misaligned=self.misaligned,
            tinst=self.tinst,
            host_fwft=self.host_fwft,
            vcpus=self.vcpus,
            host_aia=self.interrupt_controllers(),
            backing=self.backing,
            nested=self.nested,
            nacl=parse_nacl(self.nacl),
        )
