"""An archive's index: Release (signed), Packages (named by Release with its SHA256), and the packages in it.

Debian's wiki, DebianRepository/Format, describes the files.
"""

from __future__ import annotations

import email.utils
import hashlib
import re
import time
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

from trapline.fetch.apt import stanzas
from trapline.fetch.signature import Verifier, split_clear_signed
from trapline.fetch.transport import NotThereError, OtherFileError, Transport
from trapline.lab.errors import UsageError
from trapline.machine.load.packed import DamagedError, unpack

ARCHITECTURE = "riscv64"
_KINDS = {".xz": "xz", ".gz": "gzip", "": ""}
_MOST = 512 << 20  # bytes of an index: ten times the largest
_BAD_INDEX = (DamagedError, OSError)


@dataclass(frozen=True, slots=True)
class Package:
    """A package of the index: what to download and what it must be."""

    name: str
    version: str
    filename: str
    size: int
    sha256: str
    depends: tuple[tuple[str, str], ...]  # (name, exact version): only those that name one

    @property
    def file(self) -> str:
        """The name of its file."""
        return self.filename.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Release:
    """A checked Release file: the suite's names and the digests of its indexes."""

    suite: str
    codename: str
    date: str
    signed_by: str  # empty if nobody checked
    by_hash: bool
    digests: dict[str, tuple[str, int]]  # path below dists/SUITE: SHA256, size


class Archive:
    """A suite of an archive at `base`, read through `transport`; without a verifier nothing is checked but hashes."""

    def __init__(
        self, base: str, suite: str, transport: Transport, verifier: Verifier | None, *, check_date: bool = True
    ) -> None:
        self.base, self.suite, self.transport = base.rstrip("/"), suite, transport
        self._dists = f"{self.base}/dists/{suite}"
        self.release = self._read_release(verifier, check_date)

    def _read_release(self, verifier: Verifier | None, check_date: bool) -> Release:
        text, by = self._signed_text(verifier)
        fields = next(stanzas(text.decode("utf-8", "replace")), {})
        suite, codename = fields.get("suite", ""), fields.get("codename", "")
        if self.suite not in (suite, codename):
            raise UsageError(f"the index says suite {suite!r} ({codename}), not {self.suite!r}", self._dists)
        if ARCHITECTURE not in fields.get("architectures", "").split():
            raise UsageError(
                f"suite {self.suite!r} has no {ARCHITECTURE} packages", self._dists, "trixie is the first that has"
            )
        if check_date:
            _require_current(fields.get("valid-until", ""), self._dists)
        digests = {
            path: (sha256, int(size))
            for sha256, size, path in re.findall(r"^(\w{64})\s+(\d+)\s+(\S+)$", fields.get("sha256", ""), re.MULTILINE)
        }
        return Release(suite, codename, fields.get("date", ""), by, fields.get("acquire-by-hash") == "yes", digests)

    def _signed_text(self, verifier: Verifier | None) -> tuple[bytes, str]:
        try:
            if verifier is not None and not verifier.takes_inline:
                text = self._get("Release")
                return text, verifier.detached(text, self._get("Release.gpg"))
            signed = self._get("InRelease")
            return (split_clear_signed(signed), "") if verifier is None else verifier.inline(signed)
        except NotThereError:
            pass
        try:
            text = self._get("Release")
            return text, "" if verifier is None else verifier.detached(text, self._get("Release.gpg"))
        except NotThereError:
            raise UsageError(
                f"no suite {self.suite!r} there", self.base, "is it spelt right, and --mirror the part before /dists?"
            ) from None

    def _get(self, name: str) -> bytes:
        return self.transport.get(f"{self._dists}/{name}")

    def packages(self, directory: Path, component: str = "main", *, strict: bool = True) -> PackageIndex:
        """Return the suite's index of packages; its download is kept in `directory` until the archive changes.

        Unless `strict`, an index that is not the one that Release names is better than none: `unpromised` says so.
        """
        path = f"{component}/binary-{ARCHITECTURE}/Packages"
        tried: list[str] = []
        for suffix, kind in _KINDS.items():
            if path + suffix not in self.release.digests:
                continue
            sha256, size = self.release.digests[path + suffix]
            file = directory / f"Packages-{sha256[:32]}{suffix}"
            if not _is(file, sha256) and not self._download_index(path + suffix, file, size, sha256, tried):
                continue
            try:
                return PackageIndex(_unpacked(file.read_bytes(), kind), self)
            except _BAD_INDEX as error:
                raise UsageError(f"the index cannot be unpacked: {error}", str(file)) from None
        if not strict and (found := self._unpromised(path)) is not None:
            return found
        raise UsageError(
            f"suite {self.suite!r}: the archive has not the index of {ARCHITECTURE} packages that its own Release of "
            f"{self.release.date} names: {'; '.join(tried) or 'it names none'}",
            self.base,
            "the mirror is damaged or half updated: try again later, another --mirror, or --from FILE.deb; "
            "--no-verify-signature takes the index that is there",
        )

    def _unpromised(self, path: str) -> PackageIndex | None:
        """Return the index that the archive has under its plain name, whatever Release says."""
        for suffix, kind in _KINDS.items():
            try:
                return PackageIndex(_unpacked(self._get(path + suffix), kind), self, unpromised=True)
            except (NotThereError, *_BAD_INDEX):
                continue
        return None

    def _download_index(self, path: str, to: Path, size: int, sha256: str, tried: list[str]) -> bool:
        """Fetch one form of the index; return whether the archive has it, and note in `tried` why it has not."""
        names = [path]
        if self.release.by_hash:
            names.insert(0, f"{path.rpartition('/')[0]}/by-hash/SHA256/{sha256}")
        for name in names:
            short = path.rpartition("/")[2] + (" by its hash" if "/by-hash/" in name else "")
            try:
                self.transport.download(f"{self._dists}/{name}", to, size, sha256, f"index of {self.suite}")
            except NotThereError:
                tried.append(f"{short} is not there")
                continue
            except OtherFileError as error:
                tried.append(f"{short}: {error.what}")
                continue
            for old in to.parent.glob("Packages-*"):
                if old != to and old.suffix != ".part":
                    old.unlink(missing_ok=True)
            return True
        return False

    def download(self, package: Package, directory: Path) -> Path:
        """Fetch a package's file into `directory`, checked."""
        to = directory / package.file
        if not _is(to, package.sha256):
            try:
                self.transport.download(
                    f"{self.base}/{package.filename}", to, package.size, package.sha256, package.name
                )
            except NotThereError:
                raise UsageError(
                    f"the archive's index names {package.filename}, which is not there", self.base, "try again later"
                ) from None
        return to


class PackageIndex:
    """The text of Packages, searched when asked: it has tens of megabytes."""

    def __init__(self, text: bytes, archive: Archive, *, unpromised: bool = False) -> None:
        self._text, self.archive, self.unpromised = b"\n" + text, archive, unpromised

    def has(self, name: str) -> bool:
        """Return whether the suite has a package of this name."""
        return b"\nPackage: " + name.encode() + b"\n" in self._text

    def find(self, name: str) -> Package:
        """Return the newest package of this name; UsageError if there is none."""
        start = self._text.find(b"\nPackage: " + name.encode() + b"\n")
        if start < 0:
            raise UsageError(f"suite {self.archive.suite!r} has no package {name!r}", self.archive.base)
        end = self._text.find(b"\n\n", start)
        fields = next(stanzas(self._text[start + 1 : end if end >= 0 else None].decode("utf-8", "replace")))
        try:
            return Package(
                name, fields["version"], fields["filename"], int(fields["size"]), fields["sha256"],
                tuple(re.findall(r"([a-z0-9][a-z0-9+.-]+)(?::any)? \(= ([^)]+)\)", fields.get("depends", ""))),
            )  # fmt: skip
        except (KeyError, ValueError):
            raise UsageError(f"package {name!r} has no usable file, size or SHA256", self.archive.base) from None

    def kernel(self) -> list[Package]:
        """Return the packages that together are the suite's kernel: what its meta package pins, as far as it goes."""
        meta = f"linux-image-{ARCHITECTURE}"
        found, waiting = {}, [meta]
        while waiting:
            package = self.find(waiting.pop(0))
            found[package.name] = package
            waiting += [n for n, _ in package.depends if n.startswith("linux-") and n not in found and n not in waiting]
        parts = re.compile(r"linux-(image|binary|modules)-\d")
        return [package for name, package in found.items() if parts.match(name)]


def _unpacked(data: bytes, kind: str) -> bytes:
    return unpack(data, kind, _MOST) if kind else data


def _is(file: Path, sha256: str) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest() == sha256


def _require_current(until: str, where: str) -> None:
    parsed = email.utils.parsedate_to_datetime(until) if until else None
    if parsed is not None and parsed.replace(tzinfo=UTC).timestamp() < time.time():
        raise UsageError(f"the index expired on {until}", where, "an old copy: another --mirror, or set the clock")
