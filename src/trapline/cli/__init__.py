"""The commands: parse, call the lab, show a view. Everything heavy is imported inside the commands."""

from trapline.cli.main import entry, main

__all__ = ["entry", "main"]
