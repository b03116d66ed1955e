"""A guest as the monitor sees it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from trapline.isa.decode import Decoder
from trapline.isa.registers import X_NAMES
from trapline.kvm.uapi.context import GUEST_CSRS
from trapline.kvm.uapi.numbers import MpState
from trapline.kvm.uapi.slots import MemorySlot
from trapline.kvm.vcpu import Vcpu
from trapline.machine import memory_map as mm
from trapline.machine.board_monitor import in_columns, trap_lines, virtio_lines
from trapline.people import grouped
from trapline.privilege.csr import csr_read
from trapline.privilege.csr_numbers import CSR_BY_NAME
from trapline.session.tables import pages, ranges, stage, translate
from trapline.session.terminal.monitor_registers import control, general

if TYPE_CHECKING:
    from trapline.vmm.guest import Guest

CSRS = ("vsstatus", "vsie", "hvip", "vstvec", "vsepc", "vscause", "vstval", "vsscratch", "vsatp")


class GuestMonitor:
    """session.terminal.monitor.Target over a Guest."""

    def __init__(self, guest: Guest) -> None:
        self._guest, self._vm = guest, guest.vm

    def snapshot(self, path: str) -> int:
        """Write the guest to a file."""
        return self._guest.snapshot(path)

    @property
    def cpus(self) -> int:
        """How many vCPUs there are."""
        return len(self._vm.vcpus)

    def pc(self, cpu: int) -> int:
        """Return a vCPU's pc."""
        return self._vm.vcpus[cpu].pc

    def decoder(self, cpu: int) -> Decoder:
        """Return a vCPU's decoder."""
        return self._vm.vcpus[cpu].decoder

    def status(self) -> Iterable[str]:
        """Say where each vCPU is."""
        for vcpu in self._vm.vcpus:
            if vcpu.mp_state is MpState.STOPPED:
                yield f"vcpu {vcpu.id}: stopped"
                continue
            state = "blocks in WFI" if vcpu.blocked else "runs"
            count = grouped(int(vcpu.hart.instret))
            yield f"vcpu {vcpu.id}: {state} in {vcpu.present_mode()} at {vcpu.pc:#x}, {count} instructions"

    def registers(self, cpu: int) -> Iterable[str]:
        """List pc, mode, general registers and the guest's CSRs."""
        vcpu = self._vm.vcpus[cpu]
        yield f"vcpu {cpu}   pc {vcpu.pc:#018x}   mode {vcpu.present_mode()}"
        yield from in_columns((name, int(vcpu.hart.x[n])) for n, name in enumerate(X_NAMES))
        yield from in_columns((name, _csr(vcpu, name)) for name in CSRS)

    def statistics(self) -> Iterable[str]:
        """List KVM's counters and every trap by cause, origin, way and outcome."""
        found = {name: n for name, n in self._vm.stats().items() if n}
        yield from trap_lines((name.removeprefix("trapline/").replace("/", " "), n) for name, n in found.items())

    def memory_tree(self) -> Iterable[str]:
        """List memory slots and devices."""
        rows = [(s.gpa, [f"{s.gpa:016x}-{s.end - 1:016x} {_slot(s)}"]) for s in self._vm.slots]
        devices = self._guest.devices
        for window in devices.windows():
            if window.base == mm.VIRTIO.base:
                rows.append((window.base, list(virtio_lines(devices.virtio))))
            else:
                what = (devices.name_at(window.base) or "device").removeprefix("the ")
                rows.append((window.base, [f"{window.base:016x}-{window.end - 1:016x} {what}"]))
        return (line for _, lines in sorted(rows) for line in lines)

    def register(self, cpu: int, name: str) -> int:
        """Return a register as the guest sees it: sstatus is vsstatus. Registers of its host are there too."""
        vcpu = self._vm.vcpus[cpu]
        if name == "pc":
            return vcpu.pc
        value = general(vcpu.hart, name)
        if value is not None:
            return value
        if f"v{name}" in CSR_BY_NAME:
            name = f"v{name}"
        if name in GUEST_CSRS:
            return _csr(vcpu, name)
        if not vcpu.loaded and name in CSR_BY_NAME:
            raise ValueError(f"vcpu {cpu} is not loaded: {name} is not its own now")
        return control(vcpu.hart, name)

    def translation(self, cpu: int, address: int) -> Iterable[str]:
        """Show vsatp's stage, then KVM's, and the slot or device at the guest physical address."""
        line, gpa = stage("vsatp", self._word, _csr(self._vm.vcpus[cpu], "vsatp"), address)
        yield line
        slot = next((s for s in self._vm.slots if s.gpa <= gpa < s.end), None)
        what = _slot(slot) if slot is not None else self._guest.devices.name_at(gpa) or "nothing"
        try:
            gstage = self._vm.gstage
            yield stage("hgatp", gstage.memory.read, gstage.hgatp(0), gpa, stage2=True)[0]
        except ValueError:
            yield f"hgatp {gpa:#018x} is not mapped{': KVM does that at the first access' if slot is not None else ''}"
        yield f"{gpa:#018x} is in {what}"

    def mappings(self, cpu: int) -> Iterable[str]:
        """List what the guest's own table maps."""
        vsatp = _csr(self._vm.vcpus[cpu], "vsatp")
        if vsatp >> 60 == 0:
            return ["vsatp is Bare: nothing is translated"]
        return (found.describe() for found in ranges(self._word, vsatp))

    def _word(self, gpa: int) -> int:
        return int.from_bytes(self._vm.read_memory(gpa, 8), "little")

    def read(self, cpu: int, address: int, size: int, *, physical: bool) -> bytes:
        """Return guest memory, by pages."""
        vsatp = _csr(self._vm.vcpus[cpu], "vsatp")
        to = (lambda at: at) if physical else partial(translate, self._word, vsatp)
        return b"".join(self._vm.read_memory(to(at), some) for at, some in pages(address, size))


def _slot(slot: MemorySlot) -> str:
    return f"slot {slot.slot} ({slot.file.name if slot.file is not None else slot.kind.value})"


def _csr(vcpu: Vcpu, name: str) -> int:
    """Return a VS-level CSR, wherever it is now."""
    return int(vcpu.hart.call(csr_read, GUEST_CSRS[name])) if vcpu.loaded else int(getattr(vcpu.csrs, name))
