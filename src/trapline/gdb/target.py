"""What the stub asks of a run: a board or a guest, its CPUs' registers and memory, and moving it on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from trapline.gdb.description import FIRST_CSR, FIRST_F, PC, PRIV, VIRT, numbers
from trapline.kvm.uapi.context import GUEST_CSRS
from trapline.kvm.uapi.numbers import MpState
from trapline.machine.result import RunResult
from trapline.policies.causes import name as cause_name
from trapline.privilege.csr import csr_read, csr_write
from trapline.privilege.derived import update_derived
from trapline.privilege.modes import MACHINE, MODE_NAMES
from trapline.session.tables import pages, translate
from trapline.vmm.guest import Guest
from trapline.vmm.result import GuestResult

if TYPE_CHECKING:
    from trapline.engine.stop_points import Stopped, Stops
    from trapline.kvm.vcpu import Vcpu
    from trapline.lang.state import Hart
    from trapline.machine.machine import Machine
    from trapline.session.terminal.monitor import Monitor

_ALL = (1 << 64) - 1
_ROM = 2
_OF_GUESTS = {number: field for field, number in GUEST_CSRS.items()}


class Target(ABC):
    """CPUs are counted from 0. ValueError says what a register or memory does not take."""

    kind: type[RunResult]  # of the result of a run

    def __init__(self, run: Any, runs: Any) -> None:
        self.machine, self._runs = run, runs  # a guest's VM runs it, a board itself
        self.harts = run.harts
        self.changed = False  # a client has written registers or memory since the run went on last

    @abstractmethod
    def step_to(self, cpu: int, attempts: int | None) -> None:
        """Let the next run end when a CPU has made so many attempts since its beginning; None: not for that."""

    @abstractmethod
    def pc(self, cpu: int) -> int:
        """Where a CPU goes on."""

    @abstractmethod
    def set_pc(self, cpu: int, value: int) -> None:
        """Let it go on elsewhere."""

    @abstractmethod
    def physical(self, cpu: int, address: int) -> int:
        """The address in physical memory (of the guest) of a virtual one of now."""

    @abstractmethod
    def read_physical(self, address: int, size: int) -> bytes:
        """Read physical memory (of the guest)."""

    @abstractmethod
    def write_physical(self, address: int, data: bytes) -> None:
        """Write it."""

    @abstractmethod
    def host_physical(self, address: int) -> int:
        """Where a guest physical address is for the hart."""

    @abstractmethod
    def roms(self) -> list[tuple[int, int]]:
        """Base and size of memory that is never written."""

    @abstractmethod
    def state(self, cpu: int) -> str:
        """What a CPU does, for people."""

    @abstractmethod
    def routes(self) -> Iterable[str]:
        """How often traps took which way."""

    # --- alike for both ---
    @property
    def stops(self) -> Stops:
        """The stops of the run."""
        stops: Stops = self._runs.stops
        return stops

    @property
    def stopped_by(self) -> Stopped | None:
        """For which stop the run came back."""
        stopped: Stopped | None = self._runs.stopped_by
        return stopped

    @property
    def turn(self) -> int:
        """Instructions between two looks outside."""
        return int(self._runs.engine.turn)

    def result(self, reason: str, code: int, message: str) -> RunResult:
        """The result of a run that ended while it was held."""
        return self.kind(reason, code, 0, message)

    def position(self) -> int:
        """Attempts of all CPUs since the beginning."""
        return sum(int(hart.instret) for hart in self.harts)

    def step(self, cpu: int) -> None:
        """Let the next run end when a CPU has made one more attempt."""
        self.step_to(cpu, int(self.harts[cpu].instret) + 1)

    @property
    def monitor(self) -> Monitor:
        """The monitor's commands."""
        later = self.machine.console.monitor
        monitor: Monitor | None = later.made if later is not None else None
        assert monitor is not None
        return monitor

    @contextmanager
    def held(self) -> Iterator[None]:
        """The run is held for the debugger: the monitor says so, as QEMU's does."""
        self.monitor.held_for = "debug"
        try:
            yield
        finally:
            self.monitor.held_for = ""

    def current(self) -> int:
        """The CPU that stopped the run, else the one whose turn it is."""
        return self.stopped_by.hart if self.stopped_by is not None else 0

    def get(self, cpu: int, number: int) -> int:
        """The value of a register by gdb's number."""
        hart = self.harts[cpu]
        if number < PC:
            return int(hart.x[number])
        if number == PC:
            return self.pc(cpu)
        if number < FIRST_CSR:
            return int(hart.f[number - FIRST_F])
        if number in (PRIV, VIRT):
            return int(self._mode(cpu)[number == VIRT])
        self._require(hart, number)
        return self.get_csr(cpu, number - FIRST_CSR)

    def set(self, cpu: int, number: int, value: int) -> None:
        """Write a register by gdb's number, with the effects that an instruction's write has."""
        hart = self.harts[cpu]
        if number < PC:
            hart.x[number] = value
        elif number == PC:
            self.set_pc(cpu, value)
        elif number < FIRST_CSR:
            hart.f[number - FIRST_F] = value
        elif number in (PRIV, VIRT):
            self.set_mode(cpu, *((value, self.get(cpu, VIRT)) if number == PRIV else (self.get(cpu, PRIV), value)))
        else:
            self._require(hart, number)
            self.set_csr(cpu, number - FIRST_CSR, value)

    def _require(self, hart: Hart, number: int) -> None:
        if number not in numbers(hart):
            raise ValueError(f"no register has the number {number}")

    def get_csr(self, cpu: int, csr: int) -> int:
        """A CSR by its address, whatever the mode."""
        return int(self.harts[cpu].call(csr_read, csr))

    def set_csr(self, cpu: int, csr: int, value: int) -> None:
        """Write it, as M-mode would."""
        if csr >> 10 == 3:
            raise ValueError(f"CSR {csr:#x} is read-only")
        self.harts[cpu].call(csr_write, csr, value)

    def _mode(self, cpu: int) -> tuple[int, int]:
        return int(self.harts[cpu].priv), int(self.harts[cpu].virt)

    def set_mode(self, cpu: int, priv: int, virt: int) -> None:
        """Put a CPU into another mode."""
        hart = self.harts[cpu]
        if priv | virt << 2 not in MODE_NAMES or (virt and hart.has_h == 0):
            raise ValueError(f"no mode has priv {priv} and virt {virt}")
        hart.priv, hart.virt = priv, virt
        hart.call(update_derived)

    def read(self, cpu: int, address: int, size: int) -> bytes:
        """Memory as the CPU's mode sees it now, up to the first byte that is not there."""
        data = b""
        for at, some in pages(address, size):
            try:
                data += self.read_physical(self.physical(cpu, at & _ALL), some)
            except ValueError:
                if not data:
                    raise
                break
        return data

    def write(self, cpu: int, address: int, data: bytes) -> None:
        """Write it: all of it or, if some is not there, nothing."""
        parts = []
        for at, some in pages(address, len(data)):
            where = self.physical(cpu, at & _ALL)
            self.read_physical(where, some)
            parts.append((where, data[at - address :][:some]))
        for where, part in parts:
            self.write_physical(where, part)


class BoardTarget(Target):
    """A board."""

    machine: Machine
    kind = RunResult

    def step_to(self, cpu: int, attempts: int | None) -> None:
        self.machine.schedule.goal = None if attempts is None else (cpu, attempts)

    def pc(self, cpu: int) -> int:
        return int(self.harts[cpu].pc)

    def set_pc(self, cpu: int, value: int) -> None:
        self.harts[cpu].pc = value

    def physical(self, cpu: int, address: int) -> int:
        hart = self.harts[cpu]
        if hart.priv == MACHINE:
            return address
        if hart.virt == 0:
            return translate(self._word, int(hart.satp), address)
        found = translate(lambda at: self._word(self.host_physical(at)), int(hart.vsatp), address)
        return self.host_physical(found)

    def _word(self, address: int) -> int:
        return int.from_bytes(self.read_physical(address, 8), "little")

    def read_physical(self, address: int, size: int) -> bytes:
        return self.machine.regions.read(address, size)

    def write_physical(self, address: int, data: bytes) -> None:
        self.machine.regions.write(address, data)

    def host_physical(self, address: int) -> int:
        """Where a guest physical address is, by hart 0's hgatp."""
        return translate(self._word, int(self.harts[0].hgatp), address, stage2=True)

    def roms(self) -> list[tuple[int, int]]:
        return [(region.base, region.size) for region in self.machine.regions if region.kind == _ROM]

    def state(self, cpu: int) -> str:
        waits = self.machine.schedule.asleep[cpu]
        return f"{'waits' if waits else 'runs'} in {MODE_NAMES[self._mode(cpu)[0] | self._mode(cpu)[1] << 2]}"

    def routes(self) -> Iterable[str]:
        """Traps by cause, origin and destination."""
        return self.monitor.run("info stats")


class GuestTarget(Target):
    """A guest; a CPU's registers are those of the hart, with the guest's own level in vsstatus and its kin."""

    machine: Guest
    kind = GuestResult

    def _vcpu(self, cpu: int) -> Vcpu:
        return self.machine.vm.vcpus[cpu]

    def step_to(self, cpu: int, attempts: int | None) -> None:
        self.machine.vm.goal = None if attempts is None else (cpu, attempts)

    def _held_by_kvm(self, cpu: int) -> bool:
        """Whether the hart is at a trap to hosted software that is still to be handled."""
        return int(self.harts[cpu].stop_then) != 0

    def pc(self, cpu: int) -> int:
        """Where the vCPU goes on; at a caught trap to hosted software, its handler there."""
        return int(self.harts[cpu].pc) if self._held_by_kvm(cpu) else self._vcpu(cpu).pc

    def set_pc(self, cpu: int, value: int) -> None:
        vcpu = self._vcpu(cpu)
        if self._held_by_kvm(cpu):
            raise ValueError("the trap to hosted software is to be handled first")
        if vcpu.in_guest:
            vcpu.hart.pc = value
        else:
            vcpu.hart.guest_sepc = value

    def get_csr(self, cpu: int, csr: int) -> int:
        """A CSR of the hart, or what KVM has saved of it."""
        vcpu = self._vcpu(cpu)
        if csr in _OF_GUESTS and not vcpu.loaded:
            return int(getattr(vcpu.csrs, _OF_GUESTS[csr]))
        return super().get_csr(cpu, csr)

    def set_csr(self, cpu: int, csr: int, value: int) -> None:
        """Write it there."""
        vcpu = self._vcpu(cpu)
        if csr in _OF_GUESTS and not vcpu.loaded:
            setattr(vcpu.csrs, _OF_GUESTS[csr], value)
        else:
            super().set_csr(cpu, csr, value)

    def _mode(self, cpu: int) -> tuple[int, int]:
        vcpu = self._vcpu(cpu)
        if vcpu.in_guest or self._held_by_kvm(cpu):
            return super()._mode(cpu)
        return int(vcpu.guest_mode() == "VS"), 1

    def set_mode(self, cpu: int, priv: int, virt: int) -> None:
        """VS and VU, while the guest's registers are in the hart."""
        if not virt or priv > 1 or not self._vcpu(cpu).in_guest or self._held_by_kvm(cpu):
            raise ValueError("a guest is in VS or VU; while KVM holds it, its mode stays")
        super().set_mode(cpu, priv, virt)

    def physical(self, cpu: int, address: int) -> int:
        vsatp = self.get_csr(cpu, GUEST_CSRS["vsatp"])
        return translate(lambda at: int.from_bytes(self.read_physical(at, 8), "little"), vsatp, address)

    def read_physical(self, address: int, size: int) -> bytes:
        return self.machine.vm.read_memory(address, size)

    def write_physical(self, address: int, data: bytes) -> None:
        self.machine.vm.write_memory(address, data)

    def host_physical(self, address: int) -> int:
        """Where the slot that has a guest physical address lies."""
        slot = self.machine.vm.slots.find(address)
        if slot is None or slot.region is None:
            raise ValueError(f"{address:#x} is in no memory slot")
        return slot.region.base + address - slot.gpa

    def roms(self) -> list[tuple[int, int]]:
        """Nothing is read-only for a debugger."""
        return []

    def state(self, cpu: int) -> str:
        vcpu = self._vcpu(cpu)
        if vcpu.mp_state is MpState.STOPPED:
            return "stopped"
        priv, virt = self._mode(cpu)
        return f"{'blocks' if vcpu.blocked else 'runs'} in {MODE_NAMES[priv | virt << 2]}"

    def routes(self) -> Iterable[str]:
        """How often traps that left the guest took each route."""
        for (cause, _, path, _, end, _), count in self.machine.vm.routes().most_common():
            yield f"{count:>12}  {cause_name(cause)}: {' > '.join(path)} ({end})"


def target_of(run: Machine | Guest) -> Target:
    """The target that a board or a guest is."""
    return GuestTarget(run, run.vm) if isinstance(run, Guest) else BoardTarget(run, run)
