"""A device, a pipe with a name, a folder or a link to itself in the place of a file is one line at once."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from trapline.cli.main import main

LOOP = bytes.fromhex("6f000000")
Capture = pytest.CaptureFixture[str]


def fifo(place: Path) -> str:
    """A pipe that nobody writes to or reads."""
    os.mkfifo(place / "pipe")
    return str(place / "pipe")


def knot(place: Path) -> str:
    """A link to itself."""
    (place / "knot").symlink_to("knot")
    return str(place / "knot")


def unix(place: Path) -> str:
    """A socket."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(place / "socket"))
    return str(place / "socket")


PLACES: dict[str, Callable[[Path], str]] = {
    "/dev/zero": lambda place: "/dev/zero",
    "a pipe": fifo,
    "a folder": str,
    "a knot": knot,
    "a socket": unix,
}
READ = {
    "the guest": "run {}",
    "the program": "boot {}",
    "--bios": "boot --bios {}",
    "--kernel": "boot --bios GUEST --kernel {}",
    "--initrd": "boot --bios GUEST --kernel GUEST --initrd {}",
    "--restore": "boot --restore {}",
    "run --restore": "run --restore {}",
    "--symbols": "run GUEST --symbols {}",
    "--policy": "run GUEST --policy {}.toml",
    "--drive": "run GUEST --drive {},ro",
    "--share": "run GUEST --share {}:name",
    "--memslot": "run GUEST --memslot 0x90000000:4096:{}",
    "--baseline": "audit --event inst-access --baseline {}",
    "SPEC": "sweep {}",
    "report": "report {} -o /dev/null",
    "--from": "fetch busybox --from {}",
    "--accepted": "conform linux-7.2 --accepted {}",
    "--firmware": "conform --firmware {}",
}
WRITTEN = {
    "--json": "{}",
    "--trace": "{}",
    "--snapshot": "{}",
    "--net": "user,pcap={}",
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("option", READ)
def test_read(option: str, place: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is no file is refused wherever a file is read; nothing waits, and memory does not grow."""
    if (option, place) == ("--share", "a folder"):
        return  # that is what a share is
    if option == "--from":  # two that fetch into the same cache wait for each other, and say so
        monkeypatch.setenv("TRAPLINE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "guest").write_bytes(LOOP)
    name = PLACES[place](tmp_path)
    if option == "--policy" and Path(name).parent == tmp_path:
        Path(name).rename(f"{name}.toml")
    code = main(READ[option].replace("GUEST", str(tmp_path / "guest")).format(name).split())
    assert (code, capsys.readouterr().err.count("\n")) == (2, 1)


@pytest.mark.parametrize("option", WRITTEN)
def test_a_pipe_that_nobody_reads(option: str, tmp_path: Path, capsys: Capture) -> None:
    """A result is not sent into a pipe without a reader: that is told before the guest runs."""
    (tmp_path / "guest").write_bytes(LOOP)
    code = main(["run", str(tmp_path / "guest"), option, *WRITTEN[option].format(fifo(tmp_path)).split()])
    out, error = capsys.readouterr()
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert "a pipe that no program reads" in error


def test_a_pipe_with_a_reader(tmp_path: Path) -> None:
    """A pipe carries the result to its reader, who sees no end before."""
    (tmp_path / "guest").write_bytes(LOOP)
    pipe, found = fifo(tmp_path), []

    def read() -> None:
        with Path(pipe).open("rb") as file:
            found.append(file.read(64))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    assert main(["run", str(tmp_path / "guest"), "--max-instructions", "100", "--json", pipe]) == 3
    reader.join(10)
    assert found[0].startswith(b"{")
