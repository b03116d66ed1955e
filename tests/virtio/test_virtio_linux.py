"""A real kernel (`trapline fetch linux`) with every device, on the board and as a guest; by hand with -m slow."""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from trapline.fetch.store import Kernel, find_kernel
from trapline.machine.machine import Machine
from trapline.machine.virtio.options import VirtioOptions
from trapline.session.terminal.console import Console
from trapline.session.terminal.sources import Script
from trapline.vmm.guest import Guest

pytestmark = pytest.mark.slow
CONTENTS = bytes(range(256)) * 4000
DISK = (
    "mount -t ext4 /dev/vda /mnt && cat /mnt/greeting",
    "dd if=/dev/zero of=/mnt/zeros bs=64k count=64 && sync",
    "dd if=/dev/hwrng bs=512 count=4 2>/dev/null | md5sum",
    "echo from the guest >/mnt/answer; umount /mnt; cat /sys/block/vda/serial; echo",
)
SHARE = (
    "mkdir -p /tmp/s; mount -t 9p -o trans=virtio,version=9p2000.L work /tmp/s; ls /tmp/s; md5sum /tmp/s/big",
    "mkdir /tmp/s/made; echo shared >/tmp/s/made/file; mv /tmp/s/made/file /tmp/s/made/moved; umount /tmp/s",
)
NETWORK = (
    "udhcpc -i eth0 -n -q; ip addr show eth0; ping -c 2 10.0.2.2",
    "wget -q -O - http://10.0.2.2:{port}/big | md5sum",
)


@pytest.fixture
def kernel() -> Kernel:
    """The newest kernel in the cache."""
    found = find_kernel("linux")
    if found is None or shutil.which("mkfs.ext4") is None:
        pytest.skip("needs trapline fetch linux, and mkfs.ext4")
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder to share and to serve, and beside it a disk."""
    made = tmp_path / "folder"
    made.mkdir()
    (made / "greeting").write_text("hello from the host\n")
    (made / "big").write_bytes(CONTENTS)
    with (tmp_path / "disk.img").open("wb") as file:
        file.truncate(32 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-d", str(made), str(tmp_path / "disk.img")], check=True)
    return made


@pytest.fixture
def port(folder: Path) -> Iterator[int]:
    """A web server on the host's loopback."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()


def session(kernel: Kernel, place: str, virtio: VirtioOptions, commands: tuple[str, ...]) -> tuple[str, object]:
    """Type commands at the shell; return what came out, and where the machine ended."""
    out = bytearray()
    steps = [(b"# ", command.encode() + b"\r") for command in (*commands, "poweroff -f")]
    console = Console(out.extend, Script(steps))
    modules = "virtio_blk,virtio_rng,virtio_net,9p,9pnet_virtio,ext4"
    append = f"console=hvc0 cryptomgr.notests=1 trapline.modules=virtio_mmio,{modules}"
    machine: Machine | Guest
    if place == "board":
        machine = Machine(console=console, virtio=virtio, misaligned="hardware")
        machine.boot_bios(kernel.firmware(), kernel.image, kernel.initrd, append)
    else:
        machine = Guest(console=console, virtio=virtio, misaligned="hardware")
        machine.load(kernel.image, initrd=kernel.initrd, append=append)
    result = machine.run(max_seconds=300)
    machine.close()
    text = out.decode(errors="replace")
    assert (result.reason, result.code) == ("exit", 0), text
    return text, machine.position()


@pytest.mark.parametrize("place", ["board", "guest"])
def test_disk_entropy_and_console(kernel: Kernel, folder: Path, place: str) -> None:
    """ext4 on /dev/vda is read and written, /dev/hwrng gives bytes, the shell is on hvc0; twice the same."""
    virtio = VirtioOptions(drive=(f"{folder.parent}/disk.img,snapshot,serial=TL1",), rng=True, console="virtio")
    first = session(kernel, place, virtio, DISK)
    assert "hello from the host" in first[0] and "64+0 records out" in first[0] and "TL1" in first[0]
    assert re.search(r"[0-9a-f]{32}  -", first[0])
    assert session(kernel, place, virtio, DISK) == first


@pytest.mark.parametrize("place", ["board", "guest"])
def test_what_a_guest_writes_is_on_the_disk(kernel: Kernel, folder: Path, place: str) -> None:
    """After the guest's poweroff the host reads its file, and the file system is clean."""
    image = str(folder.parent / "disk.img")
    session(kernel, place, VirtioOptions(drive=(image,), rng=True, console="virtio"), DISK)
    shown = subprocess.run(["debugfs", "-R", "cat answer", image], capture_output=True, text=True, check=True)
    assert shown.stdout == "from the guest\n"
    subprocess.run(["e2fsck", "-fn", image], capture_output=True, check=True)


@pytest.mark.parametrize("place", ["board", "guest"])
def test_a_folder_is_shared(kernel: Kernel, folder: Path, place: str) -> None:
    """The guest mounts the folder, reads a file whole, makes and renames others."""
    text, _ = session(kernel, place, VirtioOptions(share=(f"{folder}:work",), console="virtio"), SHARE)
    assert hashlib.md5(CONTENTS).hexdigest() in text
    assert (folder / "made" / "moved").read_text() == "shared\n"


@pytest.mark.parametrize("place", ["board", "guest"])
def test_the_hosts_loopback_is_reached(kernel: Kernel, folder: Path, port: int, place: str) -> None:
    """The gateway answers pings, and a file from a web server of the host arrives whole."""
    commands = tuple(command.format(port=port) for command in NETWORK)
    text, _ = session(kernel, place, VirtioOptions(net="user", console="virtio"), commands)
    assert "2 packets received, 0% packet loss" in text and hashlib.md5(CONTENTS).hexdigest() in text


@pytest.mark.parametrize("place", ["board", "guest"])
def test_debian_boots_to_a_login(kernel: Kernel, place: str) -> None:
    """A root file system made by benchmarks/rootfs (named by TRAPLINE_ROOTFS) boots to a login and powers off."""
    image = os.environ.get("TRAPLINE_ROOTFS")
    if not image:
        pytest.skip("TRAPLINE_ROOTFS names no image (benchmarks/rootfs makes one)")
    out = bytearray()
    steps = [(b"login: ", b"root\r"), (b":~# ", b"cat /etc/debian_version; findmnt -n -o SOURCE,FSTYPE /; poweroff\r")]
    console = Console(out.extend, Script(steps))
    virtio = VirtioOptions(drive=(f"{image},snapshot",), rng=True)
    append = "console=ttyS0 root=/dev/vda rw cryptomgr.notests=1 trapline.modules=virtio_mmio,virtio_rng"
    machine: Machine | Guest
    if place == "board":
        machine = Machine(console=console, virtio=virtio, memory=512 << 20, misaligned="hardware")
        machine.boot_bios(kernel.firmware(), kernel.image, kernel.initrd, append)
    else:
        machine = Guest(console=console, virtio=virtio, memory=512 << 20, misaligned="hardware")
        machine.load(kernel.image, initrd=kernel.initrd, append=append)
    result = machine.run(max_seconds=600)
    machine.close()
    text = out.decode(errors="replace")
    assert (result.reason, result.code) == ("exit", 0), text[-3000:]
    assert re.search(r"/dev/vda +ext4", text)
