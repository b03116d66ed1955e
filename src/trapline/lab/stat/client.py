"""The watcher's side of `trapline stat`: which runs there are, and asking one of them."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import Struct, field

from trapline.lab.errors import UsageError
from trapline.lab.results import Traps
from trapline.lab.stat.folder import UnsafeFolder, folder, short, sockets
from trapline.lab.stat.offer import SAMPLE
from trapline.lab.symbols import Symbols, program_symbols, read_symbols, symbols_of

PATIENCE = 3.0  # seconds that a run is waited for
AGAIN = 0.6  # seconds in which a run that starts again (system_reset) is back
MOST = 16 << 20  # bytes of an answer
NONE = "no run of trapline is here to watch"


class Cpu(Struct, frozen=True):
    """Where a vCPU or a hart is; `handlers` are its trap vectors by level."""

    id: int
    mode: str
    pc: int
    state: str
    instructions: int
    handlers: dict[str, int] = field(default_factory=dict)


class Sample(Struct, frozen=True):
    """What a run says of itself: all that it has counted so far."""

    pid: int
    seconds: float
    command: str
    program: str
    instructions: dict[str, int]
    traps: tuple[Traps, ...]
    vcpus: tuple[Cpu, ...]
    counters: dict[str, int] = field(default_factory=dict)
    places: tuple[tuple[str, int, int], ...] = ()
    watched: float = 0.0
    policy: str = ""
    firmware: str = ""
    host_fwft: bool = False
    estimated: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    held: bool = False
    ticks: int = 0

    def under(self) -> str:
        """Return what it runs under, in words."""
        return f"policy {self.policy}, firmware {self.firmware}" if self.policy else "the board"


class Gone(Exception):
    """The run has ended, or does not answer: the text says which."""


class Connection:
    """A connection to one run. Gone: it has ended."""

    def __init__(self, pid: int, path: Path) -> None:
        self.pid, self._path = pid, path
        self._socket: socket.socket | None = None

    def ask(self, patience: float = PATIENCE) -> Sample:
        """Return a sample; one that has started again is found again."""
        deadline = time.monotonic() + AGAIN
        while True:
            try:
                return self._ask(patience)
            except (ConnectionError, FileNotFoundError):
                self.close()
                if time.monotonic() >= deadline:
                    raise Gone(f"run {self.pid} has ended") from None
                time.sleep(0.05)
            except TimeoutError:
                self.close()
                raise Gone(f"run {self.pid} does not answer within {patience:g} s") from None
            except msgspec.MsgspecError as error:
                self.close()
                raise Gone(f"process {self.pid} answers what no run of this version does: {error}") from None

    def _ask(self, patience: float) -> Sample:
        if self._socket is None:
            made = socket.socket(socket.AF_UNIX)
            made.settimeout(patience)
            with short(self._path) as name:
                made.connect(name)
            self._socket = made
        self._socket.settimeout(patience)
        self._socket.sendall(SAMPLE + b"\n")
        line = bytearray()
        while not line.endswith(b"\n"):
            data = self._socket.recv(1 << 16)
            if not data or len(line) > MOST:
                raise ConnectionResetError
            line += data
        return msgspec.json.decode(bytes(line), type=Sample)

    def close(self) -> None:
        """Say that nobody watches any more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def runs(environment: Mapping[str, str] = os.environ) -> dict[int, Path]:
    """Return the runs that can be watched; UsageError where their folder is not safe."""
    try:
        return dict(sockets(folder(environment)))
    except FileNotFoundError:
        return {}
    except UnsafeFolder as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise UsageError(f"cannot look for runs: {error.strerror}") from None


def described(found: Mapping[int, Path]) -> list[tuple[int, Sample | str]]:
    """Return what each run is, or why it does not say."""
    made: list[tuple[int, Sample | str]] = []
    for pid, path in found.items():
        connection = Connection(pid, path)
        try:
            made.append((pid, connection.ask(1.0)))
        except Gone as gone:
            made.append((pid, str(gone)))
        except OSError as error:
            made.append((pid, error.strerror or str(error)))
        finally:
            connection.close()
    return made


def connect(pid: int, environment: Mapping[str, str] = os.environ) -> Connection:
    """Return a connection to a run; UsageError: there is none of that number."""
    found = runs(environment)
    if pid not in found:
        others = ", ".join(map(str, found))
        remedy = f"there are: {others}" if others else "none runs now"
        raise UsageError(f"process {pid} is no run of trapline that can be watched", remedy=remedy)
    return Connection(pid, found[pid])


@dataclass(slots=True)
class Names:
    """Names for the pcs of a run, read once: from what --symbols named there, or from its own programs."""

    symbols: Symbols | None = None

    def name(self, sample: Sample, mode: str, pc: int) -> str | None:
        """Return `function+0x12`, or `function` with exact=False; None where nothing knows it."""
        return self._of(sample).name(mode, pc)

    def function(self, sample: Sample, mode: str, pc: int) -> str | None:
        """Return the function that a pc is in."""
        return self._of(sample).name(mode, pc, exact=False)

    def _of(self, sample: Sample) -> Symbols:
        if self.symbols is None:
            self.symbols = _read(sample)
            handlers: dict[str, list[int]] = {}
            for cpu in sample.vcpus:
                for level, pc in cpu.handlers.items():
                    handlers.setdefault(level, []).append(pc)
            self.symbols.settle(handlers)
        return self.symbols


def _read(sample: Sample) -> Symbols:
    with contextlib.suppress(UsageError):
        if sample.symbols:
            return read_symbols(sample.symbols)
    if sample.command == "boot":
        return program_symbols(sample.programs, (None, "U"))
    return symbols_of(sample.programs[0] if sample.programs else None)
