"""How help is laid out: the lines of a docstring are paragraphs, filled to the width of the terminal."""

from __future__ import annotations

import re
from typing import Any

_NOTHING = ("()", '""')
_LINE_END = re.compile(r"(?<!\n)\n(?!\n)[ \t]*")


class Paragraphs:
    """A formatter of cyclopts that joins the lines of each paragraph first; what it uses is imported when asked."""

    def __call__(self, console: Any, options: Any, panel: Any) -> None:
        """Render a panel: commands or parameters."""
        for entry in panel.entries:
            _join(entry.description)
            if entry.default in _NOTHING:
                entry.default = None
        _default()(console, options, panel)

    def render_usage(self, console: Any, options: Any, usage: Any) -> None:
        """Render the line of the usage, which comes first; a reader who goes is the command's matter, not rich's."""
        console.on_broken_pipe = _reader_gone
        _default().render_usage(console, options, usage)

    def render_description(self, console: Any, options: Any, description: Any) -> None:
        """Render what a command says of itself."""
        _join(description)
        _default().render_description(console, options, description)


def _reader_gone() -> None:
    raise BrokenPipeError


def _default() -> Any:
    from cyclopts.help.formatters.default import DefaultFormatter

    return DefaultFormatter()


def _join(text: Any) -> None:
    """Join lines in an InlineText that holds plain text; anything else stays."""
    from rich.text import Text

    shown = getattr(text, "primary_renderable", None)
    if isinstance(shown, Text) and not shown.spans:
        text.primary_renderable = Text(_LINE_END.sub(" ", shown.plain), style=shown.style, end=shown.end)
