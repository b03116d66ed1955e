"""LLVM in a process apart: what ends that process, and what ends with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.harness import Bench
from trapline.engine.jit import apart
from trapline.engine.jit.apart import Apart
from trapline.engine.jit.compile import Compiler
from trapline.engine.jit.worker import LostError
from trapline.engine.link import LinkError

SOURCE = str(Path(__file__).resolve().parents[2] / "src")
TEXT = """
define i64 @region(i64 %a, i64 %b) {
  %c = mul i64 %a, %b
  ret i64 %c
}
"""
OUTSIDE = """
declare i64 @outside(i64)
define i64 @region(i64 %a) {
  %b = call i64 @outside(i64 %a)
  ret i64 %b
}
"""
LOOP = "li s0, -1\nagain: addi s1, s1, 3\nxor s2, s1, s0\naddi s0, s0, -1\nbnez s0, again\nend: j end\n"


@pytest.fixture
def llvm() -> Iterator[Apart]:
    """A process of a test's own."""
    made = Apart()
    yield made
    made.end()


def process_of(llvm: Apart) -> int:
    """The number of its process."""
    assert llvm._process is not None
    return llvm._process.pid


def is_there(number: int) -> bool:
    """Whether there is a process, which is no zombie."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_code_is_the_same(llvm: Apart) -> None:
    """What it makes is what LLVM makes in this process."""
    assert llvm.compile(TEXT) == llvm.compile(TEXT) == Compiler().compile(TEXT)
    assert llvm.seconds() > 0


def test_what_llvm_refuses_is_said(llvm: Apart) -> None:
    """Code that needs something from outside, and text that is none, are errors, and the process goes on."""
    with pytest.raises(LinkError):
        llvm.compile(OUTSIDE)
    with pytest.raises(RuntimeError, match="expected top-level entity"):
        llvm.compile("nonsense")
    first = process_of(llvm)
    assert llvm.compile(TEXT)
    assert process_of(llvm) == first
    assert llvm.lost == 0


def test_a_process_that_ended_costs_one_region(llvm: Apart, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where LLVM ends its process the region is lost, and another process takes the next, but not for ever."""
    monkeypatch.setattr(apart, "MOST_LOST", 2)
    for lost in (1, 2):
        llvm.compile(TEXT)
        os.kill(process_of(llvm), signal.SIGABRT)
        with pytest.raises(LostError, match="ended its process"):
            llvm.compile(TEXT)
        assert llvm.lost == lost
    with pytest.raises(LostError, match="too many"):
        llvm.compile(TEXT)
    assert llvm.seconds() == 0


def test_ctrl_c_is_not_for_it(llvm: Apart) -> None:
    """The process is in a group of its own, so the terminal's signals do not reach it."""
    llvm.start()
    assert os.getpgid(process_of(llvm)) == process_of(llvm) != os.getpgid(0)


def test_a_fork_has_its_own(llvm: Apart) -> None:
    """A forked process neither uses nor ends the process of the one that it comes from."""
    llvm.compile(TEXT)
    first = process_of(llvm)
    with llvm._lock:  # a thread compiles just then
        child = os.fork()
    if child == 0:
        good = llvm.seconds() == 0
        llvm.end()
        good = good and bool(llvm.compile(TEXT)) and process_of(llvm) != first
        llvm.end()
        os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert is_there(first)
    assert llvm.compile(TEXT)
    assert process_of(llvm) == first


def test_no_process_is_left_behind() -> None:
    """It ends when its owner is killed, and when its owner just ends."""
    code = (
        f"import sys, time; sys.path.insert(0, {SOURCE!r})\n"
        "import atexit\nfrom trapline.engine.jit.apart import APART\n"
        f"atexit.register(APART.end); APART.compile({TEXT!r})\n"
        "print(APART._process.pid, flush=True)\nsys.stdin.read()"
    )
    for kill in (True, False):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen([sys.executable, "-c", code], **pipes) as owner:  # type: ignore[call-overload]
            number = int(owner.stdout.readline())
            assert is_there(number)
            if kill:
                owner.kill()
            else:
                owner.stdin.close()
            owner.wait(20)
        end = time.monotonic() + 20
        while is_there(number) and time.monotonic() < end:
            time.sleep(0.02)
        assert not is_there(number)


def test_a_guest_goes_on_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest whose region ends LLVM's process runs on in the interpreter, and does the same."""
    lost = Apart()
    monkeypatch.setattr(apart, "APART", lost)
    monkeypatch.setattr(apart, "_asked", lambda process, size, text: (process.kill(), process.wait(), _gone())[2])
    forced, plain = Bench("forced", LOOP), Bench("native", LOOP)
    for bench in (forced, plain):
        bench.run(5_000)
    assert forced.state() == plain.state()
    assert forced.engine.tier.compiled == 0
    assert lost.lost > 0


def test_the_user_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A run beside which LLVM has ended its process says that it was slower, and goes on."""
    monkeypatch.setenv("TRAPLINE_CACHE", str(tmp_path))
    monkeypatch.setattr(apart, "APART", Apart())
    monkeypatch.setattr(apart, "_asked", lambda process, size, text: (process.kill(), process.wait(), _gone())[2])
    tiered, plain = Bench("tiered", LOOP), Bench("native", LOOP)
    end = time.monotonic() + 30
    while not tiered.engine.notes() and time.monotonic() < end:
        for bench in (tiered, plain):
            bench.run(300_000)
    assert "its results are right (LostError: LLVM has ended its process)" in tiered.engine.notes()[0]
    assert tiered.state() == plain.state()
    tiered.engine.tier.close()


def _gone() -> tuple[int, bytes]:
    raise EOFError
