"""A run with a debugger: it goes on and stops as the client says, and is a run like any other without one."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from trapline.gdb.history import History, Interrupted
from trapline.gdb.listener import Listener
from trapline.gdb.packets import ACK, BAD, NAK, STOP_BYTE, Stream, encode
from trapline.gdb.session import Move, Session
from trapline.gdb.target import Target
from trapline.session.session import limit_reached

_STEPS = 64  # of a range, between two looks at the client
_DRAIN = 16
_LOOK = 0.1  # seconds between looks at the user's input while the run is held
_SIGINT, _SIGTRAP = 2, 5


class Client:
    """One connection."""

    def __init__(self, connection: socket.socket, session: Session) -> None:
        self.connection, self.session = connection, session
        self.alive = True
        self.new = False  # it came while the run went on, and expects nothing but answers yet
        self.packets: list[bytes] = []
        self.interrupted = False
        self._deaf = False
        self._stream = Stream()
        self._last = b""

    def fileno(self) -> int:
        """For select."""
        return self.connection.fileno()

    def receive(self) -> None:
        """Take what has arrived; an end of it is the client's."""
        try:
            data = self.connection.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            self.alive = False
        for whole, content in self._stream.feed(data):
            if whole:
                if not self.session.no_ack:
                    self._write(ACK)
                self.packets.append(content)
            elif content == STOP_BYTE:
                self.packets.append(STOP_BYTE)
            elif content == BAD and not self.session.no_ack:
                self._write(NAK)
            elif content == NAK and not self.session.no_ack and self._last:
                self._write(self._last)

    def send(self, payload: bytes) -> None:
        """Send a packet."""
        self._last = encode(payload)
        self._write(self._last)

    def _write(self, data: bytes) -> None:
        if self._deaf:
            return
        try:
            self.connection.sendall(data)
        except OSError as error:
            self.alive, self._deaf = False, True
            if isinstance(error, TimeoutError):  # it asks and does not read: what else it asks is for nobody
                self.packets.clear()

    def ready(self) -> bool:
        """Whether something has arrived."""
        return self.alive and bool(select.select([self.connection], [], [], 0)[0])


class Debugger:
    """Stands in the place of a board or a guest for whoever runs it. `say` is told what users should know."""

    def __init__(self, target: Target, listener: Listener, say: Callable[[str], object], *, wait: bool = False) -> None:
        self._target, self._listener, self._say = target, listener, say
        self._client: Client | None = None
        self._held = self._wait = wait
        self._history = History(target, lambda: self._held)
        self._running = False
        target.machine.attend(self._look)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target.machine, name)

    def close(self) -> list[str]:
        """No client any more; closes the machine, and returns which of its files are not whole."""
        self._drop()
        self._target.machine.attend(None)
        self._listener.close()
        lost: list[str] = self._target.machine.close()
        return lost

    # --- the run ---
    def run(self, max_instructions: int | None = None, max_seconds: float | None = None) -> Any:
        """Run to the end, with all stops in between."""
        end = None if max_seconds is None else time.monotonic() + max_seconds
        began_at, done = self._target.position(), 0
        move: Move | None = None
        while True:
            if self._held:
                began = time.monotonic()
                with self._target.held():
                    move, ended = self._hold()
                if ended is not None:
                    return _with_instructions(ended, done)
                end = None if end is None else end + time.monotonic() - began
                done = self._target.position() - began_at  # a client may have gone back
            left = None if max_instructions is None else max(0, max_instructions - done)
            result = self._go(move, left, None if end is None else max(0.0, end - time.monotonic()))
            done = self._target.position() - began_at
            if result.reason in ("stop", "step", "debugger"):
                self._report(result.reason)
                if self._client is None:
                    move = None  # nobody waits for the end of a step any more
                continue
            self._finish(result)
            if result.reason == "limit":
                result = replace(result, message=limit_reached(done, max_instructions, max_seconds))
            return _with_instructions(result, done)

    def _go(self, move: Move | None, left: int | None, seconds: float | None) -> Any:
        machine, steps, done = self._target.machine, 0, 0
        end = None if seconds is None else time.monotonic() + seconds
        self._history.leave()
        while True:
            if move is not None and move.how == "step":
                self._target.step(move.cpu)
            part = self._slice()  # the client may be gone, or another one be there, when the run comes back
            most = [n for n in (None if left is None else left - done, part) if n is not None]
            self._running = True
            result = machine.run(min(most, default=None), None if end is None else max(0.0, end - time.monotonic()))
            self._running = False
            done += result.instructions
            steps += 1
            if self._held and result.reason in ("step", "limit") and done != left:
                # The run was over for its own reason when the client held it.
                return _with_instructions(replace(result, reason="debugger"), done)
            if result.reason == "limit" and result.instructions == part and done != left:
                self._history.mark()
                continue
            inside = move is not None and move.first <= self._target.pc(move.cpu) < move.end
            if result.reason != "step" or not inside:
                return _with_instructions(result, done)
            if steps % _STEPS == 0:
                if self._is_interrupted():
                    return _with_instructions(replace(result, reason="debugger"), done)
                if self._client is None:
                    return _with_instructions(result, done)

    def _slice(self) -> int | None:
        """Instructions up to the next checkpoint, with a client that may want to go back."""
        client = self._client
        return self._history.slice if client is not None and client.session.reverse else None

    def _report(self, reason: str) -> None:
        """Tell the client why the run is held; without a client it is not."""
        client = self._client
        self._held = client is not None
        if client is None or client.new:
            if client is not None:
                client.new = False
            return
        stopped = self._target.stopped_by if reason == "stop" else None
        story = client.session.story(stopped)
        if story is not None:
            client.send(story)
        signal = _SIGINT if client.interrupted and reason == "debugger" else _SIGTRAP
        client.interrupted = False
        client.send(client.session.stop_reply(stopped, signal))

    def _finish(self, result: Any) -> None:
        if self._client is not None:
            self._client.send(b"W%02x" % (result.exit_status & 0xFF))
            self._drop()

    # --- while it is held ---
    def _hold(self) -> tuple[Move | None, Any]:
        """Serve the client until it lets the run go on; return how, or the result of a run that ended here."""
        if self._client is None and self._wait:
            self._say(f"gdb: waits at {self._listener.describe()} for `target remote`")
        self._wait = False
        while True:
            client = self._client
            if client is not None and not client.alive and not client.packets:
                self._gone()
                return None, None
            if client is not None and client.packets:
                move = self._serve(client, client.packets.pop(0))
                if move is not None:
                    return move if move.how in ("continue", "step") else None, self._ended_by(move)
                continue
            try:
                ended = self._wait_for_packets()
            except KeyboardInterrupt:
                ended = self._target.result("interrupted", 130, "Ctrl-C")
            if ended is not None:
                self._finish(ended)
                return None, ended

    def _serve(self, client: Client, packet: bytes) -> Move | None:
        if packet == STOP_BYTE:
            return None  # it is held already
        if not self._history.begun:
            client.session.reverse = self._history.begin()
        answer = client.session.handle(packet)
        if isinstance(answer, Move):
            if answer.how == "restart":
                client.send(self._history.restart().encode().hex().encode())
                return None
            if answer.how in ("back-step", "back-continue"):
                self._go_back(client, answer)
                return None
            if answer.how in ("continue", "step"):
                self._held = False
            return answer
        if answer is not None:
            client.send(answer)
        return None

    def _go_back(self, client: Client, move: Move) -> None:
        self._held, stopped, signal, at_begin = False, None, _SIGTRAP, False
        try:
            if move.how == "back-step":
                at_begin = not self._history.back_step(move.cpu)
            else:
                stopped = self._history.back_continue()
                at_begin = stopped is None
        except Interrupted:
            signal, client.interrupted = _SIGINT, False
        if self._client is not client:
            return  # it died meanwhile, and nobody else holds the run
        self._held = True
        story = client.session.story(stopped)
        if story is not None:
            client.send(story)
        client.send(client.session.stop_reply(stopped, signal, no_history=at_begin))

    def _ended_by(self, move: Move) -> Any:
        if move.answer and self._client is not None:
            self._client.send(move.answer)
        if move.how in ("detach", "kill"):
            self._drop()
        return self._target.result("quit", 0, "gdb ended the run") if move.how == "kill" else None

    def _wait_for_packets(self) -> Any:
        sockets: list[Any] = [self._listener.socket, *([self._client] if self._client else [])]
        select.select(sockets, [], [], _LOOK)
        self._accept()
        if self._client is not None and self._client.ready():
            self._client.receive()
        ended = self._target.machine.look()
        return None if ended is None else self._target.result(*ended)

    # --- while it runs ---
    def _look(self) -> None:
        if self._is_interrupted():
            self._target.machine.interrupt("debugger", "the debugger stops the run")

    def _is_interrupted(self) -> bool:
        """Look at the client, and hold the run if it wants something."""
        self._look_at_client()
        client = self._client
        if client is None or not client.packets or self._held:
            return False
        self._held = client.interrupted = True
        if client.packets[0] == STOP_BYTE:
            client.packets.pop(0)
        return True

    def _look_at_client(self) -> None:
        self._accept()
        client = self._client
        if client is None:
            return
        if client.ready():
            client.receive()
        if not client.alive and not client.packets:
            self._gone()

    def _accept(self) -> None:
        connection = self._listener.accept()
        if connection is None:
            return
        old = self._client
        for _ in range(_DRAIN):  # its end may stand behind what it sent before
            if old is not None and old.ready():
                old.receive()
        if old is not None and not old.alive:
            self._gone()
        elif old is not None:
            connection.close()
            self._say("gdb: a second client was refused")
            return
        self._client = Client(connection, Session(self._target))
        self._held, self._client.new = True, self._running
        if self._running:
            self._target.machine.interrupt("debugger", "a debugger came")

    def _gone(self) -> None:
        self._say("gdb: the client is gone; the run goes on")
        self._drop()

    def _drop(self) -> None:
        if self._client is not None:
            self._client.session.end()
            self._history.forget()
            self._client.connection.close()
            self._client = None
        self._held = False


def _with_instructions(result: Any, instructions: int) -> Any:
    return replace(result, instructions=instructions)
