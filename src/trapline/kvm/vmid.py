"""VMIDs: one a VM, shared by its vCPUs, from a space that wraps with a version number (vmid.c)."""

from __future__ import annotations

from typing import ClassVar

from trapline.dataclass import dataclass, field
from trapline.session.state.plain_types import Bits


@dataclass(slots=True)
class Vmid:
    """A VM's identifier and the version of the space that it was taken from."""

    snapshot_types: ClassVar = {"vmid": Bits(14)}

    vmid: int = 0
    version: int = 0


@dataclass(slots=True)
class VmidSpace:
    """The identifiers that one host's hardware offers."""

    snapshot_skips: ClassVar = ("bits",)
    snapshot_types: ClassVar = {"next": Bits(15)}

    bits: int
    version: int = 1
    next: int = 1
    flushes: int = field(default=0)

    @property
    def usable(self) -> bool:
        """Whether there are enough bits to use VMIDs at all."""
        return self.bits > 0

    def stale(self, vmid: Vmid) -> bool:
        """Whether `vmid` must be replaced before the guest is entered."""
        return self.usable and vmid.version != self.version

    def update(self, vmid: Vmid) -> bool:
        """Give `vmid` a current value; return whether every translation must be forgotten first."""
        if not self.stale(vmid):
            return False
        wrapped = self.next >> self.bits != 0
        if wrapped:
            self.version += 1
            self.next = 1
            self.flushes += 1
        vmid.vmid, vmid.version = self.next, self.version
        self.next += 1
        return wrapped
