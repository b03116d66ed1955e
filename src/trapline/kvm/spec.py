"""What a VM is made of: every default once, checked once, kept in snapshots."""

from __future__ import annotations

from collections.abc import Sequence

from trapline.dataclass import dataclass
from trapline.kvm.gstage import MODE_NUMBERS
from trapline.kvm.vm_memory import BACKINGS
from trapline.machine.aia import Aia
from trapline.machine.spec import HartOptions, HartSpec, require_count, require_one_of

NO_AIA = Aia()


class VmOptions(HartOptions, total=False):
    """The fields of VmSpec, as keyword arguments."""

    host_fwft: bool
    vcpus: int
    vcpu_ids: Sequence[int] | None
    gstage: str
    host_aia: Aia
    backing: str
    nested: bool
    nacl: tuple[str, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VmSpec(HartSpec):
    """A VM, but for its policy and the firmware below. ValueError names what cannot be.

    `host_fwft`: the host kernel asked the firmware to delegate misaligned accesses; `vcpu_ids`: those of
    KVM_CREATE_VCPU, 0 and on if None; `gstage`: the mode of hgatp, or auto; `host_aia`: what the host's board has;
    `backing`: host pages, 4K, 2M, 1G or auto; `nested`: the guest has H; `nacl`: what of SBI NACL, None as the policy.
    """

    host_fwft: bool = False
    vcpus: int = 1
    vcpu_ids: Sequence[int] | None = None
    gstage: str = "auto"
    host_aia: Aia = NO_AIA
    backing: str = "auto"
    nested: bool = False
    nacl: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        HartSpec.__post_init__(self)
        require_count("vcpus", self.vcpus)
        require_one_of("gstage", self.gstage, ("auto", *MODE_NUMBERS))
        require_one_of("backing", self.backing, ("auto", *BACKINGS))
