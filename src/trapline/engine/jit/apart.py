"""LLVM for regions in a process apart.

The guest decides what LLVM is given, and LLVM ends its process where an assertion of it fails. Then only the region is
lost: the interpreter keeps its place, and another process takes the next text.
"""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import sys
import threading
import time
from typing import IO, BinaryIO

from trapline.engine.jit.worker import LostError
from trapline.engine.link import LinkError

_START = """
import sys
sys.path[:] = {path!r}
from trapline.engine.jit.apart import serve
serve(sys.stdin.buffer, sys.stdout.buffer)
"""
_HEAD = struct.Struct("<BI")  # what follows, and its length in bytes
SMALL, LARGE, MADE, REFUSED, FAILED = range(5)
MOST_LOST = 32  # processes that LLVM has ended, until no more is started


class Apart:
    """A process that has LLVM. Threads take turns; a process that is forked from its owner has one of its own."""

    def __init__(self) -> None:
        self.lost = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._forked)

    def start(self) -> None:
        """Have a process, which gets ready beside this one; OSError if there can be none."""
        if not sys.executable:
            raise FileNotFoundError("it is not known where Python is")
        with self._lock:
            self._running()

    def compile(self, text: str, *, small: bool = False) -> bytes:
        """Machine code of a region; `small` as for `compile.Compiler`.

        Raises
        ------
        LinkError
            If the code needs something from outside.
        LostError
            If LLVM has ended the process, or too many.
        RuntimeError
            If LLVM refuses the text, with what it says.
        """
        with self._lock:
            try:
                kind, data = _asked(self._running(), SMALL if small else LARGE, text.encode())
            except (OSError, EOFError) as error:
                self._end()
                self.lost += 1
                raise LostError("LLVM has ended its process") from error
        if kind == MADE:
            return data
        said = data.decode(errors="replace")
        raise LinkError(said) if kind == REFUSED else RuntimeError(said)

    def seconds(self) -> float:
        """How much processor time the process has had; 0 if there is none, or none any more."""
        process = self._process
        if process is None:
            return 0.0
        with contextlib.suppress(OSError):
            return time.clock_gettime(~process.pid << 3 | 2)  # Linux: the clock of a process's threads together
        return 0.0

    def end(self) -> None:
        """Leave no process behind, whatever it does just now."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _forked(self) -> None:
        """The process is the parent's, and so may be the lock."""
        self._process, self._lock = None, threading.Lock()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            if self.lost >= MOST_LOST:
                raise LostError("LLVM has ended too many processes")
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _START.format(path=sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,  # what a fork finds in a buffer it would write once more
                process_group=0,  # Ctrl-C is not for it
            )
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            with contextlib.suppress(OSError), process:
                pass


def _asked(process: subprocess.Popen[bytes], size: int, text: bytes) -> tuple[int, bytes]:
    assert process.stdin is not None
    assert process.stdout is not None
    _send(process.stdin, size, text)
    return _receive(process.stdout)


def _send(pipe: IO[bytes], kind: int, data: bytes) -> None:
    left = memoryview(_HEAD.pack(kind, len(data)) + data)
    while left:
        left = left[pipe.write(left) :]
    pipe.flush()


def _receive(pipe: IO[bytes]) -> tuple[int, bytes]:
    kind, size = _HEAD.unpack(_read(pipe, _HEAD.size))
    return kind, _read(pipe, size)


def _read(pipe: IO[bytes], size: int) -> bytes:
    """Read so many bytes; EOFError where the other side has gone."""
    data = b""
    while len(data) < size:
        more = pipe.read(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def serve(given: BinaryIO, out: BinaryIO) -> None:
    """What the process does: LLVM text in, machine code out, until the other side has gone."""
    import resource

    from trapline.engine.jit.compile import Compiler

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    compiler = Compiler()
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            size, text = _receive(given)
            try:
                kind, answer = MADE, compiler.compile(text.decode(), small=size == SMALL)
            except LinkError as error:
                kind, answer = REFUSED, str(error).encode()
            except Exception as error:
                kind, answer = FAILED, str(error).encode()
            _send(out, kind, answer)


APART = Apart()  # one for all machines of this process
