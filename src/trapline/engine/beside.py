"""LLVM in a process beside this one: its calls in threads of one process wait for each other."""

from __future__ import annotations

import contextlib
import marshal
import os
import subprocess
import sys
from typing import BinaryIO

from trapline.engine.emit import Level, Part, emitted, host_machine

_START = """
import sys
sys.path[:] = {path!r}
from trapline.engine.beside import answer
answer(sys.stdin.buffer, sys.stdout.buffer)
"""


class Beside:
    """A Python that gets ready to compile one part of the engine while this one still writes the text."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        if sys.executable and len(os.sched_getaffinity(0)) > 1:
            start = _START.format(path=sys.path)
            with contextlib.suppress(OSError):
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-c", start],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                )

    def submit(self, parts: list[Part]) -> None:
        """Hand LLVM text over."""
        pipe = self._process.stdin if self._process is not None else None
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.write(marshal.dumps([(text, int(level)) for text, level in parts]))
                pipe.close()

    def collect(self) -> list[bytes] | None:
        """The objects that became of it; None if there is no such process, or it failed."""
        if self._process is None or self._process.stdout is None:
            return None
        made = self._process.stdout.read()
        return marshal.loads(made) if self._process.wait() == 0 else None

    def end(self) -> None:
        """Leave no process behind."""
        if self._process is not None:
            self._process.kill()
            with self._process:
                pass


def answer(given: BinaryIO, out: BinaryIO) -> None:
    """What the process beside does: LLVM text in, objects out."""
    host_machine()
    parts = marshal.loads(given.read())
    out.write(marshal.dumps(emitted((text, Level(level)) for text, level in parts)))
