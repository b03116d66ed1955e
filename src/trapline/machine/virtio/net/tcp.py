"""TCP between the guest and a socket of the host (RFC 9293, as far as a wire that loses nothing needs it)."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable

from trapline.machine.virtio.net.frames import ACK, FIN, MTU, PSH, RST, SYN, Tcp

_MASK = 0xFFFF_FFFF
_LIMIT = 128 << 10  # bytes that are kept for either side
_SCALE = 3
_MSS = MTU - 40
_TIMEOUT = 1_000_000_000  # nanoseconds of the guest's time until the guest must have answered
_TRIES = 8

Key = tuple[bytes, int, int]  # the guest's address and port, the other side's port


class TcpConnection:
    """One connection. `send` puts a segment on the wire; `closed` says that it can be forgotten."""

    def __init__(self, key: Key, sock: socket.socket, send: Callable[[Tcp], None], now: Callable[[], int]) -> None:
        self.key, self.socket = key, sock
        self._send, self._now = send, now
        self.closed = False
        self.connecting = False  # the host's side is not there yet
        self._open = False  # both sides have said SYN
        self._active = False
        self._una = self._nxt = 0x1000_0000 + key[1] * 0x1_0001 & _MASK
        self._rcv = 0
        self._window = 0
        self._their_scale: int | None = None
        self._mss = _MSS
        self._to_guest = bytearray()  # from `_una` on
        self._to_host = bytearray()
        self._host_ended = self._guest_ended = self._fin_sent = self._fin_acked = self._shut = False
        self._progress, self._tries, self._repeats = now(), 0, 0
        self._offered = _LIMIT

    # --- opening ---
    def accept(self, syn: Tcp) -> None:
        """The guest asks for a connection: connect to the host's side first."""
        self._rcv = syn.seq + 1 & _MASK
        self._take_options(syn)
        self.connecting = True

    def connected(self) -> None:
        """The host's side is there, or refuses."""
        self.connecting = False
        if self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.reset()
            return
        self._say_syn()

    def connect(self) -> None:
        """The host asks for a connection to the guest."""
        self._active = True
        self._say_syn()

    def _say_syn(self) -> None:
        scale = _SCALE if self._active or self._their_scale is not None else None
        flags = SYN if self._active else SYN | ACK
        window = min(_LIMIT, 0xFFFF)
        self._nxt = self._una + 1 & _MASK
        self._segment(self._una, flags, window=window, mss=_MSS, scale=scale)

    def _take_options(self, syn: Tcp) -> None:
        self._mss = max(64, min(_MSS, syn.mss or 536))
        self._their_scale = syn.scale
        self._window = syn.window

    # --- from the guest ---
    def receive(self, segment: Tcp) -> None:
        """Take a segment of the guest."""
        if segment.flags & RST:
            # The host's side sees a reset too, instead of an end.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._drop()
        elif self.connecting:
            return  # the guest repeats its SYN
        elif segment.flags & SYN:
            self._receive_syn(segment)
        elif segment.flags & ACK:
            if not self._open and segment.ack == self._nxt and not self._active:
                self._open, self._una = True, self._nxt
            if self._open:
                self._acknowledged(segment)
                self._take(segment)
                self.output()

    def _receive_syn(self, segment: Tcp) -> None:
        if not self._active:
            self._say_syn()
        elif not self._open and segment.flags & ACK and segment.ack == self._nxt:
            self._rcv = segment.seq + 1 & _MASK
            self._take_options(segment)
            self._open, self._una = True, self._nxt
            self._moved()
            self._segment(self._nxt, ACK)
        elif self._open:
            self._segment(self._nxt, ACK)

    def _acknowledged(self, segment: Tcp) -> None:
        count = segment.ack - self._una & _MASK
        most = len(self._to_guest) + int(self._fin_sent)
        if count > most:
            return
        self._window = segment.window << (self._their_scale or 0)
        if count:
            data = min(count, len(self._to_guest))
            del self._to_guest[:data]
            self._fin_acked = self._fin_acked or count > data
            self._una = segment.ack
            if (self._nxt - self._una & _MASK) > _LIMIT * 2:
                self._nxt = self._una
            self._moved()
        elif self._nxt != self._una and not segment.payload and not segment.flags & FIN:
            self._repeats += 1
            if self._repeats == 3:
                self._again()

    def _take(self, segment: Tcp) -> None:
        """Take what is new of the guest's data, and its end."""
        old = self._rcv - segment.seq & _MASK
        if old > 1 << 31:
            self._segment(self._nxt, ACK)  # something is missing: ask for it
            return
        fresh = segment.payload[old:][: _LIMIT - len(self._to_host)]
        self._to_host += fresh
        self._rcv = self._rcv + len(fresh) & _MASK
        end = segment.seq + len(segment.payload) & _MASK
        if segment.flags & FIN and end == self._rcv and not self._guest_ended:
            self._guest_ended = True
            self._rcv = self._rcv + 1 & _MASK
        if segment.payload or segment.flags & FIN:
            self._flush()
            self._segment(self._nxt, ACK)

    def _flush(self) -> None:
        """Pass data on to the host."""
        try:
            while self._to_host:
                del self._to_host[: self.socket.send(self._to_host)]
            if self._guest_ended and not self._shut:
                self._shut = True
                with contextlib.suppress(OSError):
                    self.socket.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            return
        except OSError:
            self.reset()

    # --- from the host ---
    @property
    def wants_data(self) -> bool:
        """Whether there is room for data of the host."""
        return self._open and not self._host_ended and len(self._to_guest) < min(_LIMIT, max(self._window, 1))

    @property
    def wants_room(self) -> bool:
        """Whether data waits for the host to take it, or the connection for the host to answer."""
        return self.connecting or bool(self._to_host)

    def poll(self, *, readable: bool, writable: bool) -> None:
        """Look after the host's socket, which has data or room, and after the guest's silence."""
        if self.connecting:
            if writable:
                self.connected()
            return
        if writable and self._to_host:
            self._flush()
            if self._offered < self._mss:
                self._segment(self._nxt, ACK)
        if readable and self.wants_data:
            self._fetch()
        self.output()
        if not self.closed and self._nxt != self._una and self._now() - self._progress > _TIMEOUT:
            self._tries += 1
            if self._tries > _TRIES:
                self.reset()
            else:
                self._again()

    def _fetch(self) -> None:
        try:
            data = self.socket.recv(_LIMIT - len(self._to_guest))
        except BlockingIOError:
            return
        except OSError:
            self.reset()
            return
        self._to_guest += data
        self._host_ended = not data

    def output(self) -> None:
        """Send what the guest has room for."""
        if self.closed or not self._open:
            return
        while not self._fin_sent:
            sent = self._nxt - self._una & _MASK
            size = min(len(self._to_guest) - sent, self._window - sent, self._mss)
            if size <= 0:
                break
            self._segment(self._nxt, ACK | PSH, bytes(self._to_guest[sent : sent + size]))
            self._nxt = self._nxt + size & _MASK
        if self._host_ended and not self._fin_sent and (self._nxt - self._una & _MASK) == len(self._to_guest):
            self._segment(self._nxt, FIN | ACK)
            self._nxt = self._nxt + 1 & _MASK
            self._fin_sent = True
        if self._fin_acked and self._shut and not self._to_host:
            self._drop()

    def _again(self) -> None:
        """The guest did not get it: send from the first byte that it lacks."""
        self._moved(keep_tries=True)
        if not self._open:
            self._say_syn()
            return
        self._nxt, self._fin_sent = self._una, False
        self.output()

    def _moved(self, *, keep_tries: bool = False) -> None:
        self._progress, self._repeats = self._now(), 0
        if not keep_tries:
            self._tries = 0

    # --- ending ---
    def reset(self) -> None:
        """Tell the guest that the connection is gone."""
        if not self.closed:
            self._segment(self._nxt, RST | ACK)
        self._drop()

    def _drop(self) -> None:
        self.closed = True
        self.socket.close()

    def _segment(
        self, seq: int, flags: int, payload: bytes = b"", *, window: int | None = None, mss: int | None = None,
        scale: int | None = None,
    ) -> None:  # fmt: skip
        if window is None:
            self._offered = _LIMIT - len(self._to_host)
            scaled = self._their_scale is not None
            window = min(0xFFFF, self._offered >> _SCALE if scaled else self._offered)
        _, guest_port, port = self.key
        self._send(Tcp(port, guest_port, seq, self._rcv, flags, window, payload, mss, scale))
