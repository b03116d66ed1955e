"""Waiting for a text on the console: an input source that listens to the output, and passes the input on."""

from __future__ import annotations

from collections.abc import Callable

from trapline.session.terminal.sources import InputSource, Position


class Watch:
    """`source` as it is; `found` is called once, when the guest has written `text`, at that very instruction."""

    def __init__(self, source: InputSource, text: bytes, found: Callable[[], None]) -> None:
        self._source, self._text, self._found = source, text, found
        self._tail = b""
        self.seen = False

    @property
    def keyboard(self) -> bool:
        """As the source."""
        return self._source.keyboard

    @property
    def live(self) -> bool:
        """As the source."""
        return self._source.live

    def poll(self, position: Position) -> bytes:
        """As the source."""
        return self._source.poll(position)

    def wait(self, seconds: float | None) -> bool:
        """As the source."""
        return self._source.wait(seconds)

    def next_position(self) -> Position | None:
        """As the source."""
        return self._source.next_position()

    def on_output(self, data: bytes) -> bool:
        """Look for the text, also where two writes meet."""
        if not self.seen:
            together = self._tail + data
            self._tail = together[-len(self._text) :]
            if self._text in together:
                self.seen = True
                self._found()
        return self._source.on_output(data)
