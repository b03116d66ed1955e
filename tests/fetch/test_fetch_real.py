"""Debian's own archive and kernels: fetched, verified, booted to a shell on a terminal.

The archive is the one of this machine's apt, or TRAPLINE_TEST_MIRROR; with TRAPLINE_TEST_CACHE what is in that cache
is used again.
"""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from trapline.cli import main
from trapline.fetch.store import Store

pytestmark = pytest.mark.slow

SUITES = {"trixie": "linux-6.12", "sid": "linux-7.2"}
QUIET = "quiet cryptomgr.notests=1"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache with the kernels of both suites."""
    own = os.environ.get("TRAPLINE_TEST_CACHE")
    path = Path(own) if own else tmp_path_factory.mktemp("cache")
    before = os.environ.get("TRAPLINE_CACHE")
    os.environ["TRAPLINE_CACHE"] = str(path)
    mirror = os.environ.get("TRAPLINE_TEST_MIRROR")
    words = ["--mirror", mirror] if mirror else []
    for suite in SUITES:
        assert main(["fetch", "linux", "--suite", suite, *words]) == 0
    yield path
    if before is None:
        del os.environ["TRAPLINE_CACHE"]
    else:
        os.environ["TRAPLINE_CACHE"] = before


class Terminal:
    """A command on a pseudo-terminal."""

    def __init__(self, *words: str) -> None:
        self.person, program = pty.openpty()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-m", "trapline", *words]
        self.process = subprocess.Popen(command, stdin=program, stdout=program, stderr=program, env=environment)
        os.close(program)
        self.seen = b""

    def wait(self, text: str, seconds: float = 180) -> str:
        """Read until a text appears; return what came before it."""
        end = time.monotonic() + seconds
        while text.encode() not in self.seen:
            left = end - time.monotonic()
            assert left > 0 and select.select([self.person], [], [], left)[0], self.seen[-2000:]
            self.seen += os.read(self.person, 65536)
        before, _, self.seen = self.seen.partition(text.encode())
        return before.decode(errors="replace")

    def type(self, text: str) -> None:
        """Type."""
        os.write(self.person, text.encode())

    def end(self) -> tuple[int, str]:
        """Read to the end; return the exit code and the rest of what was written."""
        while True:
            try:
                data = os.read(self.person, 65536)
            except OSError:
                data = b""
            if not data:
                break
            self.seen += data
        os.close(self.person)
        return self.process.wait(60), self.seen.decode(errors="replace")


def test_the_signature_is_checked(cache: Path) -> None:
    """Both suites' kernels, firmware and initramfs are in the cache."""
    kernels = Store(cache / "kernels").kernels()
    assert {kernel.alias for kernel in kernels} >= set(SUITES.values())
    assert all(kernel.bios is not None and kernel.bios.is_file() for kernel in kernels)


@pytest.mark.parametrize("kernel", SUITES.values())
def test_a_guest_on_the_terminal(cache: Path, kernel: str) -> None:
    """A shell answers, Ctrl-C reaches what runs, the monitor looks in, and poweroff ends with code 0 and the table."""
    terminal = Terminal("run", kernel, "--append", QUIET)
    terminal.wait("# ")
    terminal.type("uname -r\r")
    assert Store(cache / "kernels").kernels()
    assert kernel.removeprefix("linux-") in terminal.wait("# ")
    terminal.type("sleep 1000\r")
    terminal.wait("sleep 1000")
    time.sleep(0.5)
    terminal.type("\x03")
    terminal.wait("# ", 20)
    terminal.type("\x01cstop\r")
    terminal.wait("(trapline) stop")
    terminal.type("x/2i $pc\rinfo registers\rcont\r\x01c")
    assert "vsatp" in terminal.wait("[the guest's console]", 20)
    terminal.type("poweroff\r")
    terminal.wait("exit: the guest powered off", 30)
    code, rest = terminal.end()
    assert code == 0
    assert "supervisor-syscall" in rest


@pytest.mark.parametrize("kernel", SUITES.values())
def test_a_host_on_the_terminal(cache: Path, kernel: str) -> None:
    """Under real OpenSBI the shell answers, kvm.ko loads, and poweroff ends with code 0."""
    terminal = Terminal("boot", kernel, "--append", QUIET)
    terminal.wait("# ")
    terminal.type("modprobe kvm; dmesg | grep -c 'hypervisor extension available'\r")
    terminal.wait("\n1\r")
    terminal.wait("# ")
    terminal.type("poweroff\r")
    terminal.wait("exit: the machine powered off")
    assert terminal.end()[0] == 0


@pytest.mark.parametrize(
    ("typed", "code", "says"),
    [
        ("reboot", 0, "reset: the guest asked for a reset"),
        ("exit", 0, "exit: the guest powered off"),
        ("sh -c poweroff", 0, "exit: the guest powered off"),
        ("echo c >/proc/sysrq-trigger", 1, "panic: the kernel panicked: sysrq triggered crash"),
        ("echo '---[ end Kernel panic - not syncing: x'; echo 'Kernel panic - not syncing: x'; reboot", 0, "reset: "),
    ],
)
def test_the_ways_a_guest_ends(cache: Path, typed: str, code: int, says: str) -> None:
    """Each way in which a guest ends has its line and its exit code; a panic is one only if the kernel says so."""
    terminal = Terminal("run", "linux-6.12", "--append", QUIET)
    terminal.wait("# ")
    terminal.type(f"{typed}\r")
    terminal.wait(says, 60)
    assert terminal.end()[0] == code


@pytest.mark.parametrize("kernel", SUITES.values())
@pytest.mark.parametrize("extra", ["", "panic=-1", "panic=1"])
def test_no_initrd(cache: Path, kernel: str, extra: str) -> None:
    """Without an initramfs the kernel panics, whatever it does then: one line with what to do, exit code 1."""
    image = next(k.image for k in Store(cache / "kernels").kernels() if k.alias == kernel)
    terminal = Terminal("run", str(image), "--append", f"console=ttyS0 {QUIET} {extra}")
    terminal.wait("panic: the kernel panicked: VFS: Unable to mount root fs on unknown-block(0,0)")
    code, rest = terminal.end()
    assert code == 1
    assert "--initrd FILE" in " ".join(rest.split())
