"""What a run offers to `trapline stat`: to its user alone, at a bounded price, unseen by the guest."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trapline.isa.assemble import assemble
from trapline.lab.boot import BootOptions, boot
from trapline.lab.guest_run import RunOptions, RunReport, run_guest
from trapline.lab.settings import settings
from trapline.lab.stat import offer as stat_offer
from trapline.lab.stat.client import Connection, Gone, Sample, connect, runs
from trapline.lab.stat.folder import UnsafeFolder, folder, sockets
from trapline.lab.stat.offer import Offer
from trapline.lab.stat.rates import Rates, named

GUEST = """
again:
    li t0, 30000
spin:
    addi t0, t0, -1
    bnez t0, spin
    li a7, 16
    li a6, 0
    ecall
    j again
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime folder of the test's own, with a path too long for a socket's address."""
    runtime = tmp_path / ("r" * 90)
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    return runtime / "trapline"


@pytest.fixture
def guest(tmp_path: Path) -> RunOptions:
    """A guest that calls SBI for ever."""
    file = tmp_path / "guest.bin"
    file.write_bytes(assemble(GUEST, 0x8020_0000))
    return RunOptions(str(file), settings("linux-7.2", "opensbi-1.6", False, "trap"), offer=True)


class Watcher(threading.Thread):
    """Asks for samples as fast as they come until the run ends."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.samples: list[Sample] = []

    def run(self) -> None:
        """Wait for the run to be there; ask."""
        deadline = time.monotonic() + 20
        while not runs():
            if time.monotonic() > deadline:
                return
            time.sleep(0.02)
        connection = connect(os.getpid())
        try:
            while True:
                self.samples.append(connection.ask())
        except Gone:
            connection.close()


def watched(options: RunOptions) -> tuple[RunReport, list[Sample]]:
    """Run with a watcher."""
    watcher = Watcher()
    watcher.start()
    report = run_guest(options)
    watcher.join(20)
    return report, watcher.samples


def test_a_watched_run_is_the_same_run(place: Path, guest: RunOptions, tmp_path: Path) -> None:
    """With and without a watcher a run has the same instructions, traps, statistics and trace."""
    traces = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    limit = replace(guest, max_instructions=4_000_000_000)
    alone = run_guest(replace(limit, offer=False, trace=str(traces[0])))
    report, samples = watched(replace(limit, trace=str(traces[1])))
    assert len(samples) > 1
    one, other = alone.as_data(), report.as_data()
    assert {**one, "seconds": 0} == {**other, "seconds": 0}
    assert traces[0].read_bytes() == traces[1].read_bytes()


def test_what_a_sample_says(place: Path, guest: RunOptions) -> None:
    """Samples count up to what the run reports: traps by route, KVM's counters, instructions, where the vCPU is."""
    report, samples = watched(replace(guest, max_seconds=0.9))
    last = samples[-1]
    calls = next(t for t in last.traps if t.name == "supervisor-syscall")
    final = next(r for r in report.rows if r.cause == 10)
    assert (calls.way(), calls.how, calls.end) == (final.path, final.how, final.end)
    assert 0 < calls.count <= final.count
    assert last.counters["exits"] == sum(t.count for t in last.traps)
    assert 0 < last.instructions["VS"] <= report.instructions["VS"]
    assert last.vcpus[0].mode == "VS" and last.vcpus[0].pc >> 12 == 0x80200
    assert last.watched <= 0.05
    rates = Rates()
    rates.view(samples[0])
    view = rates.view(last)
    line = next(t for t in view.traps if t.trap is not None and t.trap.cause == 10)
    first = next((t.count for t in samples[0].traps if t.cause == 10), 0)
    assert line.rate == pytest.approx((calls.count - first) / (last.seconds - samples[0].seconds), rel=0.01)
    assert line.cost > 0
    rates.reset()
    assert all(t.total == 0 for t in rates.view(last).traps)


def test_a_board_is_watched_too(place: Path, tmp_path: Path) -> None:
    """A boot tells its traps by origin and destination, and where its harts are."""
    program = tmp_path / "board.bin"
    program.write_bytes(assemble("la t0, on\ncsrw mtvec, t0\n.balign 4\non:\necall\n", 0x8000_0000))
    watcher = Watcher()
    watcher.start()
    boot(BootOptions(image=str(program), max_seconds=0.8, offer=True))
    watcher.join(20)
    last = watcher.samples[-1]
    assert last.command == "boot" and last.vcpus[0].mode == "M"
    assert [(t.name, t.from_, t.to) for t in last.traps] == [("machine-syscall", "M", "M")]
    assert last.vcpus[0].handlers["M"] >> 12 == 0x80000


def test_nothing_is_left(place: Path, guest: RunOptions) -> None:
    """The socket of a run goes with it, and what a dead run left goes when the next looks."""
    place.mkdir(mode=0o700)
    stale = place / "999999999.sock"
    stale.touch()
    strange = place / "notes.txt"
    strange.touch()
    watched(replace(guest, max_seconds=0.5))
    assert [p.name for p in place.iterdir()] == [strange.name]


@pytest.mark.parametrize("what", ["mode", "link", "file"])
def test_an_unsafe_folder_is_not_used(what: str, place: Path, guest: RunOptions, tmp_path: Path) -> None:
    """Where others may write, or a link or file stands in the place, a run offers nothing and runs on."""
    match what:
        case "mode":
            place.mkdir(mode=0o700)
            place.chmod(0o777)
        case "link":
            (tmp_path / "else").mkdir(mode=0o700)
            place.symlink_to(tmp_path / "else")
        case "file":
            place.touch()
    with pytest.raises(UnsafeFolder):
        folder(make=True)
    assert run_guest(replace(guest, max_seconds=0.5)).result.reason == "limit"
    assert not list(tmp_path.glob("else/*"))


def test_a_runtime_folder_that_is_not_private_is_passed_over(tmp_path: Path) -> None:
    """$XDG_RUNTIME_DIR that others may enter, or that is no absolute path, is not used: the temporary folder is."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    for runtime in (str(shared), "relative", ""):
        found = folder({"XDG_RUNTIME_DIR": runtime, "TMPDIR": str(tmp_path)}, make=True)
        assert found == tmp_path / f"trapline-{os.getuid()}"
        assert found.stat().st_mode & 0o777 == 0o700


class Fake:
    """A source whose samples cost some time of the processor."""

    def __init__(self, cost: float) -> None:
        self.cost, self.samples = cost, 0

    def sample(self) -> dict[str, Any]:
        """Work for a while."""
        self.samples += 1
        end = time.thread_time() + self.cost
        while time.thread_time() < end:
            pass
        return {"text": "x" * 10}

    def places(self) -> Iterator[tuple[str, int]]:
        """Yield one."""
        yield "VS", 4096


def test_answers_are_rationed(place: Path) -> None:
    """However many ask, samples come at most one a second while they cost more than the run can afford."""
    now = [0.0]
    source = Fake(0.02)
    offer = Offer(lambda: source, clock=lambda: now[0])
    path = offer.open()
    assert path is not None
    clients = []
    for _ in range(3):
        client = socket.socket(socket.AF_UNIX)
        client.connect(f"/proc/self/fd/{os.open(path.parent, os.O_RDONLY)}/{path.name}")
        client.sendall(b"sample\n")
        clients.append(client)
    for _ in range(500):  # ten seconds
        now[0] += 0.02
        offer()
        for client in clients:
            client.setblocking(False)
            try:
                client.recv(1 << 16)
                client.sendall(b"sample\n")
            except BlockingIOError:
                pass
    assert 9 <= source.samples <= 12
    offer.close()


@pytest.mark.parametrize("question", [b"\n", b"sample", b"GET / HTTP/1.1\r\n\r\n", b"x" * 100_000, b"sample\n" * 9000])
def test_strange_clients(question: bytes, place: Path) -> None:
    """A client that says anything else, says nothing more, or never reads does not hold a run, nor other clients."""
    now = [1.0]
    offer = Offer(lambda: Fake(0.0), clock=lambda: now[0])
    path = offer.open()
    assert path is not None
    name = f"/proc/self/fd/{os.open(path.parent, os.O_RDONLY)}/{path.name}"
    strange, good = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    for client in (strange, good):
        client.connect(name)
        client.setblocking(False)
    try:
        strange.sendall(question)
    except BlockingIOError:
        pass
    good.sendall(b"sample\n")
    for _ in range(200):
        now[0] += 0.05
        offer()
    assert json.loads(good.recv(1 << 16).partition(b"\n")[0])["text"] == "x" * 10
    offer.close()


def test_too_many_clients_are_turned_away(place: Path) -> None:
    """More than eight watchers: the ninth is told that nobody answers, the others are served."""
    now = [1.0]
    offer = Offer(lambda: Fake(0.0), clock=lambda: now[0])
    path = offer.open()
    assert path is not None
    many = [socket.socket(socket.AF_UNIX) for _ in range(stat_offer.CLIENTS + 1)]
    for client in many:
        client.connect(f"/proc/self/fd/{os.open(path.parent, os.O_RDONLY)}/{path.name}")
    now[0] += 1
    offer()
    many[-1].settimeout(2)
    assert many[-1].recv(10) == b""
    offer.close()


def test_a_run_that_does_not_answer(place: Path) -> None:
    """A socket where nobody answers is an end with a reason, not a hang."""
    place.mkdir(mode=0o700)
    path = place / f"{os.getpid()}.sock"
    silent = socket.socket(socket.AF_UNIX)
    silent.bind(f"/proc/self/fd/{os.open(place, os.O_RDONLY)}/{path.name}")
    silent.listen()
    assert [pid for pid, _ in sockets(place)] == [os.getpid()]
    with pytest.raises(Gone, match=r"does not answer within 0.2 s"):
        Connection(os.getpid(), path).ask(0.2)
    silent.close()
    with pytest.raises(Gone, match="has ended"):
        Connection(os.getpid(), path).ask(0.2)


def test_a_filter_fits_names() -> None:
    """A filter is a regular expression that fits anywhere in a name."""
    from trapline.lab.stat.rates import Line

    assert named("mmio")(Line("counter", "mmio_exit_user", 1, 1.0))
    assert not named("^exit")(Line("counter", "mmio_exit_user", 1, 1.0))


def test_a_view_of_ones_own_run_that_has_ended_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """The view that --live starts may come up behind the run's end: the result then stands alone on the terminal."""
    done = subprocess.run([sys.executable, "-m", "trapline", "stat", "999999999", "--own"], check=False)
    assert (done.returncode, *capfd.readouterr()) == (0, "", "")
