"""`trapline fetch`: a kernel, firmware and busybox from a Debian archive, or out of .deb files, into the cache."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trapline.engine.kept_files import MOVES
from trapline.fetch import modules as kmod
from trapline.fetch import ramdisk
from trapline.fetch.apt import Apt, this_machine
from trapline.fetch.archive import ARCHITECTURE, Archive, Package, PackageIndex
from trapline.fetch.contents import WANTED, KernelFiles, kernel, kind_of
from trapline.fetch.deb import Deb
from trapline.fetch.signature import find_verifier
from trapline.fetch.store import APPEND, Kernel, Store
from trapline.fetch.transport import Progress, Transport
from trapline.lab.errors import UsageError
from trapline.machine.load.packed import DamagedError, MissingLibraryError
from trapline.named_files import no_file

DEFAULT_SUITE = "trixie"
KINDS = ("linux", "opensbi", "busybox")
_PACKAGES = {"linux": f"linux-image-{ARCHITECTURE}", "opensbi": "opensbi", "busybox": "busybox-static"}
_BACKPORTS = "-backports"
_LAYOUT = "2"  # of a directory in the cache: a new one has everything fetched again
_SPARE = 3  # a package's files and what is made of them take at most so many times its size


@dataclass(frozen=True, slots=True)
class FetchOptions:
    """A `fetch` command line. `what` is one of KINDS; `linux` brings the other two with it."""

    what: str
    suite: str = DEFAULT_SUITE
    mirror: str | None = None
    files: tuple[Path, ...] = ()
    keyring: Path | None = None
    verify_signature: bool = True
    modules: tuple[str, ...] = ()


@dataclass(slots=True)
class FetchReport:
    """What is there now."""

    suite: str
    directories: dict[str, str] = field(default_factory=dict)  # kind: directory
    versions: dict[str, str] = field(default_factory=dict)
    fresh: list[str] = field(default_factory=list)  # kinds that this run brought
    signed_by: str = ""
    from_files: bool = False
    kernel: Kernel | None = None
    notes: list[str] = field(default_factory=list)

    def as_data(self) -> dict[str, Any]:
        kernel = self.kernel
        return {
            "suite": self.suite,
            "signed_by": self.signed_by or None,
            "directories": self.directories,
            "versions": self.versions,
            "fetched": self.fresh,
            "kernel": str(kernel.image) if kernel else None,
            "initrd": str(kernel.initrd) if kernel else None,
            "bios": str(kernel.bios) if kernel and kernel.bios else None,
            "kvm": [str(path) for path in kernel.kvm] if kernel else [],
            "append": APPEND if kernel else None,
            "name": kernel.alias if kernel else None,
            "notes": self.notes,
        }


class Fetcher:
    """One run of the command."""

    def __init__(self, options: FetchOptions, progress: Progress, apt: Apt | None, store: Store, pause: float) -> None:
        self.options, self.progress, self.store = options, progress, store
        self.apt = apt if apt is not None else this_machine()
        self.transport = Transport(self.apt.proxy, progress, pause=pause)
        self.report = FetchReport(options.suite)

    def run(self) -> FetchReport:
        """Fetch what is asked for."""
        kinds = KINDS if self.options.what == "linux" else (self.options.what,)
        try:
            found = self._given() if self.options.files else self._archived(kinds)
        except UsageError as error:
            raise self._with_what_is_there(error) from None
        if "linux" in kinds:
            self._initramfs(found)
        return self.report

    def _with_what_is_there(self, error: UsageError) -> UsageError:
        """Add to an error that an earlier run brought something to work with."""
        there = [k for k in self.store.kernels() if self.options.suite in k.suites]
        if self.options.what != "linux" or not there:
            return error
        more = f"{there[0].version} of an earlier fetch is there: trapline run {there[0].alias}"
        return UsageError(error.what, error.where, f"{error.remedy}; {more}" if error.remedy else more)

    # --- from an archive ---
    def _archived(self, kinds: Sequence[str]) -> dict[str, str]:
        indexes = [self._index(self.options.suite)]
        self.report.signed_by = indexes[0].archive.release.signed_by
        wanted: dict[str, tuple[Archive, list[Package]]] = {}
        for kind in kinds:
            # Backports are laid over their release: what they lack is the release's.
            base = self.options.suite.removesuffix(_BACKPORTS)
            if len(indexes) == 1 and base != self.options.suite and not indexes[0].has(_PACKAGES[kind]):
                indexes.append(self._index(base))
            index = next((i for i in indexes if i.has(_PACKAGES[kind])), indexes[0])
            wanted[kind] = index.archive, index.kernel() if kind == "linux" else [index.find(_PACKAGES[kind])]
        for kind, (archive, packages) in wanted.items():
            self._bring(kind, packages, archive)
        self.store.set_suite(self.options.suite, self.report.directories)
        return self.report.directories

    def _index(self, suite: str) -> PackageIndex:
        archive = self._archive(suite)
        index = archive.packages(self.store.downloads, strict=self.options.verify_signature)
        if index.unpromised:
            self.report.notes.append(
                f"the index of {suite} is NOT the one that its Release of {archive.release.date} names: "
                "the mirror is damaged or half updated, and what it has may be old"
            )
        return index

    def _archive(self, suite: str) -> Archive:
        options = self.options
        source = self.apt.archive()
        base = options.mirror or (source.uri if source else None)
        if base is None:
            raise UsageError(
                "apt on this machine knows no Debian archive",
                remedy="--mirror URL (what stands before /dists), or --from FILE.deb",
            )
        if "://" not in base:
            raise UsageError(f"--mirror {base!r} is not an address", remedy="such as http://HOST/debian")
        verifier = None
        if options.verify_signature:
            own = source.keyring if source and options.mirror is None else None
            verifier = find_verifier(options.keyring or own)
        return Archive(base, suite, self.transport, verifier, check_date=self.apt.checks_dates)

    def _bring(self, kind: str, packages: list[Package], archive: Archive) -> None:
        key = _key([p.sha256 for p in packages], self._modules() if kind == "linux" else ())
        if self._known(kind, key):
            return
        _require_space(self.store.root, sum(p.size for p in packages) * _SPARE)
        files = [archive.download(p, self.store.downloads) for p in packages]
        self._unpack(kind, [Deb(f) for f in files], packages[0].version, key)
        for file in files:
            file.unlink(missing_ok=True)

    def _known(self, kind: str, key: str) -> bool:
        """Return whether the store has what was made of the same packages, and take that."""
        for path in sorted(self.store.root.glob(f"{kind}-*")):
            about = self.store.manifest(path.name)
            if about is not None and about.get("key") == key:
                self.report.directories[kind], self.report.versions[kind] = path.name, about["version"]
                return True
        return False

    # --- from files ---
    def _given(self) -> dict[str, str]:
        found: dict[str, list[Deb]] = {}
        versions: dict[str, str] = {}
        self.report.from_files = True
        for path in self.options.files:
            if reason := no_file(path):
                raise UsageError(reason, str(path), "--from FILE.deb")
            deb = Deb(path)
            control = deb.control()
            kind = kind_of(control.get("package", ""))
            if kind is None:
                raise UsageError(
                    f"package {control.get('package')!r} is no kernel, OpenSBI or busybox-static", str(path)
                )
            if control.get("architecture") not in ("riscv64", "all"):
                raise UsageError(f"it is for {control.get('architecture')}, not riscv64", str(path))
            found.setdefault(kind, []).append(deb)
            versions[kind] = control.get("version", "unknown")
        for kind in [k for k in KINDS if k in found]:
            digests = [_digest(deb.path) for deb in found[kind]]
            key = _key(digests, self._modules() if kind == "linux" else ())
            if not self._known(kind, key):
                _require_space(self.store.root, sum(d.path.stat().st_size for d in found[kind]) * _SPARE)
                self._unpack(kind, found[kind], versions[kind], key)
        self.store.set_suite(self.options.suite, self.report.directories)
        return {**self.store.suite(self.options.suite), **self.report.directories}

    # --- unpacking ---
    def _modules(self) -> tuple[str, ...]:
        return (*kmod.DEFAULT, *self.options.modules)

    def _unpack(self, kind: str, debs: list[Deb], version: str, key: str) -> None:
        files: dict[str, bytes] = {}
        more: dict[str, Any] = {}
        for deb in debs:
            files.update(deb.files(WANTED[kind], lambda done, total: self.progress(f"unpacking {kind}", done, total)))
        if not files:
            raise UsageError(f"nothing of {kind} is in it", str(debs[0].path))
        if kind == "linux":
            try:
                unpacked = kernel(files, self._modules(), debs[0].path)
            except (DamagedError, MissingLibraryError) as error:
                raise UsageError(f"a kernel module is {error}", str(debs[0].path)) from None
            version, contents = unpacked.version, unpacked.files
            more["kvm"] = [f"{name}.ko" for name in unpacked.kvm]
            self._note_lacking(unpacked)
        else:
            contents = {path.rpartition("/")[2]: data for path, data in files.items()}
        about = {"kind": kind, "version": version, "key": key, **more}
        name = f"{kind}-{version.replace(':', '-').replace('/', '-')}"
        with self.store.new(name, about) as directory:
            for file, data in contents.items():
                (directory / file).write_bytes(data)
        self.report.directories[kind], self.report.versions[kind] = name, version
        self.report.fresh.append(kind)

    def _note_lacking(self, unpacked: KernelFiles) -> None:
        lacking = [name for name in self.options.modules if name.replace("-", "_") not in unpacked.modules]
        if lacking:
            self.report.notes.append(f"no module {', '.join(lacking)} in {unpacked.version}: built in, or not there")
        if not unpacked.hosts:
            self.report.notes.append(f"kernel {unpacked.version} has no kvm.ko: it can be a guest, not a host")

    def _initramfs(self, found: dict[str, str]) -> None:
        """Put busybox and the modules together, if that was not done with the same two before."""
        name, busybox = found.get("linux"), found.get("busybox")
        if name is None:
            raise UsageError(
                "there is no kernel among the files", remedy="add --from linux-image-VERSION-riscv64_....deb"
            )
        if busybox is None:
            raise UsageError("the initramfs needs busybox", remedy="add --from busybox-static_..._riscv64.deb")
        about, other = self.store.manifest(name), self.store.manifest(busybox)
        if about is None or other is None:
            raise UsageError("the cache changed in between", str(self.store.root), "run the same command again")
        recipe = _key([about["key"], other["key"], str(ramdisk.REVISION)], ())
        if about.get("recipe") != recipe or "initramfs.cpio" not in about["files"]:
            directory = self.store.root / name
            base = ramdisk.base_archive((self.store.root / busybox / "busybox").read_bytes())
            data = base + (directory / "modules.cpio").read_bytes()
            self.store.add(name, "initramfs.cpio", data, {"recipe": recipe, "revision": ramdisk.REVISION})
        self.report.kernel = next(k for k in self.store.kernels() if k.name == name)


def fetch(
    options: FetchOptions,
    progress: Progress = lambda what, done, total: None,
    *,
    say: Callable[[str], None] = lambda text: None,
    apt: Apt | None = None,
    store: Store | None = None,
    pause: float = 0.5,
) -> FetchReport:
    """Fetch `options.what` into the cache; UsageError is one line about what went wrong."""
    if options.what not in KINDS:
        raise UsageError(f"nothing called {options.what!r} can be fetched", remedy=", ".join(KINDS))
    store = store or Store()
    with _disk_trouble(store.root), store.locked(lambda: say("waiting for another trapline fetch to end")):
        return Fetcher(options, progress, apt, store, pause).run()


@contextlib.contextmanager
def _disk_trouble(root: Path) -> Iterator[None]:
    """Turn what a disk can refuse into one line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _no_space(root, "") from None
        place = Path(error.filename or root)
        inside = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
        own = inside and (place.is_relative_to(root) or root.is_relative_to(place))
        raise UsageError(f"{error.strerror or error}", str(place), MOVES if own else "") from None


def _require_space(root: Path, needed: int) -> None:
    free = shutil.disk_usage(root).free
    if free < needed:
        raise _no_space(root, f": {needed >> 20} MB are needed, {free >> 20} MB are free")


def _no_space(root: Path, detail: str) -> UsageError:
    return UsageError(f"no space left on the disk of the cache{detail}", str(root), "free some, or set TRAPLINE_CACHE")


def _key(digests: Sequence[str], modules: Sequence[str]) -> str:
    return hashlib.sha256("\n".join([_LAYOUT, *digests, *modules]).encode()).hexdigest()[:32]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def listing(store: Store | None = None) -> list[dict[str, Any]]:
    """Return what is in the cache, the newest kernel first."""
    store = store or Store()
    kernels = {kernel.name: kernel for kernel in store.kernels()}
    others = [p.name for kind in ("opensbi", "busybox") for p in sorted(store.root.glob(f"{kind}-*"))]
    rows = []
    for name in [*kernels, *others]:
        about = store.manifest(name)
        if about is None:
            continue
        rows.append({
            "name": kernels[name].alias if name in kernels else None,
            "kind": about["kind"],
            "version": about["version"],
            "suites": [s for s in store.suites() if name in store.suite(s).values()],
            "directory": str(store.root / name),
            "bytes": sum(about["files"].values()),
        })  # fmt: skip
    return rows
