"""A real kernel as L1 under a hosted L0, with the KVM user program as its init: its guests are L2."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from trapline.conform.board import Host, Session
from trapline.conform.payload import HOLE_BACKING
from trapline.conform.port import CSRS, PORT, Port, Snapshot, read_virtual, take
from trapline.firmware.firmware import Firmware
from trapline.kvm.uapi.slots import SlotKind
from trapline.lab.firmware_names import firmware_named
from trapline.lab.probe import image
from trapline.lab.settings import Settings
from trapline.lang.state import Hart
from trapline.machine.memory_map import Window
from trapline.vmm.arguments import SlotArgument
from trapline.vmm.guest import Guest

# Of the levels that a flat run compares those that are L1's own; M-mode's are L0's and the board's.
OF_L1 = tuple(name for name in CSRS if name.startswith("h"))


class NestedPort(Port):
    """The port as L1 has it: a device of L0's user space. Its snapshots have the H registers that L1 sees."""

    def __init__(self, guest: Guest, on_mark: Callable[[Snapshot, Hart], None]) -> None:
        super().__init__(guest.vm.regions, on_mark)
        self._vm = guest.vm

    def _taken(self, hart: Hart, code: int) -> Snapshot:
        nested = next(v.nested for v in self._vm.vcpus if v.hart is hart)
        assert nested is not None
        return replace(take(hart, code), csrs={name: int(getattr(nested.hart, name)) for name in OF_L1})

    def _handed(self, hart: Hart, address: int, size: int) -> bytes:
        return read_virtual(self._vm.read_memory, int(hart.vsatp), address, size)


class NestedSession(Session):
    """A hosted L0 whose guest L1 is a real kernel, with the KVM user program as its init."""

    def __init__(
        self,
        host: Host,
        files: Mapping[str, bytes],
        arguments: str,
        *,
        settings: Settings,
        nacl: str = "",
        on_line: Callable[[dict[str, Any]], None] = lambda line: None,
    ) -> None:
        self._settings, self._nacl = settings, nacl
        self.guest: Guest
        super().__init__(host, files, arguments, on_line=on_line)

    def _boot(self, host: Host, ramdisk: bytes, append: str) -> tuple[Guest, Port]:
        chosen = self._settings
        self.guest = guest = Guest(
            chosen.policy, firmware=Firmware(firmware_named(chosen.firmware), host_fwft=chosen.host_fwft),
            memory=host.memory, isa=host.isa, misaligned=host.misaligned, engine=host.engine, timebase=host.timebase,
            console=self.console(), memslots=[SlotArgument(HOLE_BACKING, image.HOLE_SIZE, SlotKind.HOLE)],
            nested=True, nacl=self._nacl,
        )  # fmt: skip
        port = NestedPort(guest, self._mark)
        guest.devices.add(Window(PORT, 0x1000), port)
        guest.tell_devices()
        with tempfile.NamedTemporaryFile(prefix="trapline-") as file:
            file.write(ramdisk)
            file.flush()
            guest.load(host.kernel, initrd=file.name, append=append)
        return guest, port
