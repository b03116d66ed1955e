"""What an SBI implementation must be able to do, and how it describes itself.

`SbiHost` is the implementation as one calling hart sees it: the hosted firmware makes one per hart,
the hosted KVM one per vCPU. The files of the extensions know nothing else about who serves them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import Enum
from typing import Protocol

from trapline.dataclass import dataclass, field
from trapline.sbi.numbers import FirmwareEvent, HartState, SbiError, spec_version

LEGACY = "v01"
# Names of extensions, lower case, as KVM's ONE_REG and OpenSBI's boot banner know them.
STANDARD = ("time", "ipi", "rfence", "hsm", "srst", "dbcn", "pmu", "susp", "sta", "fwft")


class Access(Enum):
    """What shared memory is needed for."""

    READ = "read"
    WRITE = "write"
    EXECUTE = "execute"


class Fence(Enum):
    """Remote fences of RFENCE, in the order of their function IDs."""

    FENCE_I = 0
    SFENCE_VMA = 1
    SFENCE_VMA_ASID = 2
    HFENCE_GVMA_VMID = 3
    HFENCE_GVMA = 4
    HFENCE_VVMA_ASID = 5
    HFENCE_VVMA = 6

    @property
    def needs_hypervisor(self) -> bool:
        """Return whether the targets must implement the Hypervisor extension."""
        return self.value >= Fence.HFENCE_GVMA_VMID.value


@dataclass(frozen=True, slots=True)
class RemoteFence:
    """A fence to run on `harts`; `size` None means the whole address space, `tag` is an ASID or VMID.

    `size` ends at the end of the address space, `asked` is as the caller said it.
    """

    kind: Fence
    harts: tuple[int, ...]
    start: int = 0
    size: int | None = None
    tag: int | None = None
    asked: int = field(default=0, compare=False)


class HfenceService(Enum):
    """What RFENCE does with hfence.gvma and hfence.vvma requests."""

    SERVE = "serve"
    NOP = "nop"
    NOT_SUPPORTED = "not-supported"


@dataclass(frozen=True, slots=True)
class SbiProfile:
    """How an implementation describes itself, and where it is known to deviate from the specification.

    `extensions` are served here; `forwarded` ones are offered but handed to user space (KVM_EXIT_RISCV_SBI).
    The defaults of the other fields are what the specification asks for.
    """

    version: int = spec_version(3, 0)
    implementation: int = 0
    implementation_version: int = 0
    extensions: frozenset[str] = frozenset((LEGACY, *STANDARD))
    forwarded: frozenset[str] = frozenset()
    forwarded_ranges: tuple[tuple[int, int], ...] = ()
    # Single EIDs of a served extension that go to user space all the same (v0.1 putchar and getchar in KVM).
    forwarded_eids: frozenset[int] = frozenset()
    # Extensions whose hart masks may name harts that do not exist: these are skipped.
    lenient_hart_masks: frozenset[str] = frozenset()
    # A base past the last hart is invalid even if the mask names nobody.
    checks_hart_mask_base: bool = False
    # v0.1: masks have one word, for harts 0 to 63, however many there are; a null pointer stands for such a mask with
    # as many bits as there are harts (its shift count has six bits).
    legacy_mask_of_one_word: bool = False
    legacy_all_is_a_mask: bool = False
    # v0.1 clear_ipi tells whether an IPI was pending.
    clear_ipi_reports: bool = True
    hfence: HfenceService = HfenceService.SERVE
    # HSM: types known but not provided give NOT_SUPPORTED, reserved types INVALID_PARAM.
    suspend_types: frozenset[int] = frozenset((0x0000_0000, 0x8000_0000))
    known_suspend_types: frozenset[int] = frozenset((0x0000_0000, 0x8000_0000))
    platform_suspend_error: SbiError = SbiError.INVALID_PARAM
    reset_types: frozenset[int] = frozenset((0, 1, 2))
    reset_reasons: frozenset[int] | None = frozenset((0, 1))
    reset_type_error: SbiError = SbiError.INVALID_PARAM
    reset_argument_bits: int = 32
    # DBCN: what a nonzero upper half of the address gives.
    high_address_error: SbiError = SbiError.INVALID_PARAM
    # FWFT: PTE_AD_HW_UPDATING is for harts with both Svadu and Svade.
    adue_feature_needs_svade: bool = False
    unknown_function: dict[str, SbiError] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse names of extensions that do not exist."""
        for name in self.extensions | self.forwarded:
            if name != LEGACY and name not in STANDARD:
                raise ValueError(f"unknown SBI extension {name!r}")

    def offers(self, name: str) -> bool:
        """Return whether the extension `name` is there for the caller (Base always is)."""
        return name == "base" or name in self.extensions or name in self.forwarded


class FirmwareFeature(Protocol):
    """One FWFT feature of the calling hart."""

    locked: bool

    def read(self) -> int:
        """Return the value in force."""

    def write(self, value: int) -> SbiError:
        """Set the value; INVALID_PARAM if the feature does not know it."""


class EventCounter(Protocol):
    """Who counts the firmware events of the calling hart."""

    def count(self, event: FirmwareEvent) -> None:
        """Count one event, if somebody asked for it."""


class SbiHost(Protocol):
    """One hart's SBI implementation. Addresses are physical as the caller sees them."""

    hartid: int
    profile: SbiProfile

    @property
    def pmu(self) -> EventCounter | None:
        """Return who counts firmware events, None if nobody does."""

    def hartids(self) -> Sequence[int]:
        """Return every hart that the caller may name, in ascending order."""

    def machine_ids(self) -> tuple[int, int, int]:
        """Return mvendorid, marchid, mimpid."""

    def set_timer(self, deadline: int) -> None:
        """Clear the pending timer interrupt and raise it when time reaches `deadline`."""

    def send_ipi(self, harts: Collection[int]) -> None:
        """Make a supervisor software interrupt pending on `harts`."""

    def clear_ipi(self) -> bool:
        """Clear the caller's own supervisor software interrupt; return whether one was pending."""

    def remote_fence(self, fence: RemoteFence) -> None:
        """Run a fence on other harts."""

    def has_hypervisor(self, hartid: int) -> bool:
        """Return whether that hart offers the Hypervisor extension to the caller."""

    def hart_state(self, hartid: int) -> HartState:
        """Return the HSM state of a hart."""

    def hart_start(self, hartid: int, start: int, opaque: int) -> SbiError:
        """Start a stopped hart in S-mode at `start`: satp 0, SIE 0, a0 hartid, a1 `opaque`."""

    def hart_stop(self) -> SbiError:
        """Stop the caller."""

    def hart_suspend(self) -> SbiError:
        """Suspend the caller, keeping its state, until an interrupt is pending."""

    def hart_suspend_and_restart(self, resume: int, opaque: int) -> SbiError:
        """Suspend the caller; it comes back as if started at `resume`."""

    def system_suspend(self, resume: int, opaque: int) -> SbiError:
        """Suspend to RAM; the caller comes back as if started at `resume`."""

    def system_reset(self, kind: int, reason: int) -> None:
        """Shut down (0) or reboot (1 cold, 2 warm); the caller does not go on."""

    def console_write(self, data: bytes) -> int:
        """Write to the console without blocking; return how many bytes it took."""

    def console_read(self, limit: int) -> bytes:
        """Return at most `limit` bytes of console input, none if there are none."""

    def accessible(self, start: int, size: int, access: Access) -> bool:
        """Return whether the caller may access the whole range of its memory."""

    def read_memory(self, start: int, size: int) -> bytes:
        """Read a range that is accessible."""

    def write_memory(self, start: int, data: bytes) -> None:
        """Write to a range that is accessible."""

    def load_word(self, va: int) -> int:
        """Read 8 bytes with the caller's translation and privilege (v0.1 hart masks); raise Trap."""

    def feature(self, number: int) -> FirmwareFeature | None:
        """Return the FWFT feature, or None if this implementation does not have it."""

    def steal_time(self, shared_memory: int | None) -> SbiError:
        """Report stolen time at this address (64 bytes, already cleared), or stop reporting."""
