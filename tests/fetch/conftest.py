"""A signed archive, its server, and a cache of the test's own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from fake_archive import Server, index, install_gpgv, packages, sign

KEY = b"the archive's key"


@pytest.fixture
def server() -> Iterator[Server]:
    """An archive with one suite, trixie, signed with KEY."""
    files = index(packages())
    files["dists/trixie/InRelease"] = sign(files["dists/trixie/Release"], KEY)
    made = Server(files)
    yield made
    made.close()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache, the stand-in for gpgv on the PATH, no proxy; what the commands print is wide."""
    install_gpgv(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("TRAPLINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache"


@pytest.fixture
def keyring(tmp_path: Path) -> str:
    """A keyring with the archive's key."""
    path = tmp_path / "keyring.gpg"
    path.write_bytes(KEY)
    return str(path)
