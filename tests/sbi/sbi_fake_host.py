"""A host of four harts (0, 1, 2, 5) and 64 KiB of memory that writes down what it is asked to do."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from trapline.lang.functions import Trap
from trapline.sbi.call import SbiCall, SbiOutcome
from trapline.sbi.host import Access, RemoteFence, SbiProfile
from trapline.sbi.numbers import HartState, SbiError
from trapline.sbi.pmu import PmuState
from trapline.sbi.serve import serve

MEMORY = 0x8000_0000
SIZE = 0x1_0000


class FakeFeature:
    """A feature that takes 0 and 1."""

    def __init__(self) -> None:
        self.locked, self.value = False, 0

    def read(self) -> int:
        return self.value

    def write(self, value: int) -> SbiError:
        if value not in (0, 1):
            return SbiError.INVALID_PARAM
        self.value = value
        return SbiError.SUCCESS


class FakeHost:
    """The SbiHost of hart 0."""

    hartid = 0

    def __init__(self, **profile: Any) -> None:
        self.profile = SbiProfile(**profile)
        self.pmu: PmuState | None = PmuState()
        self.memory = bytearray(SIZE)
        self.output, self.input = b"", b""
        self.console_room = SIZE
        self.done: list[tuple[Any, ...]] = []
        self.states = dict.fromkeys((0, 1, 2, 5), HartState.STARTED)
        self.ipi_pending = False
        self.features = {0: FakeFeature()}

    def call(self, eid: int, fid: int = 0, *args: int) -> SbiOutcome:
        """Make a call with these arguments and zeros."""
        a = (*args, 0, 0, 0, 0, 0, 0)
        return serve(self, SbiCall(eid, fid, (a[0], a[1], a[2], a[3], a[4], a[5])))

    def hartids(self) -> Sequence[int]:
        return sorted(self.states)

    def machine_ids(self) -> tuple[int, int, int]:
        return 0x602, 0x603, 0x604

    def set_timer(self, deadline: int) -> None:
        self.done.append(("timer", deadline))

    def send_ipi(self, harts: Collection[int]) -> None:
        self.done.append(("ipi", tuple(harts)))

    def clear_ipi(self) -> bool:
        pending, self.ipi_pending = self.ipi_pending, False
        return pending

    def remote_fence(self, fence: RemoteFence) -> None:
        self.done.append(("fence", fence))

    def has_hypervisor(self, hartid: int) -> bool:
        return hartid != 5

    def hart_state(self, hartid: int) -> HartState:
        return self.states[hartid]

    def hart_start(self, hartid: int, start: int, opaque: int) -> SbiError:
        self.done.append(("start", hartid, start, opaque))
        return SbiError.SUCCESS

    def hart_stop(self) -> SbiError:
        self.done.append(("stop",))
        return SbiError.SUCCESS

    def hart_suspend(self) -> SbiError:
        self.done.append(("suspend",))
        return SbiError.SUCCESS

    def hart_suspend_and_restart(self, resume: int, opaque: int) -> SbiError:
        self.done.append(("suspend", resume, opaque))
        return SbiError.SUCCESS

    def system_suspend(self, resume: int, opaque: int) -> SbiError:
        self.done.append(("system-suspend", resume, opaque))
        return SbiError.SUCCESS

    def system_reset(self, kind: int, reason: int) -> None:
        self.done.append(("reset", kind, reason))

    def console_write(self, data: bytes) -> int:
        data = data[: self.console_room]
        self.output += data
        return len(data)

    def console_read(self, limit: int) -> bytes:
        data, self.input = self.input[:limit], self.input[limit:]
        return data

    def accessible(self, start: int, size: int, access: Access) -> bool:
        return start >= MEMORY and start + size <= MEMORY + SIZE

    def read_memory(self, start: int, size: int) -> bytes:
        return bytes(self.memory[start - MEMORY : start - MEMORY + size])

    def write_memory(self, start: int, data: bytes) -> None:
        self.memory[start - MEMORY : start - MEMORY + len(data)] = data

    def load_word(self, va: int) -> int:
        if not self.accessible(va, 8, Access.READ):
            raise Trap(13, va)
        return int.from_bytes(self.read_memory(va, 8), "little")

    def feature(self, number: int) -> FakeFeature | None:
        return self.features.get(number)

    def steal_time(self, shared_memory: int | None) -> SbiError:
        self.done.append(("steal", shared_memory))
        return SbiError.SUCCESS
