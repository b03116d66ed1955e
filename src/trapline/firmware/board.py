"""The SBI of hosted firmware: one host per hart, over what the board provides."""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Sequence
from typing import ClassVar, Protocol

from trapline.dataclass import dataclass, field
from trapline.firmware.features import CsrBits, features_of
from trapline.firmware.handler import previous_privilege, previous_virtualization
from trapline.firmware.unprivileged import load_word
from trapline.lang.control import flush_translations
from trapline.lang.state import Hart
from trapline.privilege import csr_numbers as csr
from trapline.privilege.csr import csr_read, csr_write
from trapline.privilege.fields import MTIP, SSIP, STIP
from trapline.privilege.memory import store
from trapline.sbi.host import Access, Fence, RemoteFence, SbiProfile
from trapline.sbi.numbers import HartState, SbiError
from trapline.sbi.pmu import PmuState
from trapline.session.state.plain_types import U64

RAM, ROM = 1, 2


class Board(Protocol):
    """What firmware drives besides its harts. `system_reset` may raise to end the run."""

    def set_machine_timer(self, hartid: int, deadline: int) -> None:
        """Set mtimecmp of a hart."""

    def console_write(self, data: bytes) -> int:
        """Write to the console; return how many bytes it took."""

    def console_read(self, limit: int) -> bytes:
        """Return console input that is there."""

    def system_reset(self, kind: int, reason: int) -> None:
        """Shut down or reboot."""


@dataclass(slots=True)
class HartRecord:
    """What firmware knows of one hart. `entry` is where a start or a resume begins: pc and a1."""

    snapshot_types: ClassVar = {"entry": tuple[U64, U64] | None}

    hart: Hart
    state: HartState = HartState.STARTED
    entry: tuple[int, int] | None = None
    features: dict[int, CsrBits] = field(default_factory=dict)
    pmu: PmuState = field(default_factory=PmuState)


class FirmwareSbi:
    """SbiHost of one hart."""

    snapshot_skips = ("hartid", "profile")

    def __init__(self, profile: SbiProfile, records: dict[int, HartRecord], hartid: int, board: Board | None) -> None:
        self.profile, self.hartid = profile, hartid
        self.pmu: PmuState | None = records[hartid].pmu
        self._records, self._board = records, board
        if not records[hartid].features and "fwft" in profile.extensions:
            records[hartid].features = features_of(records[hartid].hart, profile.adue_feature_needs_svade)

    @property
    def _me(self) -> HartRecord:
        return self._records[self.hartid]

    def hartids(self) -> Sequence[int]:
        """Return all harts."""
        return sorted(self._records)

    def machine_ids(self) -> tuple[int, int, int]:
        """Return the identification CSRs."""
        hart = self._me.hart
        vendor, arch, imp = (int(hart.call(csr_read, n)) for n in (csr.MVENDORID, csr.MARCHID, csr.MIMPID))
        return vendor, arch, imp

    def set_timer(self, deadline: int) -> None:
        """Write stimecmp where there is one, else mtimecmp, and pass the interrupt on when it comes."""
        hart = self._me.hart
        if hart.has_sstc != 0:
            hart.call(csr_write, csr.STIMECMP, deadline)
            return
        if self._board is not None:
            self._board.set_machine_timer(self.hartid, deadline)
        change_bits(hart, csr.MIP, clear=STIP)
        change_bits(hart, csr.MIE, set=MTIP)

    def send_ipi(self, harts: Collection[int]) -> None:
        """Make SSIP pending on each hart that runs or sleeps."""
        for record in (self._records[n] for n in harts):
            if record.state in (HartState.STARTED, HartState.SUSPENDED):
                change_bits(record.hart, csr.MIP, set=SSIP)

    def clear_ipi(self) -> bool:
        """Clear the caller's SSIP."""
        pending = bool(int(self._me.hart.call(csr_read, csr.MIP)) & SSIP)
        change_bits(self._me.hart, csr.MIP, clear=SSIP)
        return pending

    def remote_fence(self, fence: RemoteFence) -> None:
        """Forget all translations on each hart: more than was asked for, never less. Code is always coherent."""
        if fence.kind is not Fence.FENCE_I:
            for n in fence.harts:
                flush_translations(self._records[n].hart)

    def has_hypervisor(self, hartid: int) -> bool:
        """Return misa.H."""
        return bool(self._records[hartid].hart.has_h != 0)

    def hart_state(self, hartid: int) -> HartState:
        """Return the HSM state."""
        return self._records[hartid].state

    def hart_start(self, hartid: int, start: int, opaque: int) -> SbiError:
        """Leave the start to whoever runs the harts (Firmware.start_pending)."""
        record = self._records[hartid]
        record.state, record.entry = HartState.START_PENDING, (start, opaque)
        return SbiError.SUCCESS

    def hart_stop(self) -> SbiError:
        """Stop the caller."""
        self._me.state = HartState.STOPPED
        return SbiError.SUCCESS

    def hart_suspend(self) -> SbiError:
        """Suspend until an interrupt is pending."""
        self._me.state = HartState.SUSPENDED
        return SbiError.SUCCESS

    def hart_suspend_and_restart(self, resume: int, opaque: int) -> SbiError:
        """Suspend, and resume as a start."""
        self._me.state, self._me.entry = HartState.SUSPENDED, (resume, opaque)
        return SbiError.SUCCESS

    def system_suspend(self, resume: int, opaque: int) -> SbiError:
        """Suspend the last running hart, and resume as a start."""
        return self.hart_suspend_and_restart(resume, opaque)

    def system_reset(self, kind: int, reason: int) -> None:
        """Ask the board; every hart stops."""
        for record in self._records.values():
            record.state = HartState.STOPPED
        if self._board is not None:
            self._board.system_reset(kind, reason)

    def console_write(self, data: bytes) -> int:
        """Write to the board's console; without a board nobody reads it."""
        return self._board.console_write(data) if self._board is not None else len(data)

    def console_read(self, limit: int) -> bytes:
        """Read from the board's console."""
        return self._board.console_read(limit) if self._board is not None else b""

    def accessible(self, start: int, size: int, access: Access) -> bool:
        """Return whether one memory region holds the range and permits the access."""
        kinds = (RAM,) if access is Access.WRITE else (RAM, ROM)
        return size == 0 or self._region(start, size, kinds, access is Access.EXECUTE) is not None

    def _region(self, start: int, size: int, kinds: tuple[int, ...], execute: bool = False) -> int | None:
        hart = self._me.hart
        for i in range(int(hart.region_count)):
            base, length = int(hart.region_base[i]), int(hart.region_size[i])
            if base <= start and start + size <= base + length and int(hart.region_kind[i]) in kinds:
                return None if execute and hart.region_noexec[i] != 0 else i
        return None

    def read_memory(self, start: int, size: int) -> bytes:
        """Read physical memory."""
        i = self._region(start, size, (RAM, ROM))
        if i is None:
            raise ValueError(f"no memory at {start:#x}, size {size:#x}")
        hart = self._me.hart
        return ctypes.string_at(int(hart.region_host[i]) + start - int(hart.region_base[i]), size)

    def write_memory(self, start: int, data: bytes) -> None:
        """Write physical memory by M-mode stores, so that code that was there is seen to change."""
        for n, byte in enumerate(data):
            self._me.hart.call(store, start + n, 1, byte)

    def load_word(self, va: int) -> int:
        """Read 8 bytes as the caller would."""
        hart = self._me.hart
        return int(hart.call(load_word, va, previous_privilege(hart), previous_virtualization(hart)))

    def feature(self, number: int) -> CsrBits | None:
        """Return a FWFT feature."""
        return self._me.features.get(number)

    def steal_time(self, shared_memory: int | None) -> SbiError:
        """Firmware steals no time."""
        return SbiError.SUCCESS


def change_bits(hart: Hart, number: int, *, set: int = 0, clear: int = 0) -> None:
    """Set and clear bits of a CSR by reading and writing it."""
    old = int(hart.call(csr_read, number))
    hart.call(csr_write, number, old & ~clear | set)
