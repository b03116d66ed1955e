"""The folder of a search: what a kill, a full disk and strange files leave of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trapline.fuzz.folder import Folder
from trapline.fuzz.fuzz import fuzz
from trapline.fuzz.image import ROOM
from trapline.fuzz.legs import Heard, Leg
from trapline.fuzz.search import News, Plan
from trapline.lab.settings import settings


def _full(leg: Leg) -> Heard:
    return Heard(News(), 0.0, "No space left on device")


def test_findings_survive_a_kill_of_the_search(tmp_path: Path) -> None:
    """What a search has found is in its folder while it runs: after kill -9 the next one begins with it."""
    command = [sys.executable, "-m", "trapline", "fuzz", "--policy", "linux-6.12", "--max-seconds", "60"]
    running = subprocess.Popen([*command, "--out", str(tmp_path)], stdout=subprocess.DEVNULL, start_new_session=True)
    while not (tmp_path / "search.json").exists():
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGKILL)  # with its workers, which note for a moment longer what is under way
    running.wait(timeout=60)
    (tmp_path / "running-0.bin").write_bytes(b"what was under way")
    again = fuzz(Plan(settings("linux-6.12")), "linux-6.12", tmp_path, max_runs=1)
    assert again.runs > 1 and again.groups
    assert not list(tmp_path.glob("running-*"))


def test_a_full_disk_ends_a_search_with_its_reason(tmp_path: Path) -> None:
    """A folder that cannot be written any more ends the search; that is no finding, and no result is lost."""
    result = fuzz(Plan(settings("proposed")), "proposed", tmp_path, max_seconds=60, run=_full)
    assert result.unwritten == "No space left on device"
    assert result.groups == []


@pytest.mark.parametrize("name", ["directory", "fifo", "nothing", "dangling", "zero"])
def test_a_corpus_has_only_files_that_can_be_read(tmp_path: Path, name: str) -> None:
    """What is no file with a program in it is passed over in a folder's corpus, and is not waited for."""
    folder = Folder(tmp_path, {})
    path = tmp_path / "corpus" / f"{name}.bin"
    if name == "directory":
        path.mkdir()
    elif name == "fifo":
        os.mkfifo(path)
    elif name == "nothing":
        path.write_bytes(b"")
    else:
        path.symlink_to("/dev/zero" if name == "zero" else "/nowhere")
    assert folder.others() == []


@pytest.mark.parametrize("size", [3, ROOM + 1, 1 << 20])
def test_a_program_of_a_corpus_is_cut_to_size(tmp_path: Path, size: int) -> None:
    """A file of a corpus that is longer than a program, or ends in half of the shortest instruction, is cut."""
    folder = Folder(tmp_path, {})
    (tmp_path / "corpus" / "long.bin").write_bytes(bytes(size))
    assert folder.others() == [bytes(min(size, ROOM) & ~1)]
