"""Fetches that are cut off: by the network, and by kill -9."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_archive import VERSION, Server

from trapline.cli.common import with_initrd
from trapline.cli.options import MACHINE
from trapline.fetch.apt import Apt
from trapline.fetch.fetch import FetchOptions, fetch
from trapline.fetch.store import Store
from trapline.lab.errors import UsageError

NAME = f"linux-image-{VERSION}_6.12.9-1_riscv64.deb"


def options(server: Server) -> FetchOptions:
    """A fetch of everything, unsigned: signatures have tests of their own."""
    return FetchOptions("linux", mirror=server.url, verify_signature=False)


def test_a_dropped_connection_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    """When the connection ends early, the rest alone is asked for."""
    server.cut[f"pool/{NAME}"] = 300
    fetch(options(server), apt=Apt(), store=Store(tmp_path), pause=0)
    asked = [wanted for path, wanted in server.log if path == f"pool/{NAME}"]
    assert asked == ["", "bytes=300-"]
    assert len(Store(tmp_path).kernels()) == 1


def test_a_server_without_ranges(server: Server, tmp_path: Path) -> None:
    """A server that cannot continue sends everything again, and the file is right."""
    server.cut[f"pool/{NAME}"] = 300
    server.ranges = False
    fetch(options(server), apt=Apt(), store=Store(tmp_path), pause=0)
    assert len(Store(tmp_path).kernels()) == 1


def test_a_part_of_another_file(server: Server, tmp_path: Path) -> None:
    """A part that does not belong to the file is noticed by its hash and fetched anew."""
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / f"{NAME}.part").write_bytes(b"something else")
    fetch(options(server), apt=Apt(), store=Store(tmp_path), pause=0)
    assert len(Store(tmp_path).kernels()) == 1


def test_a_server_that_always_drops(server: Server, tmp_path: Path) -> None:
    """When no attempt brings a byte more, the error says that a later run goes on."""
    server.stall[f"pool/{NAME}"] = 0
    server.release.set()
    with pytest.raises(UsageError, match=r"the connection ended after 0 of .* run the same command again"):
        fetch(options(server), apt=Apt(), store=Store(tmp_path), pause=0)


def start(server: Server, cache: Path) -> subprocess.Popen[bytes]:
    """Run the command in a process of its own."""
    words = ("fetch", "linux", "--mirror", server.url, "--no-verify-signature")
    environment = {**os.environ, "TRAPLINE_CACHE": str(cache), "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-m", "trapline", *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def wait_for(path: Path, size: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until a file has grown to a size."""
    end = time.monotonic() + 60
    while not path.exists() or path.stat().st_size < size:
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.01)


def test_kill_9_in_a_download(server: Server, tmp_path: Path) -> None:
    """Killed in the middle of a file, nothing usable is there; the next run asks for the rest and is done."""
    server.stall[f"pool/{NAME}"] = 400
    process = start(server, tmp_path)
    part = tmp_path / "kernels" / "downloads" / f"{NAME}.part"
    wait_for(part, 400, process)
    process.kill()
    process.communicate()
    assert Store(tmp_path / "kernels").kernels() == []
    server.stall.clear()
    server.log.clear()
    second = start(server, tmp_path)
    assert second.wait(60) == 0, second.communicate()
    second.communicate()
    assert (f"pool/{NAME}", "bytes=400-") in server.log
    assert len(Store(tmp_path / "kernels").kernels()) == 1


def test_kill_9_at_any_moment(server: Server, tmp_path: Path) -> None:
    """Killed again and again, later each time, whatever is there is whole; what was half done is gone at the end."""
    store, delay, ended = Store(tmp_path / "kernels"), 0.25, None
    while ended is None:
        process = start(server, tmp_path)
        with contextlib.suppress(subprocess.TimeoutExpired):
            ended = process.wait(delay)
        process.kill()
        process.communicate()
        delay *= 1.25  # so that a busy machine needs some more kills, not many
        for kernel in store.kernels():
            assert kernel.initrd.read_bytes().count(b"TRAILER!!!") == 2
            assert store.manifest(kernel.name) is not None
    assert ended == 0
    assert not [p.name for p in store.root.iterdir() if p.name.startswith((".new-", ".old-"))]
    fetch(options(server), apt=Apt(), store=Store(tmp_path / "fresh"), pause=0)
    assert _digests(store.root) == _digests(tmp_path / "fresh")


def test_what_a_killed_run_left_is_not_used(server: Server, tmp_path: Path) -> None:
    """A directory under construction counts for nothing, and the next run removes it."""
    store = Store(tmp_path)
    (tmp_path / f".new-linux-{VERSION}").mkdir()
    (tmp_path / f".new-linux-{VERSION}" / "Image").write_bytes(b"half")
    assert store.kernels() == []
    fetch(options(server), apt=Apt(), store=store, pause=0)
    assert not list(tmp_path.glob(".new-*"))


def test_a_file_that_shrank_is_fetched_again(server: Server, tmp_path: Path) -> None:
    """A directory whose file has not the size of its manifest is not offered, and is made anew."""
    store = Store(tmp_path)
    fetch(options(server), apt=Apt(), store=store, pause=0)
    (tmp_path / f"linux-{VERSION}" / "Image").write_bytes(b"short")
    assert store.kernels() == []
    fetch(options(server), apt=Apt(), store=store, pause=0)
    assert len(store.kernels()) == 1


def _digests(root: Path) -> dict[str, str]:
    """Every file below a store's directories by digest."""
    files = [p for p in root.rglob("*") if p.is_file() and p.name != ".lock" and "downloads" not in p.parts]
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_an_initramfs_of_an_older_version_is_told(server: Server, tmp_path: Path, capsys: Any) -> None:
    """A kernel whose initramfs another version of trapline made says what makes it anew; fetching it again does."""
    store = Store(tmp_path)
    fetch(options(server), apt=Apt(), store=store, pause=0)
    (kernel,) = store.kernels()
    assert kernel.remark() == ""
    manifest = store.root / kernel.name / "manifest.json"
    about = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**about, "recipe": "older", "revision": 1}))
    (old,) = store.kernels()
    with_initrd(MACHINE, old)
    assert "makes it anew" in capsys.readouterr().err
    with_initrd(replace(MACHINE, initrd="own"), old)
    assert capsys.readouterr().err == ""
    fetch(options(server), apt=Apt(), store=store, pause=0)
    assert store.kernels()[0].remark() == ""
