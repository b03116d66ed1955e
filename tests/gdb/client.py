"""A client of the remote protocol in Python, and a run behind a stub in a thread."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trapline.gdb.debugger import Debugger
from trapline.gdb.listener import Listener
from trapline.gdb.target import target_of


class Client:
    """Sends packets and reads the answers."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(path)
        self._data = b""

    def raw(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send(self, text: str | bytes) -> None:
        payload = text.encode("latin-1") if isinstance(text, str) else text
        self.raw(b"$%b#%02x" % (payload, sum(payload) & 0xFF))

    def answer(self) -> str:
        while True:
            start = self._data.find(b"$")
            end = self._data.find(b"#", start)
            if 0 <= start < end and len(self._data) >= end + 3:
                payload, self._data = self._data[start + 1 : end], self._data[end + 3 :]
                with contextlib.suppress(OSError):  # behind the last answer the stub is gone
                    self.raw(b"+")
                return payload.decode("latin-1")
            data = self.socket.recv(1 << 16)
            if not data:
                raise ConnectionError("the stub closed the connection")
            self._data += data

    def ask(self, text: str | bytes) -> str:
        self.send(text)
        return self.answer()

    def monitor(self, line: str) -> str:
        answer = self.ask("qRcmd," + line.encode().hex())
        return "" if answer == "OK" else bytes.fromhex(answer).decode("latin-1")

    def pc(self) -> int:
        return int.from_bytes(bytes.fromhex(self.ask("p20")), "little")

    def register(self, number: int) -> int:
        return int.from_bytes(bytes.fromhex(self.ask(f"p{number:x}")), "little")

    def closed(self) -> bool:
        """Whether the stub has closed the connection."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        self.socket.close()


class Behind:
    """A run behind a stub. `said` is what users were told, `result` what the run ended with."""

    def __init__(self, run: Any, path: str, wait: bool, limit: int | None, patience: float) -> None:
        self.said: list[str] = []
        self.clients: list[Client] = []
        self.path, self.result = path, None
        self.debugger = Debugger(
            target_of(run), Listener(f"unix:{path}", patience=patience), self.said.append, wait=wait
        )
        self.thread = threading.Thread(target=self._run, args=(limit,))

    def _run(self, limit: int | None) -> None:
        self.result = self.debugger.run(limit)

    def client(self) -> Client:
        self.clients.append(Client(self.path))
        return self.clients[-1]

    def end(self) -> Any:
        self.thread.join(60)
        assert not self.thread.is_alive()
        return self.result


@contextlib.contextmanager
def behind(
    run: Any, folder: Path, *, wait: bool = True, limit: int | None = None, patience: float = 3.0
) -> Iterator[Behind]:
    """Run it in a thread; what is still going on at the end is killed."""
    made = Behind(run, str(folder / "gdb"), wait, limit, patience)
    made.thread.start()
    try:
        yield made
    finally:
        for client in [*made.clients, None]:
            with contextlib.suppress(OSError):
                (client or Client(made.path)).send("k")
        made.thread.join(60)
        made.debugger.close()
        for client in made.clients:
            client.close()
