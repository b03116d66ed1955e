"""`trapline stat`: its tables and lines, its screen with a pilot, and once all of it in tmux."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from trapline.isa.assemble import assemble
from trapline.lab.stat.client import Gone, Sample
from trapline.lab.stat.rates import Rates
from trapline.session.terminal.aside import MOST_KEPT, Aside
from trapline.session.terminal.console import Console
from trapline.session.terminal.sources import Replay
from trapline.views.stat import csv_head, csv_lines, log_line

TRAPLINE = [sys.executable, "-m", "trapline"]
GUEST = "again:\nli t0, 30000\nspin:\naddi t0, t0, -1\nbnez t0, spin\nli a7, 16\nli a6, 0\necall\nj again\n"


def sample(n: int, program: str = "guest.elf") -> Sample:
    """The n-th sample of a run that calls SBI ten times a second and is killed in the end."""
    call: dict[str, Any] = {"cause": 10, "name": "supervisor-syscall", "from": "VS", "path": ["VS", "HS", "VS"]}
    kill: dict[str, Any] = {"cause": 20, "name": "inst-guest-page-fault", "from": "VU", "path": ["VU", "HS", "VMM"]}
    call["how"], kill["how"] = ["hardware", "sbi"], ["hardware", "kill"]
    return msgspec.convert(
        {
            "estimated": ["HS"],
            "pid": 7, "seconds": float(n), "command": "run", "program": program, "policy": "linux-7.2",
            "firmware": "opensbi-1.6", "instructions": {"VU": 0, "VS": 5_000_000 * n, "HS": 1000 * n},
            "traps": [
                {**call, "end": "resumed", "count": 10 * n, "instructions": {"HS": 1000 * n, "total": 1000 * n}},
                {**kill, "end": "killed", "errno": 14, "count": 1},
            ],
            "counters": {"exits": 10 * n + 1, "mmio_exit_user": 0},
            "places": [["VS", 0x80200004, 3 * n], ["VS", 0x80200100, n]],
            "vcpus": [{"id": 0, "mode": "VS", "pc": 0x80200004, "state": "runs", "instructions": n}],
        },
        Sample,
    )  # fmt: skip


def test_rates_are_between_samples() -> None:
    """A line has the speed, and the traps by the second since the sample before."""
    rates = Rates()
    rates.view(sample(1))
    line = log_line(rates.view(sample(3)))
    assert line == "    3.0 s        15 M (5 MIPS)  10 supervisor-syscall VS>HS>VS sbi resumed 10/s"


def test_csv_is_one_thing_a_line() -> None:
    """CSV has a head, and a line for each trap, counter, level and place, whatever their names hold."""
    rates = Rates()
    rates.view(sample(1))
    rows = list(csv.DictReader(io.StringIO(csv_head() + csv_lines(rates.view(sample(2))))))
    calls = rows[0]
    assert calls == {
        "seconds": "2.000", "kind": "trap", "name": "10 supervisor-syscall VS>HS>VS sbi resumed", "total": "20",
        "rate": "10.0", "cost": "2000", "cost_rate": "1000.0",
    }  # fmt: skip
    assert {row["kind"] for row in rows} == {"trap", "counter", "level", "symbol"}


# --- the screen, with a pilot ---
class Fake:
    """A run that answers a new sample each time, `most` times."""

    def __init__(self, most: int = 1000) -> None:
        self.n, self.most, self.program = 0, most, "guest.elf"

    def ask(self) -> Sample:
        """Return the next."""
        self.n += 1
        if self.n > self.most:
            raise Gone("run 7 has ended")
        return sample(self.n, self.program)

    def close(self) -> None:
        """Nobody watches."""


def on_screen(run: Fake, act: Callable[[Any, Any], Any], **options: Any) -> Any:
    """Open the screen on a run and act with its pilot; return the screen."""
    pytest.importorskip("textual")
    from trapline.views.stat_screen import StatScreen

    app = StatScreen(7, interval=0.2, connect=lambda pid: run, runs=dict, **options)

    async def go() -> None:
        async with app.run_test(size=(100, 30)) as pilot:
            await until(pilot, lambda: app.shown is not None or not app.is_running)
            await act(app, pilot)

    asyncio.run(go())
    return app


async def until(pilot: Any, done: Callable[[], bool]) -> None:
    """Wait for something to be so."""
    for _ in range(200):
        if done():
            return
        await pilot.pause(0.02)
    raise AssertionError("it never came")


def table(app: Any) -> list[list[str]]:
    """Return the cells of the table."""
    from textual.widgets import DataTable

    shown = app.query_one(DataTable)
    return [[str(cell) for cell in shown.get_row_at(n)] for n in range(shown.row_count)]


def text(app: Any, name: str) -> str:
    """Return what a part of the screen says."""
    from textual.widgets import Static

    return str(app.query_one(name, Static).render())


def test_the_screen_shows_a_run() -> None:
    """Traps by route with counts, rates and costs, counters, functions and vCPUs are on the screen, and go on."""

    async def act(app: Any, pilot: Any) -> None:
        await until(pilot, lambda: app.shown.sample.seconds >= 3)
        rows = table(app)
        assert rows[0][0] == "trap" and rows[1][0] == "10 supervisor-syscall VS>HS>VS sbi resumed"
        assert rows[1][3] == "10" and rows[1][4] == "~1 000"
        assert any("killed -14" in row[0] for row in rows)
        assert any(row[0] == "exits" for row in rows) and any(row[0] == "VS 0x80200004" for row in rows)
        assert "policy linux-7.2" in text(app, "#head") and "vCPU 0 runs VS 0x80200004" in text(app, "#where")
        assert "HS ~" in text(app, "#levels")

    on_screen(Fake(), act)


def test_the_keys_are_those_of_kvm_stat() -> None:
    """f filters, c clears, o orders, x hides rates, r counts anew, s sets the interval, h helps, q quits."""

    async def act(app: Any, pilot: Any) -> None:
        await pilot.press("f", *"exits", "enter")
        assert [row[0] for row in table(app)] == ["counter", "exits"]
        await pilot.press("c")
        assert len(table(app)) > 4
        await pilot.press("x")
        assert len(table(app)[0]) == 4
        await pilot.press("x", "o", "o", "o")
        assert app.order == "name"
        await pilot.press("r")
        await until(pilot, lambda: int(table(app)[1][1]) < 10 * app.shown.sample.seconds)
        await pilot.press("s", "backspace", "backspace", "backspace", *"0.3", "enter")
        assert app.interval == 0.3
        await pilot.press("h")
        assert len(app.screen_stack) == 2
        await pilot.press("q")
        assert len(app.screen_stack) == 1
        await pilot.press("q")

    assert not on_screen(Fake(), act).is_running


def test_what_cannot_be_meant_is_asked_again() -> None:
    """A regular expression or interval that is none changes nothing, and Escape leaves the box."""

    async def act(app: Any, pilot: Any) -> None:
        before = (app.interval, app.fields)
        for key, wrong in (("f", "("), ("s", "0"), ("s", "nan")):
            await pilot.press(key, *["backspace"] * 3, *wrong, "enter")
            assert (app.interval, app.fields) == before
            assert app.query_one("#ask").display
            await pilot.press("escape")
            assert not app.query_one("#ask").display

    on_screen(Fake(), act)


def test_the_end_of_a_run_is_said() -> None:
    """When the run ends its last numbers stay on the screen, which says so; its own screen goes with it."""

    async def act(app: Any, pilot: Any) -> None:
        await until(pilot, lambda: "has ended" in app.said)
        assert "run 7 has ended" in text(app, "#head") and table(app)

    on_screen(Fake(2), act)

    async def gone(app: Any, pilot: Any) -> None:
        await until(pilot, lambda: not app.is_running)

    assert on_screen(Fake(2), gone, own=True).said == "run 7 has ended"


def test_hostile_names_are_only_text() -> None:
    """Names with markup are shown as they are."""
    run = Fake()
    run.program = "[bold]x[/nothing][@click=app.quit]"

    async def act(app: Any, pilot: Any) -> None:
        assert run.program in text(app, "#head")

    on_screen(run, act)


# --- processes ---
@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A runtime folder of the test's own."""
    (tmp_path / "runtime").mkdir(mode=0o700)
    own = {"XDG_RUNTIME_DIR": str(tmp_path / "runtime"), "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "100"}
    return {**os.environ, **own}


@pytest.fixture
def guest(tmp_path: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A run that goes on until it is ended, and that can be watched."""
    file = tmp_path / "guest.bin"
    file.write_bytes(assemble(GUEST, 0x8020_0000))
    command = [*TRAPLINE, "run", str(file), "--max-seconds", "60"]
    run = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "runtime" / "trapline" / f"{run.pid}.sock").exists():
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    yield run
    run.kill()
    run.wait()


def stat(environment: dict[str, str], *words: str) -> tuple[int, str, str]:
    """Run `trapline stat`."""
    done = subprocess.run(
        [*TRAPLINE, "stat", *words], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_without_a_screen(guest: subprocess.Popen[bytes], environment: dict[str, str]) -> None:
    """-1, -l, --csv and --json show the only run; what cannot be meant is one line each."""
    code, out, _ = stat(environment, "-1", "-s", "0.2")
    assert code == 0 and "10 supervisor-syscall" in out and "exits" in out and f"run {guest.pid}" in out
    code, out, _ = stat(environment, str(guest.pid), "-l", "-s", "0.1", "--count", "2")
    assert code == 0 and out.count("\n") == 2 and "supervisor-syscall VS>HS>VS sbi resumed" in out
    code, out, _ = stat(environment, "--json", "-", "-1", "-s", "0.2", "-f", "^exits$")
    data = json.loads(out)
    assert code == 0 and data["traps"] == [] and data["counters"][0]["rate"] > 0 and data["vcpus"][0]["mode"] == "VS"
    for words, says in (
        (("-1", "-s", "0.1", "--json", "/dev/full"), "--json: cannot write '/dev/full': No space left on device"),
        (("99999999",), f"process 99999999 is no run of trapline that can be watched (there are: {guest.pid})"),
        (("-1", "-s", "0"), "Invalid value for -s"),
        (("-l", "-f", "("), "'(' is no regular expression"),
        ((), "the full screen needs a terminal"),
    ):
        code, _, error = stat(environment, *words)
        assert code == 2 and says in error and error.count("\n") == 1


def test_no_run(environment: dict[str, str]) -> None:
    """Where nothing runs that is one line, and exit code 2."""
    code, out, error = stat(environment, "-1")
    assert (code, out) == (2, "") and "no run of trapline is here to watch" in error


class Terminal:
    """A terminal that a person would sit at."""

    def __init__(self, folder: Path, environment: dict[str, str], command: str) -> None:
        self._tmux = ["tmux", "-S", str(folder / "tmux"), "-f", "/dev/null"]
        new = [*self._tmux, "new-session", "-d", "-x", "110", "-y", "30", f"{command}; echo the end; sleep 60"]
        # A size in the environment, as readline puts it there, goes before the terminal's.
        own = {name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES")}
        subprocess.run(new, env=own, check=True)

    def keys(self, *keys: str) -> None:
        """Type."""
        subprocess.run([*self._tmux, "send-keys", *keys], check=True)

    def resize(self, width: int, height: int) -> None:
        """Drag the window's corner."""
        subprocess.run([*self._tmux, "resize-window", "-x", str(width), "-y", str(height)], check=True)

    def until(self, wanted: str, gone: str = "\0") -> str:
        """Wait until a text is there, and another is not; return the screen."""
        shown = ""
        for _ in range(300):
            shown = subprocess.run(
                [*self._tmux, "capture-pane", "-p"], capture_output=True, text=True, check=True
            ).stdout
            if wanted in shown and gone not in shown:
                return shown
            time.sleep(0.1)
        raise AssertionError(shown)

    def in_last_line(self, wanted: str, height: int) -> None:
        """Wait until a text is in the last of so many lines."""
        for _ in range(300):
            lines = self.until(wanted).splitlines()
            if len(lines) == height and wanted in lines[-1]:
                return
            time.sleep(0.1)
        raise AssertionError("\n".join(lines))

    def close(self) -> None:
        """Leave."""
        subprocess.run([*self._tmux, "kill-server"], check=False)


needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="no tmux here")


@needs_tmux
def test_in_a_terminal(guest: subprocess.Popen[bytes], environment: dict[str, str], tmp_path: Path) -> None:
    """In a real terminal the screen opens on the only run, takes keys, and leaves the terminal as it was."""
    pytest.importorskip("textual")
    terminal = Terminal(tmp_path, environment, f"{' '.join(TRAPLINE)} stat -s 0.2")
    with contextlib.closing(terminal):
        assert f"run {guest.pid}  policy linux-7.2" in terminal.until("10 supervisor-syscall VS>HS>VS sbi resumed")
        terminal.keys("f")
        terminal.until("filter: regular expression")
        terminal.keys("exits", "Enter")
        terminal.until("filter exits")
        terminal.keys("q")
        terminal.until("the end")


@contextlib.contextmanager
def own_view(environment: dict[str, str], folder: Path, before: str = "") -> Iterator[Terminal]:
    """A run that shows its own view, after its guest has written a G; started by the command `before`."""
    pytest.importorskip("textual")
    file = folder / "guest.bin"
    file.write_bytes(assemble(f"li t0, 0x10000000\nli t1, 'G'\nsb t1, 0(t0)\n{GUEST}", 0x8020_0000))
    terminal = Terminal(folder, environment, f"{before} {' '.join(TRAPLINE)} run {file} --live --max-seconds 100")
    with contextlib.closing(terminal):
        terminal.until("10 supervisor-syscall VS>HS>VS sbi resumed")
        yield terminal


@needs_tmux
def test_the_view_of_ones_own_run(environment: dict[str, str], tmp_path: Path) -> None:
    """--live opens the view, Ctrl-A l leads to the guest's console and back, and what the guest wrote is there then."""
    with own_view(environment, tmp_path) as terminal:
        terminal.keys("C-a", "l")
        terminal.until("G", gone="q quit")
        time.sleep(1)  # the run finds that its view has ended
        terminal.keys("C-a", "l")
        terminal.until("q quit")
        terminal.keys("q")
        terminal.until("G", gone="q quit")
        time.sleep(1)
        terminal.keys("C-a", "x")
        assert "quit: Ctrl-A x" in terminal.until("the end")


@needs_tmux
@pytest.mark.parametrize(
    "typed",
    [("C-a", "x"), ("q", "C-a", "x"), ("f", "C-a", "x"), ("h", "C-a", "x"), ("C-a", "l", "C-a", "x")],
    ids=["alone", "behind q", "in the filter", "in the help", "behind Ctrl-A l"],
)
def test_ctrl_a_x_ends_the_run_from_its_own_view(
    typed: tuple[str, ...], environment: dict[str, str], tmp_path: Path
) -> None:
    """Ctrl-A x in the view ends the run, whatever the view does just then, and though other keys come before it."""
    with own_view(environment, tmp_path) as terminal:
        terminal.keys(*typed)
        assert "quit: Ctrl-A x" in terminal.until("the end")


@needs_tmux
def test_keys_that_come_while_the_view_opens(environment: dict[str, str], tmp_path: Path) -> None:
    """What is typed behind the Ctrl-A l that opens the view is for the view, and Ctrl-A x ends the run even so."""
    with own_view(environment, tmp_path) as terminal:
        terminal.keys("q")
        terminal.until("G", gone="q quit")
        time.sleep(1)
        terminal.keys("C-a", "l")
        time.sleep(0.1)
        terminal.keys("q", "C-a", "x")
        assert "quit: Ctrl-A x" in terminal.until("the end")


@needs_tmux
def test_the_view_fills_a_window_that_changes_its_size(environment: dict[str, str], tmp_path: Path) -> None:
    """At another size, taken in the view or at the console, the keys of the view are in the last line."""
    with own_view(environment, tmp_path) as terminal:
        terminal.resize(100, 20)
        terminal.in_last_line("q quit", 20)
        terminal.keys("C-a", "l")
        terminal.until("G", gone="q quit")
        terminal.resize(120, 34)
        time.sleep(1)
        terminal.keys("C-a", "l")
        terminal.in_last_line("q quit", 34)


DEAF = """import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])
os.execvp(sys.argv[1], sys.argv[1:])
"""


@needs_tmux
def test_a_view_that_is_not_told_of_a_new_size_finds_it(environment: dict[str, str], tmp_path: Path) -> None:
    """Where no SIGWINCH arrives, as where the terminal promises reports of its size and sends none, the view looks."""
    deaf = tmp_path / "deaf.py"
    deaf.write_text(DEAF)
    with own_view(environment, tmp_path, f"{sys.executable} {deaf}") as terminal:
        terminal.resize(120, 34)
        terminal.in_last_line("q quit", 34)


def test_a_console_aside_keeps_what_is_written() -> None:
    """While another program has the terminal nothing is read or written there; then the end of the output is."""
    shown = bytearray()
    console = Console(shown.extend, Replay([((0, 0), b"typed")]))
    console.aside = Aside()
    console.write(b"line\n")
    assert (bytes(shown), console.poll((1, 1)), console.wait(0)) == (b"", b"", True)
    assert bytes(console.aside.kept) == b"line\n"
    console.aside.keep(b"x" * 3 * MOST_KEPT)
    assert len(console.aside.kept) == MOST_KEPT
    console.aside = None
    console.write(b"more\n")
    assert (bytes(shown), console.poll((1, 1))) == (b"more\n", b"typed")


@needs_tmux
def test_ctrl_a_x_while_the_view_ends(environment: dict[str, str], tmp_path: Path) -> None:
    """What is typed while the view ends, which takes it a moment, is not thrown away with it."""
    for n, after in enumerate((0.05, 0.15, 0.2, 0.3)):
        folder = tmp_path / str(n)
        folder.mkdir()
        with own_view(environment, folder) as terminal:
            terminal.keys("q")
            time.sleep(after)
            terminal.keys("C-a", "x")
            assert "quit: Ctrl-A x" in terminal.until("the end")


@needs_tmux
@pytest.mark.parametrize("whose", ["view", "run"])
def test_a_view_that_is_killed(whose: str, environment: dict[str, str], tmp_path: Path) -> None:
    """When a signal ends the view, or the run below it, the terminal is on its first screen again."""
    with own_view(environment, tmp_path) as terminal:
        found = ["pgrep", "-f", f"stat [0-9]+ --own$|{tmp_path}/guest.bin"]
        pids = subprocess.run(found, capture_output=True, text=True, check=True)
        words = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") for pid in pids.stdout.split()}
        run = next(pid for pid, w in words.items() if b"--live" in w and any(x.endswith(b"trapline") for x in w))
        view = next(pid for pid, w in words.items() if b"--own" in w and str(run).encode() in w)
        os.kill(view if whose == "view" else run, signal.SIGKILL if whose == "view" else signal.SIGTERM)
        terminal.until("G" if whose == "view" else "the end", gone="q quit")
        assert "supervisor-syscall" not in terminal.until("G")


def test_keys_behind_the_one_that_opens_the_view() -> None:
    """Of what came in one piece with Ctrl-A l, Ctrl-A l or q closes the view again; the guest gets none of it."""
    console = Console(source=Replay([((1, 1), b"a\x01lb\x01lcd\x01leqf\x01l\x01xg")]), escape=True)

    def toggle() -> None:
        console.aside = Aside() if console.aside is None else None

    console.on_live = toggle
    assert console.poll((1, 1)) == b"acdf"
    assert console.aside is not None and console.quit_requested
