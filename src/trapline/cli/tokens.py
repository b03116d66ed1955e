"""Command lines inside command lines: what follows `--` of `trapline compare` is one of `trapline run`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

behind_dashes: list[str] = []
command_line: list[str] = []


def was_given(option: str) -> bool:
    """Whether the command line says this option, be it with the value that it has anyway."""
    return any(word == option or word.startswith(f"{option}=") for word in (*command_line, *behind_dashes))


def bound(command: str, tokens: Sequence[str]) -> dict[str, Any]:
    """Parse a command line without running it."""
    from trapline.cli.application import app

    _, bound, _ = app.parse_args([command, *tokens], print_error=False, exit_on_error=False)
    return dict(bound.arguments)
