"""A terminal for boards and guests."""

from __future__ import annotations

import os
import pty
from collections.abc import Iterator

import pytest


@pytest.fixture
def terminals() -> Iterator[tuple[int, int]]:
    """A pseudo-terminal: the person's end and the program's."""
    person, program = pty.openpty()
    yield person, program
    os.close(person)
    os.close(program)
