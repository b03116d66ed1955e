"""Kernel modules out of a package: those that are wanted, what they need, and the lists that modprobe reads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from trapline.machine.load.packed import unpack

# What a guest or a host on this board can use; a kernel that has one built in has no such module.
DEFAULT = (
    "kvm", "virtio_mmio", "virtio_blk", "virtio_net", "virtio_console", "virtio-rng", "9pnet_virtio", "9p", "virtiofs",
    "ext4", "overlay",
)  # fmt: skip
# A soft dependency may be what a module offers instead of its name; these are the ones that the modules above have.
_PROVIDERS = {"crc32c": "crc32c_generic", "crypto_crc32c": "crc32c_generic"}
_SUFFIXES = {".ko": "", ".ko.xz": "xz", ".ko.gz": "gzip", ".ko.zst": "zstd"}


@dataclass(frozen=True, slots=True)
class Module:
    """A module as a file of the initramfs."""

    path: str  # below lib/modules/VERSION
    data: bytes
    depends: tuple[str, ...]

    @property
    def aliases(self) -> list[str]:
        """What the kernel or a user may call it."""
        return [text.decode("latin-1") for text in re.findall(rb"\0alias=([^\0]+)", b"\0" + self.data)]


def is_module(path: str) -> bool:
    """Whether a path of a package is a kernel module."""
    return "/modules/" in path and path.endswith(tuple(_SUFFIXES))


def name_of(path: str) -> str:
    """Return the name of a module, in the spelling that the kernel uses."""
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def closure(files: Mapping[str, bytes], wanted: Iterable[str]) -> list[Module]:
    """Return the wanted modules that exist and everything they depend on, dependencies first.

    `files` are compressed modules by path in the package.
    """
    by_name = {name_of(path): path for path in files}
    done: dict[str, Module] = {}

    def visit(name: str) -> None:
        name = _provider(name, by_name)
        if name in done or name not in by_name:
            return
        path = by_name[name]
        stem, mark, _ = path.partition(".ko")
        kind = _SUFFIXES[path[len(stem) :]]
        data = unpack(files[path], kind) if kind else files[path]
        depends = _needs(data)
        for other in depends:
            visit(other)
        done[name] = Module(stem.partition("/modules/")[2].partition("/")[2] + mark, data, depends)

    for name in wanted:
        visit(name)
    return list(done.values())


def _provider(name: str, modules: Mapping[str, object]) -> str:
    """Return the name of the module that is, or offers, `name`."""
    name = name.replace("-", "_")
    return name if name in modules else _PROVIDERS.get(name, name)


def _needs(data: bytes) -> tuple[str, ...]:
    """Return what a module's .modinfo says it needs: hard dependencies, and soft ones to be loaded before it."""
    found: list[str] = []
    for text in re.findall(rb"\0depends=([^\0]*)", data):
        found += [word for word in text.decode("latin-1").split(",") if word]
    for text in re.findall(rb"\0softdep=pre: ([^\0]*)", data):
        found += text.decode("latin-1").partition("post:")[0].split()
    return tuple(dict.fromkeys(found))


def lists(modules: Iterable[Module]) -> dict[str, str]:
    """Return modules.dep, modules.alias and modules.softdep, as depmod would write them."""
    modules = list(modules)
    by_name = {name_of(m.path): m for m in modules}

    def needs(module: Module, seen: list[str]) -> list[str]:
        for name in module.depends:
            other = by_name.get(_provider(name, by_name))
            if other is not None and other.path not in seen:
                seen.append(other.path)
                needs(other, seen)
        return seen

    dep = "".join(f"{m.path}: {' '.join(needs(m, []))}".rstrip() + "\n" for m in modules)
    alias = "".join(f"alias {a} {name_of(m.path)}\n" for m in modules for a in m.aliases)
    return {"modules.dep": dep, "modules.alias": alias}
