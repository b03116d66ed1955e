"""Downloads that survive what happens to them: they go on where they stopped, and are whole or not there.

A file arrives as NAME.part and gets its name, in one rename, only when its SHA256 is right.
"""

from __future__ import annotations

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from trapline.lab.errors import UsageError

Progress = Callable[[str, int, int], None]  # what, bytes done, bytes in all

TIMEOUT = 30.0  # seconds without a byte
_ATTEMPTS, _ATTEMPTS_SMALL = 5, 3
_CHUNK = 1 << 18
_SMALL = 64 << 20
_DAMAGED = "the mirror is damaged or changing: try again later or another one"


class NotThereError(Exception):
    """The server has no such file."""


class BrokenError(Exception):
    """The connection failed or ended early: trying again may help."""


class OtherFileError(UsageError):
    """The archive has another file there than its index promises: trying again at once does not help."""


class Transport:
    """Gets files over HTTP(S), through `proxy(url)` if it names one ("DIRECT": none at all)."""

    def __init__(
        self,
        proxy: Callable[[str], str | None] = lambda url: None,
        progress: Progress = lambda what, done, total: None,
        *,
        pause: float = 0.5,
    ) -> None:
        self._proxy, self._progress, self._pause = proxy, progress, pause

    def get(self, url: str) -> bytes:
        """Return a small file; NotThereError if the server has none, UsageError without a network."""
        error = ""
        for attempt in range(_ATTEMPTS_SMALL):
            try:
                with self._open(url, 0) as response:
                    return bytes(response.read(_SMALL))
            except BrokenError as broken:
                error = str(broken)
            except (OSError, http.client.HTTPException) as broken:
                error = _reason(broken)
            if attempt + 1 < _ATTEMPTS_SMALL:
                time.sleep(self._pause * attempt)
        raise _unreachable(url, error)

    def download(self, url: str, to: Path, size: int, sha256: str, what: str) -> None:
        """Fetch a file of known size and digest; go on where an earlier attempt stopped.

        NotThereError if the server has none, OtherFileError if it has another one.
        """
        part = to.with_name(to.name + ".part")
        failures, error = 0, ""
        while failures < _ATTEMPTS:
            have = part.stat().st_size if part.exists() else 0
            if have < size:
                try:
                    self._append(url, part, have, size, what)
                except BrokenError as broken:
                    error = str(broken)
            now = part.stat().st_size if part.exists() else 0
            if now == size and _sha256(part) == sha256:
                part.replace(to)
                return
            if now >= size:
                part.unlink()
                error = f"what arrived is not what the archive's index promises (SHA256 {sha256[:16]}...)"
                if have == 0 and _is_final(failures):
                    raise OtherFileError(error, url, _DAMAGED)
            failures = 0 if have < now < size else failures + 1
            time.sleep(self._pause * failures)
        raise _unreachable(
            url, f"{error}: run the same command again to go on where it stopped" if part.exists() else error
        )

    def _append(self, url: str, part: Path, have: int, size: int, what: str) -> None:
        """Receive bytes from `have` on; BrokenError if they end too early."""
        self._progress(what, have, size)
        with self._open(url, have) as response:
            total = _total(response)
            if total is not None and total != size:
                part.unlink(missing_ok=True)
                error = f"the archive has a file of {total} bytes, its index promises {size}"
                raise OtherFileError(error, url, _DAMAGED)
            if have and not _continues(response, have):
                have = 0
            with part.open("ab" if have else "wb") as out:
                while have <= size:
                    data = _read(response)
                    if not data:
                        break
                    out.write(data)
                    out.flush()
                    have += len(data)
                    self._progress(what, have, size)
        if have < size:
            raise BrokenError(f"the connection ended after {have} of {size} bytes")

    def _open(self, url: str, start: int) -> Any:
        request = urllib.request.Request(url, headers={"User-Agent": "trapline"})
        if start:
            request.add_header("Range", f"bytes={start}-")
        try:
            return self._opener(url).open(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            if error.code in (404, 410):
                raise NotThereError(url) from None
            if error.code == 416:
                raise BrokenError("the server cannot continue there") from None
            if error.code >= 500:
                raise BrokenError(f"HTTP status {error.code} ({error.reason})") from None
            raise UsageError(f"HTTP status {error.code} ({error.reason})", url) from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, FileNotFoundError):
                raise NotThereError(url) from None
            raise BrokenError(_reason(error.reason)) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise BrokenError(_reason(error)) from None

    def _opener(self, url: str) -> urllib.request.OpenerDirector:
        proxy = self._proxy(url)
        if proxy is None:
            return urllib.request.build_opener()  # the environment's proxies, as apt does
        proxies = {} if proxy.upper() == "DIRECT" else {urlsplit(url).scheme: proxy}
        return urllib.request.build_opener(urllib.request.ProxyHandler(proxies))


def _is_final(failures: int) -> bool:
    """A whole download with a wrong digest is tried once more, then given up."""
    return failures >= 1


def _continues(response: Any, have: int) -> bool:
    """Whether a response goes on at byte `have`."""
    if getattr(response, "status", None) != 206:
        return False
    return str(response.headers.get("Content-Range", "")).startswith(f"bytes {have}-")


def _total(response: Any) -> int | None:
    """Return how long the server says the whole file is."""
    if getattr(response, "status", None) == 206:
        said = str(response.headers.get("Content-Range", "")).rpartition("/")[2]
    else:
        said = str(response.headers.get("Content-Length", ""))
    return int(said) if said.isdigit() else None


def _read(response: Any) -> bytes:
    """Receive some bytes: only the network's troubles count as a broken connection, not the disk's."""
    try:
        return bytes(response.read1(_CHUNK))  # what is there, not the whole chunk
    except http.client.IncompleteRead as error:
        return bytes(error.partial)
    except (OSError, http.client.HTTPException) as error:
        raise BrokenError(_reason(error)) from None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reason(error: object) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())


def _unreachable(url: str, why: str) -> UsageError:
    host = urlsplit(url).netloc.rpartition("@")[2] or url
    return UsageError(f"cannot get {urlsplit(url).path} from {host}: {why}")
