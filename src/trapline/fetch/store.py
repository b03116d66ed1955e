"""Where fetched things are: a directory each, complete or not there, whatever killed an earlier run.

A directory is filled under another name and renamed; its manifest says what is in it. One process at a time
changes the store (flock, which ends with the process).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from trapline.dataclass import dataclass
from trapline.engine import owned
from trapline.engine.kept_files import MOVES, cache_directory
from trapline.lab.errors import UsageError

MANIFEST = "manifest.json"
APPEND = "console=ttyS0 earlycon=sbi"  # what the console of a fetched kernel needs
_NEW, _OLD = ".new-", ".old-"


class Store:
    """The directory `kernels` of the cache."""

    def __init__(self, root: Path | None = None) -> None:
        """UsageError if there can be no cache, or if others may write there: a kernel must be what was fetched."""
        try:
            self.root = cache_directory() / "kernels" if root is None else root
        except OSError as error:
            raise UsageError(str(error.strerror)) from None
        self.downloads = self.root / "downloads"
        self._require_own(self.root)

    @contextlib.contextmanager
    def locked(self, waiting: Callable[[], object] = lambda: None) -> Iterator[None]:
        """Keep other processes out; what an earlier one left unfinished is removed."""
        owned.make(self.downloads)
        with (self.root / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(lock, fcntl.LOCK_EX)
            for left in [*self.root.glob(f"{_NEW}*"), *self.root.glob(f"{_OLD}*")]:
                _remove(left)
            yield

    @staticmethod
    def _require_own(path: Path) -> None:
        if why := owned.distrust(path):
            raise UsageError(f"fetched kernels are not used: {why}", remedy=MOVES)

    def manifest(self, name: str) -> dict[str, Any] | None:
        """Return what is known of a directory; None if it is not there or lacks a file that it should hold.

        UsageError if others may have written one of its files.
        """
        found = _read_json(self.root / name / MANIFEST)
        if found is None:
            return None
        for file, size in found.get("files", {}).items():
            path = self.root / name / file
            if not path.is_file() or path.stat().st_size != size:
                return None
        for file in (MANIFEST, *found.get("files", {})):
            self._require_own(self.root / name / file)
        return found

    @contextlib.contextmanager
    def new(self, name: str, about: dict[str, Any]) -> Iterator[Path]:
        """Yield an empty directory to fill; it becomes `name` when the block ends well, and vanishes otherwise."""
        temporary = self.root / f"{_NEW}{name}"
        _remove_tree(temporary)
        temporary.mkdir(mode=0o700)
        try:
            yield temporary
            files = {p.name: p.stat().st_size for p in sorted(temporary.iterdir())}
            for file in temporary.iterdir():
                _sync(file)
            _write_json(temporary / MANIFEST, {**about, "files": files})
            self._put_in_place(temporary, name)
        except BaseException:
            _remove_tree(temporary)
            raise

    def add(self, name: str, file: str, data: bytes, about: dict[str, Any]) -> None:
        """Put a file into a directory that is there; at every moment the manifest tells the truth."""
        known = self.manifest(name) or {"files": {}}
        others = {n: size for n, size in known["files"].items() if n != file}
        _write_json(self.root / name / MANIFEST, {**known, "files": others})
        temporary = self.root / f"{_NEW}{file}"
        temporary.write_bytes(data)
        _sync(temporary)
        temporary.replace(self.root / name / file)
        _write_json(self.root / name / MANIFEST, {**known, **about, "files": {**others, file: len(data)}})

    def _put_in_place(self, temporary: Path, name: str) -> None:
        final, old = self.root / name, self.root / f"{_OLD}{name}"
        if final.exists():
            _remove_tree(old)
            final.rename(old)
        temporary.rename(final)
        _remove_tree(old)

    def suite(self, suite: str) -> dict[str, str]:
        """Return which directories a suite's kernel, firmware and busybox are."""
        return _read_json(self.root / f"suite-{suite}.json") or {}

    def set_suite(self, suite: str, names: dict[str, str]) -> None:
        """Note which directories are a suite's, beside what was noted before."""
        _write_json(self.root / f"suite-{suite}.json", {**self.suite(suite), **names})

    def suites(self) -> list[str]:
        """Return the names of the suites that something was fetched of."""
        return sorted(p.stem.removeprefix("suite-") for p in self.root.glob("suite-*.json"))

    def kernels(self) -> list[Kernel]:
        """Return the kernels that can be booted, the newest version first."""
        found = [kernel for p in self.root.glob("linux-*") if (kernel := self._kernel(p.name)) is not None]
        return sorted(found, key=lambda k: version_key(k.version), reverse=True)

    def _kernel(self, name: str) -> Kernel | None:
        about = self.manifest(name)
        if about is None or "initramfs.cpio" not in about["files"]:
            return None
        suites = tuple(s for s in self.suites() if self.suite(s).get("linux") == name)
        directory = self.root / name
        bios = next((b for s in [*suites, *self.suites()] if (b := self._bios(self.suite(s))) is not None), None)
        kvm = tuple(directory / file for file in about.get("kvm", ()))
        image, initrd, revision = directory / "Image", directory / "initramfs.cpio", about.get("revision", 0)
        return Kernel(name, about["version"], suites, image, initrd, bios, kvm, revision)

    def _bios(self, names: dict[str, str]) -> Path | None:
        name = names.get("opensbi")
        return self.root / name / "fw_dynamic.bin" if name and self.manifest(name) is not None else None


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel of the store, with what it boots with."""

    name: str
    version: str
    suites: tuple[str, ...]
    image: Path
    initrd: Path
    bios: Path | None
    kvm: tuple[Path, ...] = ()  # the modules that are its KVM, in the order in which they load
    revision: int = 0  # of what made the initramfs (ramdisk.REVISION)

    @property
    def alias(self) -> str:
        """The short name for command lines: linux-6.12."""
        return "linux-" + ".".join(self.version.split(".")[:2])

    def remark(self) -> str:
        """Say that the initramfs is not the one that would be made today; nothing if it is."""
        from trapline.fetch.ramdisk import REVISION

        if self.revision == REVISION:
            return ""
        suite = f" --suite {self.suites[0]}" if self.suites else ""
        return f"{self.name} has an initramfs of another trapline: trapline fetch linux{suite} makes it anew"

    def firmware(self) -> str:
        """Return the path of the OpenSBI that was fetched with it."""
        if self.bios is None:
            raise UsageError(f"no OpenSBI has been fetched for {self.name}", remedy="trapline fetch opensbi")
        return str(self.bios)


def find_kernel(name: str, store: Store | None = None) -> Kernel | None:
    """Return the kernel that a word means: linux (the newest), linux-6.12, linux-SUITE, or a full name.

    None if the word means no fetched kernel at all; UsageError if it means one that is not there.
    """
    if re.fullmatch(r"linux(-[A-Za-z0-9.+~_-]+)?", name) is None:
        return None
    kernels = (store or Store()).kernels()
    rest = name.removeprefix("linux").removeprefix("-")
    for kernel in kernels:
        if (
            not rest
            or rest in kernel.suites
            or kernel.version == rest
            or kernel.version.startswith((f"{rest}.", f"{rest}+"))
        ):
            return kernel
    there = ", ".join(dict.fromkeys(k.alias for k in kernels))
    raise UsageError(
        f"no file {name!r}, and no such kernel has been fetched" + (f" (there: {there})" if there else ""),
        remedy="trapline fetch linux",
    )


def version_key(version: str) -> list[tuple[int, str]]:
    """Order versions as people do: numbers by value."""
    return [(int(word), "") if word.isdigit() else (-1, word) for word in re.findall(r"\d+|\D+", version)]


def _remove_tree(path: Path) -> None:
    import shutil  # a boot looks here for its kernel, and removes nothing

    shutil.rmtree(path, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir():
        _remove_tree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Have a file on the disk, and as nobody else may write it, whatever the umask is."""
    with path.open("rb") as file:
        os.fchmod(file.fileno(), os.fstat(file.fileno()).st_mode & 0o7777 & ~owned.OTHERS)
        os.fsync(file.fileno())


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _write_json(path: Path, data: dict[str, Any]) -> None:
    temporary = path.with_name(f"{_NEW}{path.name}")
    temporary.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    _sync(temporary)
    temporary.replace(path)
