"""What this machine's apt knows: where a Debian archive is, which keys sign it, and through which proxy.

Formats: sources.list(5) (one line and deb822 style), apt.conf(5) as `apt-config dump` prints it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

SUITES = (
    "stable", "oldstable", "oldoldstable", "testing", "unstable", "experimental", "sid", "buster", "bullseye",
    "bookworm", "trixie", "forky", "duke",
)  # fmt: skip
_OPTION = re.compile(r'^(\S+) "(.*)";$')


@dataclass(frozen=True, slots=True)
class Source:
    """One archive of packages as apt knows it: base address, suites, keyring (if the entry names one)."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    keyring: Path | None = None

    @property
    def is_debian(self) -> bool:
        """Whether it offers the main part of a release of Debian (and not just its security updates)."""
        return "main" in self.components and any(s.removesuffix("-backports") in SUITES for s in self.suites)


@dataclass(frozen=True, slots=True)
class Apt:
    """The settings of apt that matter here."""

    sources: tuple[Source, ...] = ()
    options: dict[str, str] = field(default_factory=dict)

    def archive(self) -> Source | None:
        """Return the first archive of Debian, preferring one whose keyring is Debian's own."""
        found = [s for s in self.sources if s.is_debian]
        own = [s for s in found if s.keyring is not None and "debian-archive" in s.keyring.name]
        return next(iter(own or found), None)

    def proxy(self, url: str) -> str | None:
        """Return the proxy for an address: a URL, "DIRECT", or None if apt has none."""
        parts = urlsplit(url)
        for name in (f"Acquire::{parts.scheme}::Proxy::{parts.hostname}", f"Acquire::{parts.scheme}::Proxy"):
            if self.options.get(name.lower()):
                return self.options[name.lower()]
        return None

    @property
    def checks_dates(self) -> bool:
        """Whether an index that has expired is refused (Acquire::Check-Valid-Until)."""
        return self.options.get("acquire::check-valid-until", "true").lower() not in ("false", "no", "0", "off")


def this_machine() -> Apt:
    """Read the settings of this machine; empty ones where there is no apt."""
    options = parse_options(_apt_config("dump"))
    paths = dict(re.findall(r"^(\w+)='(.*)'$", _apt_config(
        "shell", "LIST", "Dir::Etc::sourcelist/f", "PARTS", "Dir::Etc::sourceparts/d"
    ), re.MULTILINE))  # fmt: skip
    files = [Path(paths.get("LIST", "/etc/apt/sources.list"))]
    parts = Path(paths.get("PARTS", "/etc/apt/sources.list.d"))
    if parts.is_dir():
        files += sorted(p for p in parts.iterdir() if p.suffix in (".list", ".sources"))
    return Apt(tuple(source for path in files for source in read_sources(path)), options)


def _apt_config(*words: str) -> str:
    command = shutil.which("apt-config")
    if command is None:
        return ""
    try:
        return subprocess.run([command, *words], capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def parse_options(dump: str) -> dict[str, str]:
    """Read what `apt-config dump` prints; names are lower case, as apt does not tell them apart."""
    found = (_OPTION.match(line) for line in dump.splitlines())
    return {match[1].lower(): match[2] for match in found if match}


def read_sources(path: Path) -> list[Source]:
    """Read one file of sources; a file that cannot be read has none."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    found = _deb822(text) if path.suffix == ".sources" else _lines(text)
    return [resolved for source in found if (resolved := _resolve(source)) is not None]


def _lines(text: str) -> Iterator[Source]:
    for line in text.splitlines():
        match = re.match(r"deb\s+(?:\[(.*?)\]\s*)?(\S+)\s+(\S+)\s*(.*)", line.split("#", 1)[0].strip())
        if match is None:
            continue
        options = dict(word.split("=", 1) for word in (match[1] or "").split() if "=" in word)
        yield Source(match[2], (match[3],), tuple(match[4].split()), _keyring(options.get("signed-by", "")))


def _deb822(text: str) -> Iterator[Source]:
    for stanza in stanzas(text):
        if "deb" not in stanza.get("types", "").split() or stanza.get("enabled", "yes").lower() in ("no", "false"):
            continue
        suites, components = tuple(stanza.get("suites", "").split()), tuple(stanza.get("components", "").split())
        for uri in stanza.get("uris", "").split():
            yield Source(uri, suites, components, _keyring(stanza.get("signed-by", "")))


def stanzas(text: str) -> Iterator[dict[str, str]]:
    """Yield the paragraphs of deb822 text; field names in lower case, continuation lines joined."""
    for block in re.split(r"\n[ \t]*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in block.splitlines():
            if line.startswith("#"):
                continue
            if line[:1] in (" ", "\t") and name:
                fields[name] += "\n" + line.strip()
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        if fields:
            yield fields


def _keyring(text: str) -> Path | None:
    first = text.split(",")[0].strip()
    return Path(first) if first.startswith("/") else None


def _resolve(source: Source) -> Source | None:
    """Follow a mirror list in a local file (mirror+file:), take http, https and file as they are."""
    scheme, _, rest = source.uri.partition(":")
    if scheme in ("http", "https", "file"):
        return source
    if scheme != "mirror+file":
        return None
    try:
        listed = Path("/" + rest.lstrip("/")).read_text(encoding="utf-8").split()
    except OSError:
        return None
    usable = [word for word in listed if word.startswith(("http:", "https:", "file:"))]
    return Source(usable[0], source.suites, source.components, source.keyring) if usable else None
