"""NS16550A serial port (National Semiconductor PC16550D data sheet), registers one byte apart."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import ClassVar

from trapline.lang.devices import ASK_REFILL, ASK_TRANSMIT, DEVICES, FIFO, LINE, DeviceState, Registers, ask_host
from trapline.lang.functions import cold, hosted
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.machine.devices.plic import drive_source
from trapline.machine.memory_map import UART_IRQ
from trapline.session.state.plain_types import U8

RBR_THR, IER_REG, IIR_FCR, LCR_REG, MCR_REG, LSR_REG, MSR_REG, SCR_REG = range(8)

IER_RDI, IER_THRI, IER_RLSI, IER_MSI = 1, 2, 4, 8
IIR_NONE, IIR_MSI, IIR_THRI, IIR_RDI, IIR_RLSI, IIR_TIMEOUT = 0x01, 0x00, 0x02, 0x04, 0x06, 0x0C
IIR_FIFO_ON = 0xC0
FCR_ENABLE, FCR_CLEAR_RX, FCR_CLEAR_TX = 1, 2, 4
LCR_DLAB = 0x80
MCR_DTR, MCR_RTS, MCR_OUT1, MCR_OUT2, MCR_LOOP = 1, 2, 4, 8, 16
LSR_DR, LSR_THRE, LSR_TEMT = 0x01, 0x20, 0x40
MSR_CTS, MSR_DSR, MSR_RI, MSR_DCD = 0x10, 0x20, 0x40, 0x80

_TRIGGER = (1, 4, 8, 14)
_REAL_FIFO = 16  # with no more than that in the FIFO, the host hands out what it holds
_NEWLINE = 10
_LINES = MSR_CTS | MSR_DSR | MSR_DCD


@cold
def uart_source(io: DeviceState) -> U64:
    """The interrupt identification of the source with the highest priority."""
    if io.uart_ier & IER_RDI != 0 and io.uart_count != 0:
        if io.uart_fcr & FCR_ENABLE == 0 or io.uart_count >= _TRIGGER[io.uart_fcr >> 6]:
            return U64(IIR_RDI)
        return U64(IIR_TIMEOUT)
    if io.uart_ier & IER_THRI != 0 and io.uart_thr_empty != 0:
        return U64(IIR_THRI)
    if io.uart_ier & IER_MSI != 0 and io.uart_modem_delta != 0:
        return U64(IIR_MSI)
    return U64(IIR_NONE)


@hosted
def uart_update(hart: Hart, io: DeviceState) -> None:
    """Drive the INTR pin: after whatever may change its sources, also where it stays high."""
    pin = U64(1) if uart_source(io) != IIR_NONE else U64(0)
    if pin | io.uart_pin != 0:
        changed = pin != io.uart_pin
        io.uart_pin = pin
        drive_source(hart, io, U64(UART_IRQ), pin != 0, changed)


@cold
def uart_put(io: DeviceState, byte: U64) -> None:
    """A byte arrives; one for which there is no room is lost."""
    if io.uart_count < FIFO:
        io.uart_fifo[(io.uart_first + io.uart_count) & (FIFO - 1)] = byte
        io.uart_count = io.uart_count + 1


@cold
def uart_take(hart: Hart, io: DeviceState) -> U64:
    """RBR: the byte that arrived first, or 0."""
    if io.uart_count == 0:
        return U64(0)
    byte = io.uart_fifo[io.uart_first]
    io.uart_first = (io.uart_first + 1) & (FIFO - 1)
    io.uart_count = io.uart_count - 1
    if io.uart_more != 0 and io.uart_count <= _REAL_FIFO:
        ask_host(hart, io, ASK_REFILL, U64(0))
    uart_update(hart, io)
    return byte


@cold
def uart_identify(hart: Hart, io: DeviceState) -> U64:
    """IIR: reading it acknowledges an empty transmitter, if it says so."""
    source = uart_source(io)
    if source == IIR_THRI:
        io.uart_thr_empty = 0
        uart_update(hart, io)
    return source | IIR_FIFO_ON if io.uart_fcr & FCR_ENABLE != 0 else source


@cold
def uart_modem_status(hart: Hart, io: DeviceState) -> U64:
    """MSR: reading it acknowledges what has changed."""
    status = io.uart_modem | io.uart_modem_delta
    if io.uart_modem_delta != 0:
        io.uart_modem_delta = 0
        uart_update(hart, io)
    return status


@hosted
def uart_load(hart: Hart, io: DeviceState, offset: U64, size: U64) -> U64:
    """Read the register at `offset`; wider accesses see one register."""
    if offset == LSR_REG:
        return U64(LSR_THRE | LSR_TEMT | LSR_DR) if io.uart_count != 0 else U64(LSR_THRE | LSR_TEMT)
    if io.uart_lcr & LCR_DLAB != 0 and offset <= IER_REG:
        return (io.uart_divisor >> (8 * offset)) & 0xFF
    if offset == RBR_THR:
        return uart_take(hart, io)
    if offset == IER_REG:
        return io.uart_ier
    if offset == IIR_FCR:
        return uart_identify(hart, io)
    if offset == LCR_REG:
        return io.uart_lcr
    if offset == MCR_REG:
        return io.uart_mcr
    if offset == MSR_REG:
        return uart_modem_status(hart, io)
    return io.uart_scr if offset == SCR_REG else U64(0)


@hosted
def uart_calm(hart: Hart, io: DeviceState, offset: U64, size: U64) -> bool:
    """RBR takes a byte, IIR and MSR acknowledge; with DLAB even the first is harmless, but nobody polls it."""
    return offset != RBR_THR and offset != IIR_FCR and offset != MSR_REG


@cold
def uart_transmit(hart: Hart, io: DeviceState, byte: U64) -> None:
    """THR: the byte leaves at once. The host gets whole lines, unless somebody waits for each byte."""
    io.uart_thr_empty = 0
    uart_update(hart, io)
    if io.uart_mcr & MCR_LOOP != 0:
        uart_put(io, byte)
    else:
        io.uart_line[io.uart_held] = byte
        io.uart_held = io.uart_held + 1
        if byte == _NEWLINE or io.uart_held >= io.uart_most:
            ask_host(hart, io, ASK_TRANSMIT, io.uart_held)
    io.uart_thr_empty = 1
    uart_update(hart, io)


@cold
def uart_enable(hart: Hart, io: DeviceState, enable: U64) -> None:
    """IER: an empty transmitter interrupts when its interrupt is switched on, also if it was acknowledged."""
    changed = io.uart_ier ^ enable
    io.uart_ier = enable
    if changed & IER_THRI != 0:
        io.uart_thr_empty = U64(1) if enable & IER_THRI != 0 else U64(0)
    if changed != 0:
        uart_update(hart, io)


@cold
def uart_control_fifo(hart: Hart, io: DeviceState, value: U64) -> None:
    """FCR. Input that waits on the host's side survives a driver's probing: only loopback empties the FIFO."""
    if value & FCR_CLEAR_RX != 0 and value & FCR_ENABLE != 0 and io.uart_mcr & MCR_LOOP != 0:
        io.uart_count = 0
    io.uart_fcr = value & 0xC9 if value & FCR_ENABLE != 0 else U64(0)
    uart_update(hart, io)


@cold
def modem_lines(control: U64) -> U64:
    """The modem's lines: all is well; in loopback they are the outputs of MCR."""
    if control & MCR_LOOP == 0:
        return U64(_LINES)
    lines = U64(MSR_CTS) if control & MCR_RTS != 0 else U64(0)
    if control & MCR_DTR != 0:
        lines = lines | MSR_DSR
    if control & MCR_OUT1 != 0:
        lines = lines | MSR_RI
    if control & MCR_OUT2 != 0:
        lines = lines | MSR_DCD
    return lines


@cold
def uart_control_modem(hart: Hart, io: DeviceState, control: U64) -> None:
    """MCR: what changes at the modem's lines is noted; of RI, its end."""
    old = io.uart_modem
    io.uart_mcr = control
    io.uart_modem = modem_lines(control)
    changed = ((old ^ io.uart_modem) & _LINES) | (old & ~io.uart_modem & MSR_RI)
    io.uart_modem_delta = io.uart_modem_delta | (changed >> 4)
    uart_update(hart, io)


@hosted
def uart_store(hart: Hart, io: DeviceState, offset: U64, size: U64, value: U64) -> None:
    """Write the register at `offset`."""
    byte = value & 0xFF
    if io.uart_lcr & LCR_DLAB != 0 and offset <= IER_REG:
        shift = 8 * offset
        io.uart_divisor = (io.uart_divisor & ~(U64(0xFF) << shift)) | (byte << shift)
    elif offset == RBR_THR:
        uart_transmit(hart, io, byte)
    elif offset == IER_REG:
        uart_enable(hart, io, byte & 0x0F)
    elif offset == IIR_FCR:
        uart_control_fifo(hart, io, byte)
    elif offset == LCR_REG:
        io.uart_lcr = byte
    elif offset == MCR_REG:
        uart_control_modem(hart, io, byte & 0x1F)
    elif offset == SCR_REG:
        io.uart_scr = byte


class Uart(Registers):
    """The serial port: transmits at once, receives from a queue that never overruns.

    `output` gets what is transmitted: each byte at once, or whole lines where a console has
    connected it (`hold`). Its pin is source UART_IRQ of the interrupt controller.
    """

    on_load, on_store, on_calm = uart_load, uart_store, uart_calm
    snapshot_types: ClassVar = {"_waiting": deque[U8]}

    def __init__(self, hart: Hart, io: DeviceState, output: Callable[[bytes], None]) -> None:
        super().__init__(io)
        self._hart = hart  # for what arrives from outside: any hart of the machine
        self._waiting: deque[int] = deque()  # received, but not in the FIFO yet
        self._output = output
        io.answers[ASK_TRANSMIT] = lambda _: self.drain()
        io.answers[ASK_REFILL] = lambda _: self._refill()
        io.uart_divisor = 12
        io.uart_modem = _LINES

    def hold(self, *, lines: bool) -> None:
        """Hand on what is transmitted when a line ends or at `drain`, or each byte."""
        self.io.uart_most = LINE if lines else 1

    def drain(self) -> None:
        """Hand on what is held."""
        count = int(self.io.uart_held)
        if count:
            self.io.uart_held = 0
            at = DEVICES.fields["uart_line"].index
            self._output(bytes(self.io.mem[at : at + count].tolist()))

    def _refill(self) -> None:
        while self._waiting and self.io.uart_count < FIFO:
            uart_put(self.io, U64(self._waiting.popleft()))
        self.io.uart_more = int(bool(self._waiting))

    def receive(self, data: bytes) -> None:
        """Bytes arrive on the line."""
        if not data:
            return
        self._waiting.extend(data)
        self._refill()
        self._hart.call(uart_update, self.io)

    def take(self, limit: int) -> bytes:
        """Take received bytes past the registers, for a console that is not this one (SBI)."""
        return bytes(self.load(self._hart, RBR_THR, 1) for _ in range(min(limit, self.unread)))

    @property
    def unread(self) -> int:
        """Number of received bytes that software has not read yet."""
        return int(self.io.uart_count) + len(self._waiting)
