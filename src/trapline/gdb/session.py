"""One client's session: its packets and what they do (GDB manual, appendix Remote Protocol, Packets).

`handle` answers a packet, or returns a `Move` where the run is to go on: the answer is then the stop that follows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from trapline.gdb import description
from trapline.gdb.commands import Commands
from trapline.gdb.description import FIRST_CSR, PC
from trapline.gdb.packets import LARGEST, escape, unescape
from trapline.lang.functions import Trap

if TYPE_CHECKING:
    from trapline.engine.stop_points import Stop, Stopped
    from trapline.gdb.target import Target

_OK, _UNKNOWN, _WRONG, _NO_MEMORY, _REFUSED = b"OK", b"", b"E01", b"E14", b"E16"
_HEX = re.compile(r"[0-9a-fA-F]{1,16}")
_WATCHES = {2: "watch", 3: "rwatch", 4: "awatch"}
_SIGINT, _SIGTRAP = 2, 5


@dataclass(frozen=True, slots=True)
class Move:
    """How the run is to go on: `step` one attempt of a CPU, over and over while pc is in the range that is given."""

    how: Literal["continue", "step", "detach", "kill", "back-step", "back-continue", "restart"]
    cpu: int = 0
    first: int = 0
    end: int = 0
    answer: bytes = b""  # sent before the connection ends


class WrongPacket(ValueError):
    """A packet that does not have the form that its first letters ask for."""


class Session:
    """What one client has set and chosen. `reverse`: whether the run can go back."""

    def __init__(self, target: Target, *, reverse: bool = False) -> None:
        self.target, self.reverse = target, reverse
        self.commands = Commands(target)
        self.no_ack = False
        self._behind: tuple[int, int] | None = None
        self._points: dict[tuple[int, int, int], Stop] = {}
        self._cpu = target.current()
        self.last = self.stop_reply(None, _SIGTRAP)

    # --- what happened ---
    def stop_reply(self, stopped: Stopped | None, signal: int = _SIGTRAP, *, no_history: bool = False) -> bytes:
        """The answer to a move: why it is over."""
        if stopped is not None:
            self._cpu = stopped.hart
        parts = [f"thread:{self._cpu + 1:x};"]
        if no_history:
            parts.append("replaylog:begin;")
        point = None if stopped is None else next((k for k, v in self._points.items() if v is stopped.stop), None)
        self._behind = None
        if stopped is not None and point is not None and point[0] in _WATCHES:
            # gdb takes it that the access is still to be made (RISC-V's triggers come before it), and steps over it.
            self._behind = stopped.hart, stopped.pc
        if stopped is not None and point is not None:
            parts.append(f"{_WATCHES[point[0]]}:{stopped.address:x};" if point[0] in _WATCHES else "swbreak:;")
        self.last = f"T{signal:02x}{''.join(parts)}".encode()
        return self.last

    def story(self, stopped: Stopped | None) -> bytes | None:
        """A packet of text that tells of a catch, which gdb knows nothing of."""
        caught = None if stopped is None else self.commands.describe(stopped.stop)
        if stopped is None or caught is None:
            return None
        return b"O" + f"caught {caught}: {stopped.describe()}\n".encode().hex().encode()

    def end(self) -> None:
        """The client is gone: nothing of it stays."""
        for stop in self._points.values():
            self.target.stops.remove(stop)
        self._points.clear()
        self.commands.forget()

    # --- packets ---
    def handle(self, packet: bytes) -> bytes | Move | None:
        """Answer a packet; None where there is no answer."""
        try:
            return self._handle(packet)
        except WrongPacket:
            return _WRONG
        except (ValueError, Trap):
            return _REFUSED

    def _handle(self, packet: bytes) -> bytes | Move | None:
        letter, rest = packet[:1], packet[1:]
        if letter in b"MX" and letter:
            return self._write(letter, rest)
        text = packet.decode("latin-1")
        simple: dict[str, Callable[[str], bytes | Move | None]] = {
            "?": lambda _: self.last,
            "g": lambda _: self._all(),
            "G": self._set_all,
            "p": lambda t: self._register(_number(t)),
            "P": self._set_register,
            "m": self._read,
            "H": self._choose,
            "T": lambda t: _OK if self._exists(_number(t) - 1) else _WRONG,
            "Z": lambda t: self._point(t, put=True),
            "z": lambda t: self._point(t, put=False),
            "c": lambda t: self._resume("continue", t),
            "s": lambda t: self._resume("step", t),
            "C": lambda t: self._resume("continue", ""),
            "S": lambda t: self._resume("step", ""),
            "b": self._back,
            "D": lambda _: Move("detach", answer=_OK),
            "k": lambda _: Move("kill"),
            "v": self._verbose,
            "q": self._query,
            "Q": self._set_mode,
        }
        command = simple.get(text[:1])
        return _UNKNOWN if command is None else command(text[1:])

    def _exists(self, cpu: int) -> bool:
        return 0 <= cpu < len(self.target.harts)

    def _choose(self, text: str) -> bytes:
        if text[:1] not in ("g", "c"):
            return _WRONG
        if text[1:] in ("0", "-1"):
            return _OK
        cpu = _number(text[1:]) - 1
        if not self._exists(cpu):
            return _WRONG
        self._cpu = cpu
        return _OK

    # --- registers ---
    def _all(self) -> bytes:
        return b"".join(self._register(number) for number in range(self._in_g()))

    def _in_g(self) -> int:
        return FIRST_CSR if description.exists(self.target.harts[self._cpu], 1) else PC + 1

    def _set_all(self, text: str) -> bytes:
        data = _bytes(text)
        if len(data) != 8 * self._in_g():
            return _WRONG
        for number in range(self._in_g()):
            value = int.from_bytes(data[8 * number : 8 * number + 8], "little")
            if number != PC or self._behind != (self._cpu, value):
                self.target.set(self._cpu, number, value)
        self.target.changed = True
        return _OK

    def _register(self, number: int) -> bytes:
        if number == PC and self._behind is not None and self._behind[0] == self._cpu:
            return self._behind[1].to_bytes(8, "little").hex().encode()
        try:
            value = self.target.get(self._cpu, number)
        except ValueError:
            return _WRONG
        return (value & (1 << 64) - 1).to_bytes(8, "little").hex().encode()

    def _set_register(self, text: str) -> bytes:
        number, equals, value = text.partition("=")
        data = _bytes(value)
        if not equals or len(data) != 8:
            return _WRONG
        self.target.set(self._cpu, _number(number), int.from_bytes(data, "little"))
        self.target.changed = True
        if _number(number) == PC:
            self._behind = None
        return _OK

    # --- memory ---
    def _read(self, text: str) -> bytes:
        address, size = _numbers(text, 2)
        try:
            return self.target.read(self._cpu, address, min(size, LARGEST // 2)).hex().encode()
        except ValueError:
            return _NO_MEMORY

    def _write(self, letter: bytes, rest: bytes) -> bytes:
        head, colon, content = rest.partition(b":")
        address, size = _numbers(head.decode("latin-1"), 2)
        data = unescape(content) if letter == b"X" else _bytes(content.decode("latin-1"))
        if not colon or len(data) != size:
            return _WRONG
        try:
            self.target.write(self._cpu, address, data)
            self.target.changed = True
        except ValueError:
            return _NO_MEMORY
        return _OK

    # --- stops ---
    def _point(self, text: str, *, put: bool) -> bytes:
        fields = text.split(";")[0].split(",")
        if len(fields) != 3 or not fields[0].isdecimal():
            return _WRONG
        kind, address, size = int(fields[0]), _number(fields[1]), _number(fields[2])
        if kind > 4:
            return _UNKNOWN
        key = kind, address, size
        if not put:
            if key in self._points:
                self.target.stops.remove(self._points.pop(key))
            return _OK
        if key in self._points:
            return _OK
        stops = self.target.stops
        try:
            if kind < 2:
                self._points[key] = stops.breakpoint(address)
            else:
                self._points[key] = stops.watch(address, size, write=kind != 3, read=kind != 2)
        except ValueError:
            return _WRONG
        return _OK

    # --- moving on ---
    def _resume(self, how: Literal["continue", "step"], text: str) -> bytes | Move:
        if text:
            self.target.set_pc(self._cpu, _number(text))
            self.target.changed = True
            self._behind = None
        return self._move(Move(how, self._cpu))

    def _move(self, move: Move) -> bytes | Move:
        """The step over a watched access is made already: nothing but pc is still to be shown as it is."""
        behind, self._behind = self._behind, None
        if move.how == "step" and behind is not None and behind[0] == move.cpu:
            self._cpu = move.cpu
            return self.stop_reply(None)
        return move

    def _back(self, text: str) -> bytes | Move:
        if not self.reverse or text not in ("s", "c"):
            return _UNKNOWN
        return Move("back-step" if text == "s" else "back-continue", self._cpu)

    def _verbose(self, text: str) -> bytes | Move:
        name, _, rest = text.partition(";")
        if text == "Cont?":
            return b"vCont;c;C;s;S;r"
        if name == "Cont":
            return self._cont(rest)
        return Move("kill", answer=_OK) if name == "Kill" else _UNKNOWN

    def _cont(self, text: str) -> bytes | Move:
        """The first step that is asked for, else go on: CPUs run as their schedule has them."""
        moves = [self._action(part) for part in text.split(";")]
        return self._move(next((move for move in moves if move.how == "step"), moves[0]))

    def _action(self, part: str) -> Move:
        action, _, thread = part.partition(":")
        cpu = self._cpu if thread in ("", "-1", "0") else _number(thread) - 1
        if not self._exists(cpu):
            raise WrongPacket
        if action[:1] in ("c", "C"):
            return Move("continue", cpu)
        if action[:1] in ("s", "S"):
            return Move("step", cpu)
        if action[:1] == "r":
            first, end = _numbers(action[1:], 2)
            return Move("step", cpu, first, end)
        raise WrongPacket

    # --- questions ---
    def _set_mode(self, text: str) -> bytes:
        if text != "StartNoAckMode":
            return _UNKNOWN
        self.no_ack = True
        return _OK

    def _query(self, text: str) -> bytes | Move:
        name, _, rest = text.partition(":")
        threads = range(1, len(self.target.harts) + 1)
        match name:
            case "Supported":
                return self._supported()
            case "C":
                return f"QC{self._cpu + 1:x}".encode()
            case "fThreadInfo":
                return b"m" + ",".join(f"{n:x}" for n in threads).encode()
            case "sThreadInfo":
                return b"l"
            case "Attached":
                return b"1"
            case "Symbol":
                return _OK
            case "Xfer":
                return self._transfer(rest)
        if text.startswith("ThreadExtraInfo,"):
            cpu = _number(text.partition(",")[2]) - 1
            return self.target.state(cpu).encode().hex().encode() if self._exists(cpu) else _WRONG
        if text.startswith("Rcmd,"):
            line = _bytes(text.partition(",")[2]).decode("latin-1")
            if line.split() == ["system_reset"]:
                return Move("restart")
            return self.commands.run(line, self._cpu).encode("latin-1", "replace").hex().encode() or _OK
        return _UNKNOWN

    def _supported(self) -> bytes:
        found = f"PacketSize={LARGEST:x};qXfer:features:read+;qXfer:threads:read+;qXfer:memory-map:read+"
        back = ";ReverseStep+;ReverseContinue+" if self.reverse else ""
        return f"{found};QStartNoAckMode+;vContSupported+;swbreak+{back}".encode()

    def _transfer(self, text: str) -> bytes:
        fields = text.split(":")
        if len(fields) != 4 or fields[1] != "read":
            return _UNKNOWN
        what, _, annex, place = fields
        offset, size = _numbers(place, 2)
        if what == "features" and annex == "target.xml":
            whole = description.description(self.target.harts[self._cpu])
        elif what == "threads" and not annex:
            whole = self._threads()
        elif what == "memory-map" and not annex:
            whole = description.memory_map(self.target.roms())
        else:
            return b"E00"
        data = whole.encode()
        part = data[offset : offset + min(size, LARGEST // 2)]
        return (b"m" if offset + len(part) < len(data) else b"l") + escape(part)

    def _threads(self) -> str:
        rows = "".join(
            f'<thread id="{n + 1:x}" core="{n}" name="CPU {n}">{self.target.state(n)}</thread>\n'
            for n in range(len(self.target.harts))
        )
        return f'<?xml version="1.0"?>\n<threads>\n{rows}</threads>\n'


def _number(text: str) -> int:
    if not _HEX.fullmatch(text):
        raise WrongPacket
    return int(text, 16)


def _numbers(text: str, count: int) -> list[int]:
    found = [_number(part) for part in text.split(",")]
    if len(found) != count:
        raise WrongPacket
    return found


def _bytes(text: str) -> bytes:
    if len(text) % 2 or (text and not re.fullmatch(r"[0-9a-fA-F]+", text)):
        raise WrongPacket
    return bytes.fromhex(text)
