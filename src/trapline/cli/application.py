"""The application that every command registers with."""

from __future__ import annotations

from cyclopts import App

from trapline.cli.help_text import Paragraphs


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"trapline {version('trapline')}"
    except PackageNotFoundError:
        return "unknown (not installed)"


app = App(
    name="trapline",
    help="A RISC-V KVM in Python: unmodified guests, and the route, count and cost of every trap.",
    version=_version,
    help_format="plaintext",
    help_formatter=Paragraphs(),
)
