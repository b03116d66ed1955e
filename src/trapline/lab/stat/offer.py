"""What a run offers to `trapline stat`: a socket, answered when the run looks outside. The guest does not notice it.

A run is asked for a sample with a line, and answers with one line of JSON. Answers are late where they cost too much:
they take at most COST of the run's processor time, however many ask and how often, but one a second is always given.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import select
    import socket

    from trapline.lab.own_screen import OwnScreen
    from trapline.session.session import Session

FIRST, EVERY, NOTED = 0.25, 0.02, 0.1  # seconds: before a run is offered; between looks at the socket; between pcs
LEAST, MOST = 0.09, 1.0  # seconds between two samples: never less; they are not late by more
COST = 0.003  # what part of the run's own processor time its samples may take, where they would come more often
CLIENTS, QUESTION = 8, 64  # clients at a time; bytes of a question
LATER = 0.5  # seconds until it is looked whether the run is stuck
WATCHED = 5.0  # seconds for which a client that asked is there: pcs are noted
PLACES = 512  # different pcs that are kept
SAMPLE = b"sample"


class Source(Protocol):
    """What is watched."""

    def sample(self) -> dict[str, Any]:
        """Return what has been counted, as JSON takes it; changes nothing."""

    def places(self) -> Iterator[tuple[str, int]]:
        """Yield (mode, pc) of each hart that runs."""


class _Client:
    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.asked = b""
        self.unsent = b""
        self.waits = False


class Offer:
    """Call it whenever the run looks outside; `close` when it ends."""

    def __init__(self, make: Callable[[], Source], clock: Callable[[], float] = time.monotonic) -> None:
        self._make, self._clock = make, clock
        self._source: Source | None = None
        self._began = clock()
        self._next = self._began + FIRST
        self._asked = self._noted = self._watched = 0.0
        self._worked = time.thread_time()
        self._socket: socket.socket | None = None
        self._poll: select.poll | None = None
        self._path: Path | None = None
        self._clients: dict[int, _Client] = {}
        self._pcs: Counter[tuple[str, int]] = Counter()
        self.spent = 0.0  # seconds of this processor for samples

    def __call__(self) -> None:
        """Look whether somebody asks."""
        now = self._clock()
        if now < self._next:
            return
        self._next = now + EVERY
        if self._poll is None:
            self.open()
        if self._socket is None or self._poll is None:
            self._next = float("inf")  # nobody can come
            return
        for descriptor, event in self._poll.poll(0):
            if descriptor == self._socket.fileno():
                self._accept()
            elif descriptor in self._clients:
                self._hear(self._clients[descriptor], event)
        if self._clients:
            self._answer(now)

    def open(self) -> Path | None:
        """Be there for watchers; return the socket, None where there is no safe place for one."""
        if self._poll is not None:
            return self._path
        import select
        import socket

        from trapline.lab.stat.folder import UnsafeFolder, folder, short, sockets

        self._poll = select.poll()
        self._source = self._make()
        made = socket.socket(socket.AF_UNIX)
        try:
            path = folder(make=True) / f"{os.getpid()}.sock"
            for _ in sockets(path.parent):
                pass  # what dead runs have left is gone
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            with short(path) as name:
                made.bind(name)
            path.chmod(0o600)
            made.listen()
        except (OSError, UnsafeFolder):
            made.close()
            return None
        made.setblocking(False)
        self._poll.register(made, select.POLLIN)
        self._socket, self._path = made, path
        return path

    def close(self) -> None:
        """The run has ended."""
        for client in tuple(self._clients.values()):
            self._drop(client)
        if self._socket is not None and self._path is not None:
            self._socket.close()
            with contextlib.suppress(OSError):
                self._path.unlink()
        self._socket, self._next = None, float("inf")

    def _accept(self) -> None:
        import select

        with contextlib.suppress(OSError):
            while self._socket is not None and self._poll is not None:
                connection, _ = self._socket.accept()
                if len(self._clients) >= CLIENTS:
                    connection.close()
                    continue
                connection.setblocking(False)
                self._clients[connection.fileno()] = _Client(connection)
                self._poll.register(connection, select.POLLIN)

    def _hear(self, client: _Client, event: int) -> None:
        """Take a question; a client that goes away, or that says anything else, is gone."""
        import select

        try:
            if event & select.POLLOUT:
                self._send(client)
            if event & ~select.POLLOUT:
                data = client.connection.recv(QUESTION)
                client.asked += data
                if not data or len(client.asked) > QUESTION:
                    self._drop(client)
                    return
        except BlockingIOError:
            return
        except OSError:
            self._drop(client)
            return
        line, newline, rest = client.asked.partition(b"\n")
        if newline:
            client.asked = rest
            client.waits = line == SAMPLE
            if not client.waits:
                self._drop(client)

    def _answer(self, now: float) -> None:
        """Note where the harts are while somebody watches; answer who has asked, if it is time."""
        if self._source is None:
            return
        if self._noted + NOTED <= now < self._watched:
            self._noted = now
            for place in self._source.places():
                if place in self._pcs or len(self._pcs) < PLACES:
                    self._pcs[place] += 1
        waiting = [client for client in self._clients.values() if client.waits and not client.unsent]
        if not waiting or not self._is_time(now):
            return
        self._watched = now + WATCHED
        began = time.thread_time()
        line = self._line(now)
        self.spent += time.thread_time() - began
        self._asked = now
        for client in waiting:
            client.waits = False
            client.unsent = line
            try:
                self._send(client)
            except BlockingIOError:
                pass
            except OSError:
                self._drop(client)

    def _is_time(self, now: float) -> bool:
        """Whether a sample may be made again."""
        afforded = (time.thread_time() - self._worked) * COST
        return now >= self._asked + (LEAST if self.spent <= afforded else MOST)

    def _line(self, now: float) -> bytes:
        import json

        assert self._source is not None
        sample = {
            "pid": os.getpid(),
            "seconds": round(now - self._began, 3),
            "watched": round(self.spent, 6),
            **self._source.sample(),
            "places": [[mode, pc, n] for (mode, pc), n in self._pcs.most_common()],
        }
        return json.dumps(sample).encode() + b"\n"

    def _send(self, client: _Client) -> None:
        import select

        sent = client.connection.send(client.unsent)
        client.unsent = client.unsent[sent:]
        if self._poll is not None:
            wanted = select.POLLIN | select.POLLOUT if client.unsent else select.POLLIN
            self._poll.register(client.connection, wanted)

    def _drop(self, client: _Client) -> None:
        descriptor = client.connection.fileno()
        if self._clients.pop(descriptor, None) is not None and self._poll is not None:
            self._poll.unregister(descriptor)
        client.connection.close()


@contextlib.contextmanager
def offered(
    run: Session[Any], wanted: bool, make: Callable[[], Source], *, guest: bool, live: bool = False
) -> Iterator[Offer | None]:
    """Offer a run to watchers in the block, if that is wanted; `live`: open the view of it on its own terminal."""
    if not wanted:
        yield None
        return
    offer = Offer(make)
    screen: OwnScreen | None = None
    stuck: Callable[[], None] | None = None
    later = time.monotonic() + LATER
    if run.console.source.keyboard:
        from trapline.lab.own_screen import OwnScreen, possible

        screen = OwnScreen(run.console, offer, begin=live and possible(run.console))

    def look() -> None:
        nonlocal stuck
        offer()
        if screen is not None:
            screen()
        if stuck is not None:
            stuck()
        elif time.monotonic() > later:
            from trapline.lab.observe import beside
            from trapline.lab.stuck import Stuck  # a short run does without

            stuck = Stuck(run.harts, beside(run.console), guest=guest)

    run.show_to(look)
    try:
        yield offer
    finally:
        run.show_to(None)
        offer.close()
        if screen is not None:
            screen.close()
