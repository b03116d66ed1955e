"""Memory of this process: small pages at first, huge ones where a long run has it in full use."""

from __future__ import annotations

import ctypes
import mmap
import os
import time
from pathlib import Path

import pytest

from trapline.lang import host_pages
from trapline.lang.host_pages import HUGE, LONG, PAGE, PAUSE, Collapser, anonymous

BLOCKS = 6


def huge_bytes() -> int:
    """How much of this process lies in huge pages."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("AnonHugePages:"))


def collapses() -> bool:
    """Whether the host has huge pages, and collapses what is there."""
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    release = tuple(int(n) for n in os.uname().release.split(".")[:2])
    return setting.exists() and release >= (6, 1)


def steps(collapser: Collapser) -> None:
    """Enough steps for every block, without the pauses."""
    for _ in range(4 * BLOCKS):
        collapser._due = 0.0
        collapser.step()


@pytest.fixture
def block(monkeypatch: pytest.MonkeyPatch) -> mmap.mmap:
    """Memory of some huge pages, the only one that a collapser knows."""
    monkeypatch.setattr(host_pages, "_blocks", [])
    return anonymous((BLOCKS + 1) * HUGE)


def test_what_is_full_is_collapsed_and_what_is_sparse_is_not(block: mmap.mmap) -> None:
    """Of six aligned stretches the two that are full become huge pages, with the same bytes; the others stay."""
    first = -ctypes.addressof(ctypes.c_char.from_buffer(block)) % HUGE
    for stretch in (1, 4):
        for page in range(HUGE // PAGE):
            block[first + stretch * HUGE + page * PAGE] = 1 + page % 251
    for page in range(0, HUGE // PAGE, 2):
        block[first + 2 * HUGE + page * PAGE] = 7
    before = huge_bytes()
    collapser = Collapser(after=0.0)
    steps(collapser)
    assert len(collapser._done) == 2
    assert huge_bytes() - before == (2 * HUGE if collapses() else 0)
    for stretch in (1, 4):
        at = first + stretch * HUGE
        assert [block[at + page * PAGE] for page in range(512)] == [1 + page % 251 for page in range(512)]
    assert (block[first + 2 * HUGE], block[first + 2 * HUGE + PAGE]) == (7, 0)
    steps(collapser)
    assert len(collapser._done) == 2


def test_nothing_is_collapsed_before_its_time(block: mmap.mmap) -> None:
    """A run of less than some seconds keeps small pages, and there is a pause behind each huge one."""
    block[:] = b"\1" * len(block)
    early = Collapser()
    early.step()
    assert not early._done
    assert early._due - time.monotonic() > LONG - 1
    due = Collapser(after=0.0)
    due.step()  # looks
    due._due = 0.0
    due.step()
    due.step()
    assert len(due._done) == 1
    assert 0 < due._due - time.monotonic() <= PAUSE


def test_memory_that_is_gone_is_forgotten(block: mmap.mmap, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block that was given back is not looked at, and goes from the list when the next one comes."""
    block[:] = b"\1" * len(block)
    monkeypatch.setattr(host_pages, "_blocks", [(lambda: None, start, size) for _, start, size in host_pages._blocks])
    collapser = Collapser(after=0.0)
    steps(collapser)
    assert not collapser._done
    another = anonymous(HUGE)
    assert [known() for known, _, _ in host_pages._blocks] == [another]
