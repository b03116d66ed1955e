"""What is wanted of each package, and where it lies in there (Debian's layout, old and new)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trapline.fetch import modules as kmod
from trapline.fetch.ramdisk import modules_archive
from trapline.lab.errors import UsageError

_FIRMWARE = "usr/lib/riscv64-linux-gnu/opensbi/generic/"
_FIRMWARE_FILES = ("fw_dynamic.bin", "fw_dynamic.elf", "fw_jump.bin", "fw_jump.elf")
_LEAST_SYMBOLS = 4096  # bytes: a shorter System.map only says where the real one is


@dataclass(frozen=True, slots=True)
class KernelFiles:
    """A kernel's version, the files to keep of it, the names of the modules among them, and those that are its KVM."""

    version: str
    files: dict[str, bytes]
    modules: tuple[str, ...]
    kvm: tuple[str, ...]

    @property
    def hosts(self) -> bool:
        """Whether it has a KVM, as a module or built in."""
        return bool(self.kvm) or b"\nCONFIG_KVM=y\n" in self.files.get("config", b"")


def kind_of(package: str) -> str | None:
    """Return what a package of this name brings: linux, opensbi, busybox, or None."""
    if package.startswith(("linux-image-", "linux-binary-", "linux-modules-")):
        return "linux"
    return {"opensbi": "opensbi", "busybox-static": "busybox"}.get(package)


def kernel(files: Mapping[str, bytes], wanted: Sequence[str], where: Path) -> KernelFiles:
    """Choose from a kernel's packages: the image, its modules as a piece of initramfs, symbols and configuration."""
    image = next((path for path in files if _image_version(path)), None)
    if image is None:
        raise UsageError("no kernel is in it", str(where), "it is in linux-image-VERSION, or linux-binary-VERSION")
    version = _image_version(image)
    loadable = {path: data for path, data in files.items() if kmod.is_module(path)}
    chosen = kmod.closure(loadable, wanted)
    kept = {"Image": files[image], "modules.cpio": modules_archive(version, chosen)}
    kvm = kmod.closure(loadable, ["kvm"])
    kept.update({f"{kmod.name_of(m.path)}.ko": m.data for m in kvm})
    for path, data in files.items():
        name = _text_name(path)
        if name == "config" or (name == "System.map" and len(data) >= _LEAST_SYMBOLS):
            kept[name] = data
    names = tuple(kmod.name_of(m.path) for m in chosen)
    return KernelFiles(version, kept, names, tuple(kmod.name_of(m.path) for m in kvm))


def _image_version(path: str) -> str:
    """Return the version of a kernel image by its path, or nothing if it is none."""
    if path.startswith(("boot/vmlinux-", "boot/vmlinuz-")):
        return path.partition("-")[2]
    if path.startswith(("usr/lib/modules/", "lib/modules/")) and path.endswith(("/vmlinuz", "/vmlinux")):
        return path.rpartition("/")[0].rpartition("/")[2]
    return ""


def _text_name(path: str) -> str:
    """Return System.map or config if the path is the kernel's."""
    directory, _, name = path.rpartition("/")
    if directory == "boot":
        name = name.partition("-")[0]
    elif not directory.startswith(("usr/lib/modules/", "lib/modules/")) or directory.count("/") > 3:
        return ""
    return name if name in ("System.map", "config") else ""


WANTED: dict[str, Callable[[str], bool]] = {
    "linux": lambda path: bool(_image_version(path) or _text_name(path)) or kmod.is_module(path),
    "opensbi": lambda path: path.startswith(_FIRMWARE) and path.removeprefix(_FIRMWARE) in _FIRMWARE_FILES,
    "busybox": lambda path: path in ("bin/busybox", "usr/bin/busybox"),
}
