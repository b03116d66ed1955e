"""Clients that ask for anything in any order, that do not read, and that die at the worst time."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.gdb.client import Client, behind
from tests.gdb.test_gdb_stub import DATA, spinning
from trapline.machine.memory_map import RAM_BASE

KINDS = "bc bs c s g G p P m M X Z z vCont q mon H ?".split()
LINES = "info registers;x/4x 0x80000000;routes;catch trap any;catch csr mtvec;uncatch all;info mtree".split(";")
QUERIES = "qSupported qC qfThreadInfo qXfer:features:read:target.xml:0,4000 qXfer:memory-map:read::0,1000".split()


def place(rng: random.Random) -> str:
    near = (0, 1, RAM_BASE, RAM_BASE + rng.randrange(0, 64, 2), DATA, 1 << 63, (1 << 64) - 1, rng.getrandbits(64))
    return f"{rng.choice(near):x}"


def packet(rng: random.Random) -> str:
    """Return a packet that has the form that its letter asks for, with any numbers in it."""
    kind, size = rng.choice(KINDS), rng.choice((1, 4, 8))
    data = rng.randbytes(size).hex()
    match kind:
        case "G":
            return "G" + rng.randbytes(33 * 8).hex()
        case "p":
            return f"p{rng.randrange(5000):x}"
        case "P":
            return f"P{rng.choice((rng.randrange(64), rng.randrange(5000))):x}={rng.randbytes(8).hex()}"
        case "m":
            return f"m{place(rng)},{rng.choice((1, 8, 4096, 1 << 40)):x}"
        case "M":
            return f"M{place(rng)},{size:x}:{data}"
        case "X":
            return f"X{place(rng)},0:"
        case "Z" | "z":
            return f"{kind}{rng.randrange(5)},{place(rng)},{rng.choice((1, 2, 4, 8, 1 << 20)):x}"
        case "vCont":
            return rng.choice(("vCont;c", "vCont;s:1", f"vCont;r{place(rng)},{place(rng)}:1", "vCont;c:-1"))
        case "q":
            return rng.choice(QUERIES)
        case "mon":
            return "qRcmd," + rng.choice(LINES).encode().hex()
        case "H":
            return rng.choice(("Hg1", "Hc-1", "Hg0", "Hg7"))
    return kind


def answered(gdb: Client, text: str, patience: float) -> str:
    """Return the answer to a packet; what goes on for too long is interrupted, and then has to stop at once."""
    gdb.send(text)
    try:
        gdb.socket.settimeout(patience)
        return gdb.answer()
    except TimeoutError:
        gdb.raw(b"\x03")
        gdb.socket.settimeout(5)
        return gdb.answer()


@pytest.mark.parametrize(("seed", "harts"), [(1, 1), (3, 2)])
def test_each_packet_has_an_answer(seed: int, harts: int, tmp_path: Path) -> None:
    """Hundreds of packets in any order, back and forth, are answered each; the run can still go on behind them."""
    rng, machine = random.Random(seed), spinning(harts)
    machine.schedule.slice = 20_000  # it looks at its client often, however slow what was written over it is
    with behind(machine, tmp_path) as run:
        gdb = run.client()
        for _ in range(300):
            text = packet(rng)
            answer = answered(gdb, text, 0.01)
            while answer.startswith("O") and answer != "OK":  # the story of a catch stands before the stop
                answer = gdb.answer()
            assert not answer.startswith(("W", "X")), text
        assert gdb.ask("?").startswith("T")


@pytest.mark.parametrize(("steps", "pause"), [(None, 1 / 30_000), (1, 1 / 6_000)], ids=["usual", "always-looking"])
def test_a_step_through_a_range_is_interrupted(
    steps: int | None, pause: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C is the reason why a step through a range ends, wherever it is met: in a step, or between two of them."""
    if steps is not None:
        monkeypatch.setattr("trapline.gdb.debugger._STEPS", steps)
    with behind(spinning(), tmp_path) as run:
        gdb = run.client()
        gdb.socket.settimeout(5)
        for number in range(60):
            gdb.send(f"vCont;r0,{1 << 63:x}:1")
            time.sleep(number * pause)
            gdb.raw(b"\x03")
            assert gdb.answer() == "T02thread:1;"


def test_a_client_dies_in_a_step_through_a_range(tmp_path: Path) -> None:
    """The run goes on at its usual speed when nobody waits for the end of a step any more."""
    machine = spinning()
    with behind(machine, tmp_path) as run:
        gdb = run.client()
        gdb.send(f"vCont;r0,{1 << 63:x}:1")
        time.sleep(0.2)
        gdb.socket.close()
        deadline = time.monotonic() + 20
        while int(machine.harts[0].instret) < 5_000_000 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert int(machine.harts[0].instret) >= 5_000_000


def test_the_way_back_is_interrupted(tmp_path: Path) -> None:
    """Ctrl-C ends a reverse-continue long before it has looked at all of the past."""
    with behind(spinning(), tmp_path) as run:
        gdb = run.client()
        gdb.socket.settimeout(5)
        gdb.send("c")
        time.sleep(0.3)
        gdb.raw(b"\x03")
        assert gdb.answer() == "T02thread:1;"
        assert gdb.ask(f"Z2,{DATA:x},4") == "OK"
        gdb.send("bc")
        gdb.raw(b"\x03")
        assert gdb.answer() == "T02thread:1;"


def test_a_client_that_does_not_read_is_let_go(tmp_path: Path) -> None:
    """Who asks thousands of times and reads nothing is gone after one wait, and the next client is served."""
    with behind(spinning(), tmp_path, patience=0.2) as run:
        hostile = run.client()
        hostile.socket.settimeout(0.1)
        with pytest.raises(TimeoutError):
            for _ in range(4000):
                hostile.send("g")
        began = time.monotonic()
        assert run.client().ask("?").startswith("T")
        assert time.monotonic() - began < 2
        assert any("is gone" in said for said in run.said)


def test_a_client_dies_on_its_way_back(tmp_path: Path) -> None:
    """A run goes on when its client dies in a reverse-continue, and another client is served."""
    with behind(spinning(), tmp_path) as run:
        gdb = run.client()
        gdb.ask(f"Z2,{DATA:x},4")
        gdb.send("c")
        time.sleep(0.2)
        gdb.raw(b"\x03")
        gdb.answer()
        gdb.send("bc")
        time.sleep(0.02)
        gdb.close()
        time.sleep(0.1)
        assert run.client().ask("?").startswith("T")
        assert run.thread.is_alive()
