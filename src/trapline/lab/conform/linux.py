"""A Linux guest under the real KVM of a real host: the KVM user program as a small VMM, on the board."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trapline.lab.conform.board import Host, Session, read_file
from trapline.lab.conform.cpio import initramfs
from trapline.lab.conform.port import Window
from trapline.lab.errors import UsageError
from trapline.machine.device_tree import BoardTree, board_blob, isa_extensions, isa_string

APPEND = "console=ttyS0 cryptomgr.notests=1 rdinit=/init"
MEMORY, RAM = 256 << 20, 0x8000_0000
INITRD_AT, TREE_AT = 128 << 20, MEMORY - (2 << 20)
MARKER = "GUEST-UP"
# What a guest of any kernel here may be told of its hart.
_GUEST = frozenset(
    "i m a f d c zicsr zifencei zicntr zihpm zba zbb zbc zbs sstc zicbom zicboz zawrs zicond zfh".split()
)


@dataclass(frozen=True, slots=True)
class LinuxGuest:
    """How the guest's boot went."""

    host_release: str
    guest_release: str
    firmware: str
    end: str
    stats: dict[str, int]  # KVM's own, of the vCPU
    exits: dict[str, int]  # KVM_RUN calls that came back, MMIO and SBI among them
    window: Window  # from the first KVM_RUN to the last
    instructions: int  # of the whole run, host boot included
    seconds: float  # of this process
    console: bytes

    def as_data(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "host": self.host_release, "guest": self.guest_release, "firmware": self.firmware, "end": self.end,
            "exits": self.exits, "stats": self.stats, "instructions": self.window.instructions,
            "instret": self.instructions, "seconds": round(self.seconds, 2),
        }  # fmt: skip


def guest_ramdisk(host: Host) -> bytes:
    """Return the initramfs of a guest: the same program as its init."""
    return initramfs(read_file(host.program), {})


def guest_files(host: Host, image: Path, append: str = "") -> tuple[dict[str, bytes], str]:
    """Return what the host's initramfs holds for a guest with this kernel, and the arguments of the VMM in it."""
    ramdisk = guest_ramdisk(host)
    words = [w for w in isa_extensions(host.isa) if w in _GUEST]
    isa = isa_string("rv64" + "".join(w if len(w) == 1 else f"_{w}" for w in words))
    tree = BoardTree(
        isa, [(RAM, MEMORY)], 1, "riscv,sv48", host.timebase, f"{APPEND} {append} -- guest",
        (RAM + INITRD_AT, RAM + INITRD_AT + len(ramdisk)), machine_mode=False, finisher=False, clint=False, plic=False,
        rtc=False, model="trapline,guest",
    )  # fmt: skip
    files = {"guest/Image": read_file(image), "guest/initrd": ramdisk, "guest/dtb": board_blob(tree)}
    return files, f"linux memory={MEMORY:#x} initrd_at={INITRD_AT:#x} dtb_at={TREE_AT:#x}"


def boot_guest(host: Host, image: Path, append: str = "") -> LinuxGuest:
    """Boot a kernel in a VM of the host's KVM, to its init and back down."""
    files, arguments = guest_files(host, image, append)
    started = time.perf_counter()
    run = Session(host, files, arguments).go()
    seconds = time.perf_counter() - started
    report = next((line for line in run.lines if "guest" in line), None)
    if report is None or not run.windows:
        raise UsageError("the VMM did not report how its guest ended")
    text = run.console.decode(errors="replace")
    up = next((line for line in text.splitlines() if line.startswith(MARKER)), "")
    return LinuxGuest(
        run.release, up.split()[1] if up else "", run.firmware, report["guest"], report["stats"],
        {"all": report["exits"], "mmio": report["mmio"], "sbi": report["sbi"]}, run.windows[0], run.instructions,
        seconds, run.console,
    )  # fmt: skip
