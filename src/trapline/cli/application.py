"""The application that every command registers with."""

from __future__ import annotations

from cyclopts import App

from trapline.cli.help_text import Paragraphs
from trapline.cli.version import version_line
from trapline.cli.words import COMMANDS

app = App(
    name="trapline",
    help="A RISC-V KVM in Python: unmodified guests, and the route, count and cost of every trap.",
    version=version_line,
    help_format="plaintext",
    help_formatter=Paragraphs(),
)

for command in COMMANDS:
    app.command(f"trapline.cli.commands:{command}", name=command)  # imported when it is called


def import_all() -> None:
    """Import every command: help and completion tell of all."""
    for name in COMMANDS:
        _ = app[name]
