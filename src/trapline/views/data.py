"""JSON results: to a file, or to standard output instead of the tables."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


class OutputError(Exception):
    """A result that cannot be written."""


def write_json(data: Any, target: str) -> None:
    """Write `data` to a file, or to standard output for "-"."""
    write_text(json.dumps(data, indent=2) + "\n", target, "--json")


def write_text(text: str, target: str, option: str) -> None:
    """Write text to a file, or to standard output for "-"; OutputError names the option that asked for it."""
    if target == "-":
        sys.stdout.write(text)
        return
    try:
        Path(target).write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{option}: cannot write {target!r}: {error.strerror}") from None
