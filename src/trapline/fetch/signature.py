"""Whether an archive's index is signed by its keys: asked of gpgv or sqv, which every apt installation has one of."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trapline.lab.errors import UsageError

KEYRINGS = (
    Path("/usr/share/keyrings/debian-archive-keyring.pgp"),
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
    Path("/etc/apt/trusted.gpg.d/debian-archive-keyring.gpg"),
)
NO_CHECK = "or --no-verify-signature, which trusts the mirror and the network"
_BEGIN, _SIGNATURE, _END = (
    b"-----BEGIN PGP SIGNED MESSAGE-----",
    b"-----BEGIN PGP SIGNATURE-----",
    b"-----END PGP SIGNATURE-----",
)
Which = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Verifier:
    """A program that checks signatures, and the keys that it trusts."""

    command: str
    keyring: Path

    @property
    def takes_inline(self) -> bool:
        """Whether it reads InRelease; otherwise it wants Release and Release.gpg."""
        return Path(self.command).name.startswith("gpgv")

    def inline(self, data: bytes) -> tuple[bytes, str]:
        """Return the text that a clear-signed file's signature covers, and who signed; UsageError if it is bad."""
        split_clear_signed(data)  # refuses text around the signed one
        with tempfile.TemporaryDirectory(prefix="trapline-") as directory:
            signed, text = Path(directory) / "InRelease", Path(directory) / "Release"
            signed.write_bytes(data)
            by = self._gpgv("--output", str(text), str(signed))
            return text.read_bytes(), by

    def detached(self, data: bytes, signature: bytes) -> str:
        """Return who signed; UsageError if the signature is bad."""
        with tempfile.TemporaryDirectory(prefix="trapline-") as directory:
            text, signed = Path(directory) / "Release", Path(directory) / "Release.gpg"
            text.write_bytes(data)
            signed.write_bytes(signature)
            if self.takes_inline:
                return self._gpgv(str(signed), str(text))
            ended = self._run("--keyring", str(self.keyring), str(signed), str(text))
            if ended.returncode != 0:
                raise self._bad(" ".join(ended.stderr.split()))
            return " ".join(ended.stdout.split())

    def _gpgv(self, *words: str) -> str:
        # A release is signed by several keys: one known good signature is enough, a bad one is not.
        ended = self._run("--keyring", str(self.keyring.absolute()), "--status-fd", "1", *words)
        good = re.findall(r"^\[GNUPG:\] GOODSIG \w+ (.*)$", ended.stdout, re.MULTILINE)
        valid = "[GNUPG:] VALIDSIG " in ended.stdout
        if not good or not valid or "[GNUPG:] BADSIG " in ended.stdout:
            raise self._bad(_why(ended.stdout))
        return ", ".join(re.sub(r" <[^>]*>", "", name) for name in good)

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                [self.command, *words], capture_output=True, text=True, errors="replace", timeout=60, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UsageError(f"{self.command} does not run: {error}") from None

    def _bad(self, why: str) -> UsageError:
        return UsageError(
            f"the archive's signature is not good ({why or 'there is none that this keyring knows'})",
            str(self.keyring),
            "a newer debian-archive-keyring, or --keyring FILE",
        )


def _why(status: str) -> str:
    """Say what gpgv's status lines (GnuPG, doc/DETAILS) hold against a signature."""
    found = [f"BAD signature of {name}" for name in re.findall(r"^\[GNUPG:\] BADSIG \w+ (.*)$", status, re.MULTILINE)]
    for word, what in (("EXPKEYSIG", "expired key"), ("EXPSIG", "expired signature"), ("REVKEYSIG", "revoked key")):
        found += [f"{what}: {name}" for name in re.findall(rf"^\[GNUPG:\] {word} \w+ (.*)$", status, re.MULTILINE)]
    missing = re.findall(r"^\[GNUPG:\] NO_PUBKEY (\w+)$", status, re.MULTILINE)
    if missing:
        found.append(f"no public key {', '.join(missing)}")
    return "; ".join(found)


def find_verifier(keyring: Path | None, which: Which = shutil.which) -> Verifier:
    """Return this machine's verifier; UsageError says what to install."""
    command = which("gpgv") or which("sqv")
    if command is None:
        raise UsageError(
            "nothing here can check the archive's signature: no gpgv and no sqv", remedy=f"install gpgv, {NO_CHECK}"
        )
    if keyring is not None:
        if not keyring.is_file():
            raise UsageError(f"no keyring {str(keyring)!r}", remedy=f"--keyring FILE, {NO_CHECK}")
        return Verifier(command, keyring)
    found = next((path for path in KEYRINGS if path.is_file()), None)
    if found is None:
        raise UsageError(
            "the keys that sign Debian's archive are not on this machine",
            remedy=f"install debian-archive-keyring, or give --keyring FILE, {NO_CHECK}",
        )
    return Verifier(command, found)


def split_clear_signed(data: bytes) -> bytes:
    """Return the text inside a clear-signed file (RFC 9580, 7); UsageError if there is anything around it."""
    lines = data.rstrip().split(b"\n")
    if (
        not lines[0].startswith(_BEGIN)
        or lines[-1].rstrip() != _END
        or sum(line.startswith(_BEGIN) for line in lines) != 1
        or sum(line.startswith(_SIGNATURE) for line in lines) != 1
    ):
        raise UsageError(
            "the archive's InRelease is not one clear-signed text", remedy="is the mirror's address right?"
        )
    start = next((n for n, line in enumerate(lines) if not line.strip()), len(lines)) + 1
    end = next(n for n, line in enumerate(lines) if line.startswith(_SIGNATURE))
    return b"\n".join(line.removeprefix(b"- ") for line in lines[start:end]) + b"\n"
