"""A board as the monitor sees it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from trapline.isa.decode import Decoder
from trapline.isa.registers import X_NAMES
from trapline.machine import memory_map as mm
from trapline.people import grouped
from trapline.privilege.causes import cause_name
from trapline.privilege.csr import csr_read
from trapline.privilege.csr_numbers import CSR_BY_NAME
from trapline.privilege.modes import mode_name
from trapline.session.observe.trap_counts import instructions_by_mode, summed, trap_rows
from trapline.session.regions import KIND_NAMES
from trapline.session.tables import pages, ranges, stage, translate
from trapline.session.terminal.monitor_registers import control, general

if TYPE_CHECKING:
    from trapline.lang.state import Hart
    from trapline.machine.machine import Machine
    from trapline.machine.virtio.bus import VirtioBus

CSRS = (
    "mstatus", "mie", "mip", "medeleg", "mideleg", "mtvec", "mepc", "mcause", "mtval", "mscratch", "sstatus", "stvec",
    "sepc", "scause", "stval", "sscratch", "satp", "hstatus", "hedeleg", "hideleg", "htval", "htinst", "hvip", "hgatp",
    "vsstatus", "vsie", "vsip", "vstvec", "vsepc", "vscause", "vstval", "vsscratch", "vsatp",
)  # fmt: skip


def in_columns(pairs: Iterable[tuple[str, int]], width: int = 8) -> Iterable[str]:
    """Yield names and 64-bit values, three to a line: 80 columns."""
    cells = [f"{name:>{width}} {value & (1 << 64) - 1:016x}" for name, value in pairs]
    for at in range(0, len(cells), 3):
        yield " ".join(cells[at : at + 3])


def trap_lines(rows: Iterable[tuple[str, int]]) -> Iterable[str]:
    """Yield counts, aligned."""
    for name, count in rows:
        yield f"{grouped(count):>14}  {name}"


def virtio_lines(bus: VirtioBus, kind: str = "") -> Iterable[str]:
    """Yield the windows of virtio that have a device, and what the empty rest is."""
    base = mm.VIRTIO.base
    for slot in bus.slots:
        yield f"{base:016x}-{base + mm.VIRTIO_STRIDE - 1:016x} {kind}virtio {slot.device.name}"
        base += mm.VIRTIO_STRIDE
    if base < mm.VIRTIO.end:
        yield f"{base:016x}-{mm.VIRTIO.end - 1:016x} {kind}virtio, no device"


class BoardMonitor:
    """session.terminal.monitor.Target over a Machine."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._decoders: dict[int, Decoder] = {}

    def snapshot(self, path: str) -> int:
        """Write the board to a file."""
        return self._machine.snapshot(path)

    @property
    def cpus(self) -> int:
        """How many harts there are."""
        return len(self._machine.harts)

    def pc(self, cpu: int) -> int:
        """Return a hart's pc."""
        return int(self._machine.harts[cpu].pc)

    def decoder(self, cpu: int) -> Decoder:
        """Return a hart's decoder."""
        if cpu not in self._decoders:
            self._decoders[cpu] = Decoder(self._machine.harts[cpu])
        return self._decoders[cpu]

    def status(self) -> Iterable[str]:
        """Say where each hart is."""
        for n, hart in enumerate(self._machine.harts):
            state = "waits for an interrupt" if self._machine.schedule.asleep[n] else "runs"
            count = grouped(int(hart.instret))
            yield f"hart {n}: {state} in {mode_name(hart)} at {int(hart.pc):#x}, {count} instructions"

    def registers(self, cpu: int) -> Iterable[str]:
        """List pc, mode, general registers and the CSRs of every level."""
        hart = self._machine.harts[cpu]
        yield f"hart {cpu}   pc {int(hart.pc):#018x}   mode {mode_name(hart)}"
        yield from in_columns((name, int(hart.x[n])) for n, name in enumerate(X_NAMES))
        levels = "mshv" if hart.has_h != 0 else "ms"
        names = [n for n in CSRS if n[0] in levels]
        yield from in_columns((n, int(hart.call(csr_read, CSR_BY_NAME[n]))) for n in names)

    def statistics(self) -> Iterable[str]:
        """List every trap by cause, origin and destination, and instructions by mode."""
        rows = trap_rows(summed(self._machine.harts))
        yield from trap_lines((f"{cause_name(c)} {origin} > {to}", n) for c, origin, to, n in rows)
        total: dict[str, int] = {}
        for hart in self._machine.harts:
            for mode, n in instructions_by_mode(hart).items():
                total[mode] = total.get(mode, 0) + n
        yield from trap_lines((f"instructions in {mode}", n) for mode, n in total.items() if n)

    def register(self, cpu: int, name: str) -> int:
        """Return a register of a hart, of any level."""
        hart = self._machine.harts[cpu]
        if name == "pc":
            return int(hart.pc)
        value = general(hart, name)
        return value if value is not None else control(hart, name)

    def memory_tree(self) -> Iterable[str]:
        """List the regions; of virtio every window that has a device."""
        for region in self._machine.regions:
            if region.base == mm.VIRTIO.base:
                yield from virtio_lines(self._machine.virtio, "device ")
            else:
                yield f"{region.base:016x}-{region.end - 1:016x} {KIND_NAMES[region.kind]:6} {region.name}"

    def translation(self, cpu: int, address: int) -> Iterable[str]:
        """Show satp's stage, or in a guest vsatp's and hgatp's, and the region at the end."""
        hart = self._machine.harts[cpu]
        if hart.priv == 3:
            yield "M-mode: addresses are physical"
            at = address
        elif hart.virt != 0:
            line, gpa = stage("vsatp", lambda at: self._table_word(hart, at), int(hart.vsatp), address)
            yield line
            line, at = stage("hgatp", self._word, int(hart.hgatp), gpa, stage2=True)
            yield line
        else:
            line, at = stage("satp", self._word, int(hart.satp), address)
            yield line
        where = [r for r in self._machine.regions if r.base <= at < r.end]
        yield f"{at:#018x} is in {where[0].name if where else 'nothing'}"

    def mappings(self, cpu: int) -> Iterable[str]:
        """List what the table of the hart's mode maps: satp, or vsatp in a guest."""
        hart = self._machine.harts[cpu]
        name, atp = ("vsatp", int(hart.vsatp)) if hart.virt != 0 else ("satp", int(hart.satp))
        if atp >> 60 == 0:
            return [f"{name} is Bare: nothing is translated"]
        return (found.describe() for found in ranges(lambda at: self._table_word(hart, at), atp))

    def _table_word(self, hart: Hart, address: int) -> int:
        """Read a table's entry; a guest's table lies at guest physical addresses."""
        if hart.virt != 0:
            address = translate(self._word, int(hart.hgatp), address, stage2=True)
        return self._word(address)

    def _word(self, address: int) -> int:
        return int.from_bytes(self._machine.regions.read(address, 8), "little")

    def read(self, cpu: int, address: int, size: int, *, physical: bool) -> bytes:
        """Return memory, by pages."""
        to = (lambda at: at) if physical else partial(self._physical, cpu)
        return b"".join(self._machine.regions.read(to(at), some) for at, some in pages(address, size))

    def _physical(self, cpu: int, address: int) -> int:
        hart = self._machine.harts[cpu]
        if hart.priv == 3:
            return address
        atp = int(hart.vsatp) if hart.virt != 0 else int(hart.satp)
        found = translate(lambda at: self._table_word(hart, at), atp, address)
        return translate(self._word, int(hart.hgatp), found, stage2=True) if hart.virt != 0 else found
