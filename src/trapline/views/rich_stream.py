"""Rich's console, whose readers may go."""

from __future__ import annotations

from rich.console import Console


class RichStream(Console):
    """A console that leaves a broken pipe to the command: rich would end the process, with another exit code."""

    def on_broken_pipe(self) -> None:
        """Raise what the stream raised."""
        raise BrokenPipeError
