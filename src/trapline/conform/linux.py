"""A guest under the real KVM of a real host: the KVM user program as a small VMM, on the board."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trapline.conform.board import Host, Run, Session, read_file
from trapline.conform.cpio import initramfs
from trapline.conform.hosted_guest import GuestFiles
from trapline.conform.port import Window
from trapline.conform.seen import PREFIX
from trapline.conform.sweep import RECORD
from trapline.conform.sweep import build as build_sweep
from trapline.conform.sweep_run import BUILT
from trapline.kvm.vm import Vm
from trapline.lab.errors import UsageError
from trapline.machine.load.image import load_program, most_of_program, read_program
from trapline.machine.tree.device_tree import BoardTree, board_blob, isa_extensions, isa_string
from trapline.plain import plain
from trapline.vmm.guest_memory import GuestMemory

APPEND = "console=ttyS0 cryptomgr.notests=1 rdinit=/init"
MEMORY, RAM, KERNEL = 256 << 20, 0x8000_0000, 0x8020_0000
INITRD_AT, TREE_AT = 128 << 20, MEMORY - (2 << 20)
MARKER = "GUEST-UP"
# What a guest of any kernel here may be told of its hart.
_GUEST = frozenset(
    "i m a f d c zicsr zifencei zicntr zihpm zba zbb zbc zbs sstc zicbom zicboz zawrs zicond zfh".split()
)


@dataclass(frozen=True, slots=True)
class LinuxGuest:
    """How the guest ran."""

    host_release: str
    guest_release: str  # of a Linux guest that came to its init
    firmware: str
    end: str
    stats: dict[str, int]  # KVM's own, of the vCPU
    exits: dict[str, int]  # KVM_RUN calls that came back, MMIO and SBI among them
    window: Window  # from the first KVM_RUN to the last
    instructions: int  # of the whole run, host boot included
    seconds: float  # of this process
    console: bytes  # the host's
    written: bytes = b""  # the guest's console
    kernel_log: list[str] = field(default_factory=list)
    v01: bool = True  # the host's kernel was built with SBI v0.1 for guests

    def as_data(self) -> dict[str, Any]:
        return {
            **plain(
                self, "host=host_release guest=guest_release firmware end exits stats instructions=window.instructions"
            ),
            **plain(self, "instret=instructions kernel_log"),
            "seconds": round(self.seconds, 2),
            "console": self.written.decode(errors="backslashreplace"),
        }


def guest_ramdisk(host: Host) -> bytes:
    """Return the initramfs of a guest: the same program as its init."""
    return initramfs(read_file(host.program), {})


def guest_files(host: Host, image: Path, append: str = "") -> GuestFiles:
    """Return a guest with this kernel: an ELF, a Linux Image or flat bytes; UsageError says what is wrong."""
    ramdisk = guest_ramdisk(host)
    words = [w for w in isa_extensions(host.isa) if w in _GUEST]
    isa = isa_string("rv64" + "".join(w if len(w) == 1 else f"_{w}" for w in words))
    tree = BoardTree(
        isa, [(RAM, MEMORY)], 1, "riscv,sv48", host.timebase, f"{APPEND} {append} -- guest",
        (RAM + INITRD_AT, RAM + INITRD_AT + len(ramdisk)), machine_mode=False, finisher=False, clint=False, plic=False,
        rtc=False, model="trapline,guest",
    )  # fmt: skip
    vm = Vm(isa=host.isa, engine=host.engine)
    vm.add_memory(RAM, MEMORY)
    memory = GuestMemory(vm)
    try:
        loaded = load_program(memory, read_program(image, most_of_program(memory)), str(image), KERNEL)
    except ValueError as error:
        raise UsageError(str(error), "--guest") from None
    if loaded.high > RAM + INITRD_AT:
        raise UsageError(f"{image}: its last byte is at {loaded.high - 1:#x}, where the initrd of the guest is")
    kernel = vm.read_memory(loaded.low, loaded.high - loaded.low).rstrip(b"\0")
    return GuestFiles(MEMORY, kernel, loaded.low - RAM, loaded.entry, ramdisk, INITRD_AT, board_blob(tree), TREE_AT)


def boot_guest(host: Host, image: Path, append: str = "", made: Callable[..., Session] = Session) -> LinuxGuest:
    """Boot a guest in a VM of the host's KVM, to its end; `made` as in boot_files."""
    return boot_files(host, guest_files(host, image, append), made)


def boot_files(host: Host, guest: GuestFiles, made: Callable[..., Session] = Session) -> LinuxGuest:
    """Boot a guest that is in memory; the host is on the board, or what `made` makes of it (conform.nested)."""
    files, arguments = host_files(guest)
    started = time.perf_counter()
    run = made(host, files, arguments).go()
    seconds = time.perf_counter() - started
    report = next((line for line in run.lines if "guest" in line), None)
    if report is None or not run.windows:
        raise UsageError("the VMM did not report how its guest ended")
    return LinuxGuest(
        run.release, _release(bytes(run.written)), run.firmware, report["guest"], report["stats"],
        {"all": report["exits"], "mmio": report["mmio"], "sbi": report["sbi"]}, run.windows[-1], run.instructions,
        seconds, run.console, bytes(run.written), _kernel_log(report["kernel"]), _built_with_v01(run),
    )  # fmt: skip


def host_files(guest: GuestFiles) -> tuple[dict[str, bytes], str]:
    """Return what the host's initramfs holds of a guest, and the words that tell its VMM where it lies."""
    built = build_sweep(BUILT)
    files = {
        "guest/Image": guest.kernel, "guest/initrd": guest.initrd, "guest/dtb": guest.tree,
        "sweep-0.bin": built.data, "sweep-0.txt": built.manifest.encode(),
    }  # fmt: skip
    places = f"kernel_at={guest.kernel_at:#x} initrd_at={guest.initrd_at:#x} dtb_at={guest.tree_at:#x}"
    return files, f"linux memory={guest.memory:#x} entry={guest.entry:#x} {places}"


def _release(console: bytes) -> str:
    """Return what a guest's init said of its kernel."""
    lines = console.decode(errors="replace").splitlines()
    return next((words[1] for line in lines if (words := line.split())[:1] == [MARKER] and len(words) > 1), "")


def _kernel_log(lines: list[str]) -> list[str]:
    """Return what KVM wrote, as the hosted one does."""
    return [PREFIX.sub("", line) for line in lines if PREFIX.match(line)]


def _built_with_v01(run: Run) -> bool:
    return bool(next(RECORD.iter_unpack(run.handed_over[0]))[2])
