"""NS16550A serial port (National Semiconductor PC16550D data sheet), registers one byte apart."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from trapline.lang.state import Hart

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


class Uart:
    """The serial port: transmits at once, receives from a queue that never overruns.

    `output` gets each transmitted byte; `interrupt(level)` follows the INTR pin.
    """

    def __init__(self, output: Callable[[bytes], None], interrupt: Callable[[bool], None] = lambda level: None) -> None:
        self._output = output
        self._interrupt = interrupt
        self._received: deque[int] = deque()
        self.reset()

    def reset(self) -> None:
        """Return to the state after master reset."""
        self._received.clear()
        self._ier = self._lcr = self._scr = self._fcr = 0
        self._mcr = 0
        self._divisor = 12
        self._thr_empty_pending = False
        self._modem_delta = 0
        self._modem = self._modem_lines()
        self._level = False

    def receive(self, data: bytes) -> None:
        """Bytes arrive on the line."""
        self._received.extend(data)
        self._update()

    def take(self, limit: int) -> bytes:
        """Take received bytes past the registers, for a console that is not this one (SBI)."""
        data = bytes(self._received.popleft() for _ in range(min(limit, len(self._received))))
        self._update()
        return data

    @property
    def unread(self) -> int:
        """Number of received bytes that software has not read yet."""
        return len(self._received)

    def load(self, hart: Hart, offset: int, size: int) -> int:
        """Read the register at `offset`; wider accesses see one register."""
        if offset == 5:  # what drivers poll: nothing changes by it
            return LSR_THRE | LSR_TEMT | (LSR_DR if self._received else 0)
        value = self._load(offset)
        self._update()
        return value

    def store(self, hart: Hart, offset: int, size: int, value: int) -> None:
        """Write the register at `offset`."""
        self._store(offset, value & 0xFF)
        self._update()

    def _load(self, offset: int) -> int:
        if self._lcr & LCR_DLAB and offset in (0, 1):
            return self._divisor >> (8 * offset) & 0xFF
        match offset:
            case 0:
                return self._received.popleft() if self._received else 0
            case 1:
                return self._ier
            case 2:
                return self._read_iir()
            case 3:
                return self._lcr
            case 4:
                return self._mcr
            case 6:
                status = self._modem | self._modem_delta
                self._modem_delta = 0
                return status
            case 7:
                return self._scr
        return 0

    def _read_iir(self) -> int:
        source = self._source()
        if source == IIR_THRI:
            self._thr_empty_pending = False
        return source | (IIR_FIFO_ON if self._fcr & FCR_ENABLE else 0)

    def _store(self, offset: int, value: int) -> None:
        if self._lcr & LCR_DLAB and offset in (0, 1):
            shift = 8 * offset
            self._divisor = self._divisor & ~(0xFF << shift) | value << shift
            return
        match offset:
            case 0:
                self._transmit(value)
            case 1:
                if value & IER_THRI and not self._ier & IER_THRI:
                    self._thr_empty_pending = True
                self._ier = value & 0x0F
            case 2:
                self._store_fcr(value)
            case 3:
                self._lcr = value
            case 4:
                self._mcr = value & 0x1F
                self._change_modem()
            case 7:
                self._scr = value

    def _transmit(self, value: int) -> None:
        if self._mcr & MCR_LOOP:
            self._received.append(value)
        else:
            self._output(bytes((value,)))
        self._thr_empty_pending = True

    def _store_fcr(self, value: int) -> None:
        # Changing the enable bit clears both FIFOs; input still waiting on the host side is in the
        # same queue here, and must survive a driver's probing: it is kept.
        if value & FCR_CLEAR_RX and value & FCR_ENABLE and self._mcr & MCR_LOOP:
            self._received.clear()
        self._fcr = value & 0xC9 if value & FCR_ENABLE else 0

    def _modem_lines(self) -> int:
        if not self._mcr & MCR_LOOP:
            return MSR_CTS | MSR_DSR | MSR_DCD
        pairs = ((MCR_RTS, MSR_CTS), (MCR_DTR, MSR_DSR), (MCR_OUT1, MSR_RI), (MCR_OUT2, MSR_DCD))
        return sum(line for control, line in pairs if self._mcr & control)

    def _change_modem(self) -> None:
        old, self._modem = self._modem, self._modem_lines()
        changed = old ^ self._modem
        trailing_ring = MSR_RI if old & ~self._modem & MSR_RI else 0
        self._modem_delta |= (changed & (MSR_CTS | MSR_DSR | MSR_DCD) | trailing_ring) >> 4

    def _source(self) -> int:
        """Return the interrupt identification of the source with the highest priority."""
        if self._ier & IER_RDI and self._received:
            if not self._fcr & FCR_ENABLE or len(self._received) >= _TRIGGER[self._fcr >> 6]:
                return IIR_RDI
            return IIR_TIMEOUT
        if self._ier & IER_THRI and self._thr_empty_pending:
            return IIR_THRI
        if self._ier & IER_MSI and self._modem_delta:
            return IIR_MSI
        return IIR_NONE

    def _update(self) -> None:
        level = self._source() != IIR_NONE
        if level != self._level:
            self._level = level
            self._interrupt(level)
