"""Compiling regions: from a place in decoded code to machine code, in a thread of its own or in the caller's."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import TYPE_CHECKING

from trapline.dataclass import dataclass
from trapline.engine.jit.heat import WHOLE, Size
from trapline.engine.link import LinkError

if TYPE_CHECKING:
    from trapline.engine.jit.apart import Apart
    from trapline.engine.jit.compile import Compiler
    from trapline.engine.jit.growth import Growing
    from trapline.engine.jit.source import Pages, Source
    from trapline.engine.jit.store import Identity
    from trapline.engine.jit.template import Template
    from trapline.isa.decode import Decoder

SWITCH_INTERVAL = 0.00001  # seconds: a guest that asks for Python must not wait for the compiler
BUSY_HOST = 3  # how many times as long as its own CPU time a region is waited for at the end of a run
wait_at_exit = True  # LLVM must not run while a process takes itself down; one that just ends need not wait


class LostError(Exception):
    """LLVM has ended its process (jit.apart)."""


@dataclass(frozen=True, slots=True)
class Job:
    """A place to compile: the pages around it, its offset in the first, and the decoder of the hart.

    `linear` says whether guest memory may be reached by one distance (jit.surroundings), `plain` whether floating
    point rounds to nearest. `hot` says how far from the place others lie where samples fell, `growing` which region it
    has by now.
    """

    pages: Pages
    head: int
    decoder: Decoder
    linear: bool
    plain: bool
    hot: tuple[int, ...] = ()
    size: Size = WHOLE
    growing: Growing | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """A region: what it was made from, its code, its instructions."""

    source: Source
    identity: Identity
    code: bytes
    instructions: int


class Builder:
    """Makes regions."""

    def __init__(self, cold: dict[str, int]) -> None:
        self.cold = cold
        self._compiler: Apart | Compiler | None = None
        self._templates: tuple[bool, dict[str, Template]] | None = None

    def build(self, job: Job) -> Made | None:
        """Compile a place; None where there is nothing to compile. LostError if LLVM stumbles over it."""
        from trapline.engine.jit.region import Former
        from trapline.engine.jit.store import identify

        usable = self.templates(job.decoder)
        region = Former(job.pages, job.decoder.search, usable).form(job.head, job.size, job.hot)
        if region is None:
            return None
        source = region.source()
        if job.growing is not None and not job.growing.is_better(source):
            return None
        identity = identify(source, job.pages.data[0], job.head)
        compiler = self.compiler()
        from trapline.engine.jit.translate import translate

        text = translate(region, usable, self.cold, linear=job.linear, plain=job.plain)
        try:
            code = compiler.compile(text, small=region.small)
        except LinkError:
            return None
        return Made(source, identity, code, region.size)

    def compiler(self) -> Apart | Compiler:
        """LLVM in a process apart; in this one where there is no other."""
        if self._compiler is None:
            from trapline.engine.jit import apart

            try:
                apart.APART.start()
                self._compiler = apart.APART
            except OSError:
                from trapline.engine.jit.compile import Compiler

                self._compiler = Compiler()
        return self._compiler

    def seconds(self) -> float:
        """Processor time of the process apart, if there is one."""
        return 0.0 if self._compiler is None else self._compiler.seconds()

    def templates(self, decoder: Decoder) -> dict[str, Template]:
        """The templates for a decoder."""
        from trapline.engine.jit.template import kept_templates

        compressed = "C" in decoder.enabled
        if self._templates is None or self._templates[0] != compressed:
            self._templates = compressed, kept_templates(compressed)
        return self._templates[1]


class Worker:
    """A thread that builds one region at a time."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self.jobs: SimpleQueue[Job | None] = SimpleQueue()
        self.results: SimpleQueue[tuple[Job, Made | None]] = SimpleQueue()
        self.idle = True
        self.failure: Exception | None = None
        self.thread = threading.Thread(target=_build, args=(self.jobs, self.results, self._build), daemon=True)
        self.thread.start()

    def submit(self, job: Job) -> None:
        """Hand over a job; the worker must be idle."""
        self.idle = False
        self.jobs.put(job)

    def collect(self) -> tuple[Job, Made | None] | None:
        """Return what became of the last job, once."""
        if self.results.empty():
            return None
        self.idle = True
        return self.results.get()

    def wait(self, seconds: float) -> tuple[Job, Made | None] | None:
        """The same, after at most some seconds of the compiler's CPU time; BUSY_HOST times as long on a busy host."""
        last = time.monotonic() + seconds * BUSY_HOST
        if self.thread.ident is not None and self.thread.is_alive():
            clock = time.pthread_getcpuclockid(self.thread.ident)
            before = time.clock_gettime(clock) + self.builder.seconds()
            while self.results.empty() and time.monotonic() < last:
                if time.clock_gettime(clock) + self.builder.seconds() - before >= seconds:
                    break
                time.sleep(0.01)
        return self.collect()

    def end(self) -> None:
        """Take no more jobs."""
        self.jobs.put(None)

    def _build(self, job: Job) -> Made | None:
        try:
            return self.builder.build(job)
        except Exception as error:
            self.failure = error  # the guest goes on in the interpreter
            return None


def _build(
    jobs: SimpleQueue[Job | None],
    results: SimpleQueue[tuple[Job, Made | None]],
    build: Callable[[Job], Made | None],
) -> None:
    while (job := jobs.get()) is not None:
        interval = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_INTERVAL)
        try:
            made = build(job)
        finally:
            sys.setswitchinterval(interval)
        results.put((job, made))
        del job, made  # a job leads to its tier, which must not live as long as this thread waits
