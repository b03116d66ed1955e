"""Where the stub listens: a TCP port, of this host alone unless another address is given, or a Unix socket."""

from __future__ import annotations

import contextlib
import re
import socket
import stat
from pathlib import Path

_ADDRESS = re.compile(r"(?:(?:tcp:)?(?P<host>\[[0-9a-fA-F:.]+\]|[^:\[\]]*):)?(?P<port>\d{1,5})")


class AddressError(ValueError):
    """One line: what is wrong with the address, or why nobody can listen there."""


class Listener:
    """A socket that accepts clients; `address` as --gdb takes it: [HOST:]PORT or unix:PATH.

    `patience`: seconds in which a client has to take an answer once the buffers between are full.
    """

    def __init__(self, address: str, *, patience: float = 3.0) -> None:
        self._patience = patience
        self._path: Path | None = None
        try:
            self.socket = self._unix(address[5:]) if address.startswith("unix:") else _tcp(address)
        except OSError as error:
            raise AddressError(f"cannot listen at {address}: {error.strerror or error}") from None
        self.socket.setblocking(False)

    @property
    def port(self) -> int:
        """The TCP port, or 0."""
        return 0 if self._path is not None else int(self.socket.getsockname()[1])

    def describe(self) -> str:
        """What gdb's `target remote` takes."""
        if self._path is not None:
            return str(self._path)
        host, port = self.socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def _unix(self, path: str) -> socket.socket:
        if not path:
            raise AddressError("unix: needs a path")
        if len(path.encode()) > 107:
            raise AddressError(f"unix:{path}: a socket's path has at most 107 bytes")
        file = Path(path)
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(file.lstat().st_mode):
                raise AddressError(f"{path} is there, and it is no socket")
            with socket.socket(socket.AF_UNIX) as other:
                try:
                    other.connect(path)
                except ConnectionRefusedError:
                    file.unlink()  # of a run that is gone
                else:
                    raise AddressError(f"cannot listen at unix:{path}: another run listens there")
        made = socket.socket(socket.AF_UNIX)
        made.bind(path)
        file.chmod(0o600)
        made.listen()
        self._path = file
        return made

    def accept(self) -> socket.socket | None:
        """The next client that waits, if one does."""
        try:
            client, _ = self.socket.accept()
        except OSError:
            return None
        client.settimeout(self._patience)
        with contextlib.suppress(OSError):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    def close(self) -> None:
        """Listen no more."""
        self.socket.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _tcp(address: str) -> socket.socket:
    found = _ADDRESS.fullmatch(address)
    if found is None or int(found["port"]) > 65535:
        raise AddressError(f"{address!r}: expected [HOST:]PORT or unix:PATH")
    host = (found["host"] or "127.0.0.1").strip("[]")
    try:
        rows = socket.getaddrinfo(host, int(found["port"]), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise AddressError(f"{address}: {error.strerror}") from None
    family, kind, protocol, _, where = rows[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(where)
        made.listen()
    except OSError:
        made.close()
        raise
    return made
