"""Errors that a user can do something about: one clear line, never a traceback."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class UsageError(Exception):
    """Bad input: `what` is wrong, `where` it stands, and `remedy`, what to do about it."""

    def __init__(self, what: str, where: str = "", remedy: str = "") -> None:
        self.what, self.where, self.remedy = what, where, remedy
        super().__init__(self.line())

    def line(self) -> str:
        """Return the message as one line."""
        text = f"{self.where}: {self.what}" if self.where else self.what
        text = " ".join(text.split())
        return f"{text} ({self.remedy})" if self.remedy else text


@contextlib.contextmanager
def input_of(name: str | None) -> Iterator[None]:
    """What cannot be made of the user's input is an UsageError; `name` is of the file, where the error has none."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"{error.filename or name}: {error.strerror or error}") from None
    except (ValueError, MemoryError) as error:
        raise UsageError(str(error)) from None
