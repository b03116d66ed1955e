"""The initramfs: busybox as init, a shell on the console, and the modules for what a guest or a host may have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trapline.fetch.cpio import PROGRAM, Cpio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trapline.fetch.modules import Module

REVISION = 5  # of what this file writes: a new one has the initramfs built again
MARKER = "trapline: init is up"

# busybox is asked for its own list at the first start, which costs more than a few links.
APPLETS = """
    ash awk base64 basename cat chmod chown chroot clear cmp cp cttyhack cut date dd df diff dirname dmesg du echo
    env expr false find free grep gunzip gzip halt head hexdump hostname id ifconfig init insmod ip kill killall less ln
    ls lsmod md5sum mkdir mknod modprobe more mount mv nc nproc od ping pivot_root poweroff printf ps pwd readlink
    reboot reset rm rmdir rmmod route sed seq setsid sh sha256sum sleep sort stty switch_root sync tail tar tee test
    time timeout top touch tr true tty udhcpc umount uname uniq uptime vi watch wc wget which whoami xargs yes zcat
""".split()

# The first process: with root= it hands over to the init there, otherwise to busybox's.
_INIT = """#!/bin/sh
export PATH=/bin HOME=/ TERM=${TERM:-vt100} PS1='# '
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
read line </proc/cmdline
mode=ro
for word in $line; do
    case $word in
    root=*) root=${word#root=} ;;
    rootfstype=*) type=${word#rootfstype=} ;;
    rw) mode=rw ;;
    init=*) init=${word#init=} ;;
    console=hvc*) hvc=yes ;;
    trapline.modules=*) modules=${word#trapline.modules=} ;;
    esac
done
if [ -n "$hvc" ]; then
    # Until now there was no console: its device is found by a module.
    for module in virtio_mmio virtio_console; do modprobe "$module" 2>/dev/null; done
    exec </dev/console >/dev/console 2>&1
fi
IFS=,
for module in $modules; do modprobe "$module" || echo "trapline: no module $module for this kernel"; done
unset IFS
# Virtio devices name their modules (modalias): first those behind a window, then what each device is.
for device in /sys/bus/platform/devices/*virtio_mmio*; do
    if [ -e "$device" ]; then modprobe virtio_mmio 2>/dev/null; break; fi
done
for alias in /sys/bus/virtio/devices/*/modalias; do
    if [ -e "$alias" ]; then read name <"$alias"; modprobe "$name" 2>/dev/null; fi
done
if [ -n "$root" ]; then
    for module in virtio_mmio virtio_blk "${type:-ext4}"; do modprobe "$module" 2>/dev/null; done
    tries=0
    while [ ! -b "$root" ] && [ $tries -lt 50 ]; do sleep 0.1; tries=$((tries + 1)); done
    if mount -t "${type:-ext4}" -o $mode "$root" /mnt; then
        mount --move /dev /mnt/dev
        umount /sys
        umount /proc
        exec switch_root /mnt "${init:-/sbin/init}"
    fi
    echo "trapline: cannot mount root=$root as ${type:-ext4}: here is a shell instead"
fi
mkdir -p /dev/pts
mount -t devpts pts /dev/pts 2>/dev/null
hostname trapline
exec init
"""

_INITTAB = "::respawn:/etc/shell\n"

# A shell with job control, so that Ctrl-C reaches what runs in the guest; its end is the machine's.
_SHELL = f"""#!/bin/sh
echo "{MARKER}"
echo "Ctrl-D or poweroff ends the machine."
export ENV=/etc/functions
setsid cttyhack sh
/etc/end poweroff
"""

# busybox's init takes two seconds over what it does when asked for one of these; nothing here needs them.
_ENDS = ("halt", "poweroff", "reboot")
_FUNCTIONS = "".join(f'{name}() {{ /etc/end {name} "$@"; }}\n' for name in _ENDS)
_END = """#!/bin/sh
sync
umount -a -r 2>/dev/null
exec busybox "$@" -f
"""


# What udhcpc calls with the address that it was given.
_DHCP = """#!/bin/sh
case $1 in
deconfig) ip addr flush dev "$interface"; ip link set "$interface" up ;;
bound | renew)
    ip addr flush dev "$interface"
    ip addr add "$ip/${mask:-24}" dev "$interface"
    if [ -n "$router" ]; then ip route replace default via "${router%% *}" dev "$interface"; fi
    : >/etc/resolv.conf
    for server in $dns; do echo "nameserver $server" >>/etc/resolv.conf; done
    ;;
esac
"""


def base_archive(busybox: bytes) -> bytes:
    """Return the archive with everything but modules."""
    archive = Cpio()
    for directory in ("bin", "dev", "etc", "mnt", "proc", "sys", "tmp"):
        archive.directory(directory)
    archive.device("dev/console", 5, 1)
    archive.device("dev/null", 1, 3)
    archive.file("bin/busybox", busybox, PROGRAM)
    for applet in APPLETS:
        archive.link(f"bin/{applet}", "busybox")
    archive.link("sbin", "bin")
    archive.file("init", _INIT.encode(), PROGRAM)
    archive.file("etc/inittab", _INITTAB.encode())
    archive.file("etc/functions", _FUNCTIONS.encode())
    archive.file("etc/shell", _SHELL.encode(), PROGRAM)
    archive.file("etc/end", _END.encode(), PROGRAM)
    for directory in ("etc/udhcpc", "usr", "usr/share", "usr/share/udhcpc"):
        archive.directory(directory)
    for place in ("etc/udhcpc/default.script", "usr/share/udhcpc/default.script"):  # Debian's, and busybox' own
        archive.file(place, _DHCP.encode(), PROGRAM)
    return archive.finish()


def modules_archive(version: str, modules: Sequence[Module]) -> bytes:
    """Return an archive of a kernel's modules, to stand behind the first one: an initramfs may be several."""
    from trapline.fetch.modules import lists  # a boot asks here for REVISION alone

    archive, root = Cpio(), f"lib/modules/{version}"
    for name, text in lists(modules).items():
        archive.file(f"{root}/{name}", text.encode())
    for module in modules:
        archive.file(f"{root}/{module.path}", module.data)
    return archive.finish()
