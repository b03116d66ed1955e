"""--gdb and its kin on the command line."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gdb.client import Client
from tests.gdb.test_gdb_stub import AT, PROGRAM
from tests.small_elf import elf
from trapline.cli.debugging import Debugging
from trapline.gdb.listener import Listener
from trapline.lab.debugging import DebugOptions
from trapline.machine.memory_map import RAM_BASE


def boot(folder: Path, *options: str) -> list[str]:
    """The command that boots the program."""
    image = folder / "program.elf"
    image.write_bytes(elf(RAM_BASE, [(RAM_BASE, PROGRAM.code)]))
    return [sys.executable, "-m", "trapline", "boot", str(image), *options]


def test_options_are_those_of_qemu() -> None:
    """-s is port 1234, -S waits, alone on port 1234; --gdb says where else."""
    assert Debugging().options() == DebugOptions()
    assert Debugging(s=True).options() == DebugOptions("1234")
    assert Debugging(S=True).options() == DebugOptions("1234", wait=True)
    assert Debugging(gdb="unix:/x", gdb_wait=True).options() == DebugOptions("unix:/x", wait=True)


@contextlib.contextmanager
def waiting(command: list[str], path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Client]]:
    """Start a boot that waits for gdb at a socket, and run it to its loop, which has a breakpoint."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stderr is not None
        assert b"gdb: waits at" in run.stderr.readline()
        gdb = Client(str(path))
        assert gdb.ask(f"Z0,{AT['loop']:x},4") == "OK"
        assert gdb.ask("c") == "T05thread:1;swbreak:;"
        yield run, gdb
        gdb.close()


def test_a_run_waits_for_gdb_and_ends_as_ever(tmp_path: Path) -> None:
    """A boot that waits says so in a line, is driven by a client, and its result and exit code are those without."""
    path = tmp_path / "socket"
    command = boot(tmp_path, "--gdb", f"unix:{path}", "-S")
    with waiting(command, path) as (run, gdb):
        assert gdb.ask(f"z0,{AT['loop']:x},4") == "OK"
        assert gdb.ask("c") == "W00"
        out, _ = run.communicate(timeout=60)
        assert (run.returncode, b"exit: passed" in out) == (0, True)


@pytest.mark.parametrize("address", ["nonsense", "70000", "taken"])
def test_bad_addresses_are_one_line(address: str, tmp_path: Path) -> None:
    """An address that cannot be listened at, or that is taken, is one line and exit code 2."""
    listener = Listener("0")
    given = f"{listener.port}" if address == "taken" else address
    done = subprocess.run(boot(tmp_path, "--gdb", given), capture_output=True, text=True, timeout=60, check=False)
    listener.close()
    assert done.returncode == 2
    assert "--gdb" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_log_is_written_beside_gdb(tmp_path: Path) -> None:
    """--log exec with --gdb: the blocks that are entered are logged, over stops, steps and going back, each once."""
    path, log = tmp_path / "socket", tmp_path / "log"
    command = boot(tmp_path, "--gdb", f"unix:{path}", "-S", "--log", "exec", "--log-file", str(log))
    with waiting(command, path) as (run, gdb):
        assert gdb.ask("vCont;s:1").startswith("T05")
        assert gdb.ask("c") == "T05thread:1;swbreak:;"
        assert gdb.ask("bc") == "T05thread:1;swbreak:;"
        assert gdb.ask(f"z0,{AT['loop']:x},4") == "OK"
        assert gdb.ask("c") == "W00"
        run.communicate(timeout=60)
    plain = tmp_path / "plain"
    subprocess.run(
        boot(tmp_path, "--log", "exec", "--log-file", str(plain)), check=True, capture_output=True, timeout=60
    )
    assert log.read_text() == plain.read_text()
    assert "exec" in log.read_text()
