"""What a guest transmits, by lines: the same output in the same order, unless somebody waits for each byte."""

from __future__ import annotations

import pytest
from tests.machine.test_machine_uart import FakeHart

from trapline.lang.devices import LINE, DeviceState
from trapline.machine.devices.uart import Uart
from trapline.session.terminal.console import Console
from trapline.session.terminal.sources import InputSource, NoInput, Script
from trapline.session.terminal.watch import Watch


class Port:
    """A UART that a console has connected; `handed` is what it gave the console, call by call."""

    def __init__(self, source: InputSource | None = None) -> None:
        self.handed: list[bytes] = []
        self.out: list[bytes] = []
        self.console = Console(self.out.append, source)
        self.hart = FakeHart()
        self.uart = Uart(self.hart, DeviceState(), self._hand)
        self.console.connect(self.uart)

    def _hand(self, data: bytes) -> None:
        self.handed.append(data)
        self.console.write(data)

    def send(self, data: bytes) -> None:
        """The guest writes to THR."""
        for byte in data:
            self.uart.store(self.hart, 0, 1, byte)


def test_a_line_is_handed_on_as_a_whole() -> None:
    """The host gets a line when it ends, and the rest when the console is flushed."""
    port = Port()
    port.send(b"one\ntw")
    assert port.handed == [b"one\n"]
    port.console.flush()
    assert port.handed == [b"one\n", b"tw"]
    assert port.out == [b"one\n", b"tw"]


def test_a_line_without_an_end_is_handed_on() -> None:
    """What is longer than the buffer goes to the host in pieces, and nothing is lost."""
    port = Port()
    text = bytes(65 + at % 26 for at in range(LINE * 3 + 5))
    port.send(text)
    assert [len(data) for data in port.handed] == [LINE] * 3
    port.console.flush()
    assert b"".join(port.out) == text


def test_other_output_comes_behind_what_was_transmitted_before() -> None:
    """A byte of the UART stands before what another device writes after it."""
    port = Port()
    port.send(b"uart ")
    port.console.write(b"sbi ")
    port.send(b"uart\n")
    port.console.show(b"monitor")
    assert b"".join(port.out) == b"uart sbi uart\nmonitor"


@pytest.mark.parametrize("way", ["script", "told", "unknown source"])
def test_who_waits_for_a_text_gets_each_byte(way: str) -> None:
    """A script, a watched text and a source that does not say that it does not listen see a byte when it is written."""
    source = {"script": Script([(b"=>", b"x")]), "unknown source": Watch(NoInput(), b"=>", lambda: None)}.get(way)
    port = Port(source)
    if way == "told":
        port.send(b"before")
        port.console.tell(port, b"=>", lambda _: None, lambda: None)
        assert port.handed == [b"before"]
    port.handed.clear()
    port.send(b"ab")
    assert port.handed == [b"a", b"b"]
    port.console.forget(port)
    port.console.source = NoInput()
    port.send(b"cd")
    assert port.handed == [b"a", b"b"]
