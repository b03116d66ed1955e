"""The serial port."""

from __future__ import annotations

from machine_fakes import FakeHart

from trapline.lang.devices import ASK_SOURCE, DeviceState
from trapline.machine.devices.uart import (
    FCR_ENABLE,
    IER_RDI,
    IER_THRI,
    IIR_NONE,
    IIR_RDI,
    IIR_THRI,
    IIR_TIMEOUT,
    LCR_DLAB,
    LSR_DR,
    LSR_TEMT,
    LSR_THRE,
    MCR_LOOP,
    MCR_RTS,
    MSR_CTS,
    Uart,
)
from trapline.machine.memory_map import UART_IRQ


class Bench:
    """A UART with its output and interrupt pin recorded."""

    def __init__(self) -> None:
        self.sent = b""
        self.pin: list[bool] = []
        self.hart, io = FakeHart(), DeviceState()
        io.answers[ASK_SOURCE] = lambda value: self.pin.append(value == UART_IRQ * 2 + 1)
        self.uart = Uart(self.hart, io, self._send)

    def _send(self, data: bytes) -> None:
        self.sent += data

    def read(self, register: int) -> int:
        """Read a register."""
        return self.uart.load(self.hart, register, 1)

    def write(self, register: int, value: int) -> None:
        """Write a register."""
        self.uart.store(self.hart, register, 1, value)


def test_transmission_is_immediate() -> None:
    """A byte written to THR goes out at once and the transmitter stays empty."""
    b = Bench()
    b.write(0, ord("A"))
    assert b.sent == b"A"
    assert b.read(5) == LSR_THRE | LSR_TEMT


def test_received_bytes_are_read_in_order() -> None:
    """LSR.DR shows received data until it is read."""
    b = Bench()
    b.uart.receive(b"hi")
    assert b.read(5) & LSR_DR
    assert (b.read(0), b.read(0)) == (ord("h"), ord("i"))
    assert not b.read(5) & LSR_DR


def test_receive_interrupt_follows_the_data() -> None:
    """With IER.RDI the pin rises with the data and falls when it is read."""
    b = Bench()
    b.write(1, IER_RDI)
    b.uart.receive(b"x")
    assert b.read(2) == IIR_RDI
    b.read(0)
    assert b.pin == [True, False]
    assert b.read(2) == IIR_NONE


def test_fifo_below_its_trigger_reports_a_timeout() -> None:
    """With the FIFO on, fewer bytes than the trigger level are a character timeout."""
    b = Bench()
    b.write(2, FCR_ENABLE | 0x80)
    b.write(1, IER_RDI)
    b.uart.receive(b"1234567")
    assert b.read(2) & 0x0F == IIR_TIMEOUT
    b.uart.receive(b"8")
    assert b.read(2) == 0xC0 | IIR_RDI


def test_transmit_interrupt_is_cleared_by_reading_iir() -> None:
    """Enabling IER.THRI interrupts at once; reading IIR acknowledges; the next byte interrupts again."""
    b = Bench()
    b.write(1, IER_THRI)
    assert b.read(2) == IIR_THRI
    assert b.read(2) == IIR_NONE
    b.write(0, 65)
    assert b.read(2) == IIR_THRI
    assert b.pin == [True, False, True, False]


def test_switching_the_transmit_interrupt_on_raises_it_again() -> None:
    """IER.THRI from 0 to 1 interrupts, also after IIR acknowledged it; a write that changes nothing does not."""
    b = Bench()
    b.write(1, IER_THRI)
    assert b.read(2) == IIR_THRI
    b.write(1, IER_THRI)
    assert b.read(2) == IIR_NONE
    b.write(1, 0)
    b.write(1, IER_THRI)
    assert b.read(2) == IIR_THRI


def test_a_long_text_waits_behind_the_fifo() -> None:
    """Input beyond what the FIFO holds is kept in order until there is room."""
    b = Bench()
    text = bytes(range(256)) * 4
    b.uart.receive(text[:1000])
    assert b.uart.unread == 1000
    assert b.uart.take(10) == text[:10]
    b.uart.receive(text[1000:])
    assert bytes(b.read(0) for _ in range(1014)) == text[10:]
    assert not b.read(5) & LSR_DR


def test_divisor_latch_hides_data_and_ier() -> None:
    """With LCR.DLAB registers 0 and 1 are the divisor."""
    b = Bench()
    b.write(3, LCR_DLAB | 3)
    b.write(0, 0x34)
    b.write(1, 0x12)
    assert (b.read(0), b.read(1)) == (0x34, 0x12)
    b.write(3, 3)
    assert b.read(1) == 0
    assert b.sent == b""


def test_loopback_returns_data_and_modem_lines() -> None:
    """In loopback nothing leaves the chip, and RTS shows as CTS."""
    b = Bench()
    b.write(4, MCR_LOOP | MCR_RTS)
    b.write(0, 0x55)
    assert b.sent == b""
    assert b.read(0) == 0x55
    assert b.read(6) & 0xF0 == MSR_CTS


def test_scratch_and_ier_bits() -> None:
    """The scratch register keeps a byte; IER keeps four bits, as drivers probe."""
    b = Bench()
    b.write(7, 0xA5)
    b.write(1, 0xFF)
    assert b.read(7) == 0xA5
    assert b.read(1) == 0x0F
