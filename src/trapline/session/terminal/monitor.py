"""The monitor behind Ctrl-A c: a prompt beside the guest's console, with the commands that QEMU's users know."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable
from typing import Protocol

from trapline.isa.decode import Decoder
from trapline.isa.text import text
from trapline.lang.given import suggest
from trapline.session.terminal.expressions import evaluate

PROMPT = "(trapline) "
_MOST = 4096  # items that one x shows
_FORMAT = re.compile(r"(?:/([0-9]{0,9})(?:([xducis]?)([bhwg]?)|([bhwg])([xducis])))?")
_SIZES = {"b": 1, "h": 2, "w": 4, "g": 8}
_CHARACTERS = {n: chr(n) for n in range(32, 127)} | {9: "\\t", 10: "\\n", 13: "\\r", 34: '\\"', 92: "\\\\"}
_PRINTED: dict[str, Callable[[int], str]] = {
    "": lambda value: f"{value:#x}  ({value})",
    "x": lambda value: f"{value:#x}",
    "u": str,
    "d": lambda value: str(value - (value >> 63 << 64)),
    "c": lambda value: f"'{_character(value & 0xFF)}'",
    "t": lambda value: f"{value:#b}",
}
_USAGE_WIDTH = 18  # of a command in the list of help
_STRING_WIDTH = 50  # characters of a string in a line
_CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}
_ENTER, _ERASE, _KILL, _CANCEL, _ESCAPE = b"\r\n", (8, 127), 0x15, 0x03, 0x1B


class Target(Protocol):
    """What the monitor looks at: a guest's VM or a board. `cpu` counts from 0."""

    @property
    def cpus(self) -> int:
        """How many CPUs there are."""

    def status(self) -> Iterable[str]:
        """Say where each CPU is."""

    def registers(self, cpu: int) -> Iterable[str]:
        """List registers."""

    def statistics(self) -> Iterable[str]:
        """List the traps so far."""

    def memory_tree(self) -> Iterable[str]:
        """List what is at which physical address."""

    def mappings(self, cpu: int) -> Iterable[str]:
        """List the virtual addresses that are mapped."""

    def read(self, cpu: int, address: int, size: int, *, physical: bool) -> bytes:
        """Return memory; ValueError says what is not there."""

    def decoder(self, cpu: int) -> Decoder:
        """Return what decodes this CPU's instructions."""

    def pc(self, cpu: int) -> int:
        """Return the address of the next instruction."""

    def register(self, cpu: int, name: str) -> int:
        """Return a register by its name in lower case; ValueError if there is none such."""

    def translation(self, cpu: int, address: int) -> Iterable[str]:
        """Say how a virtual address is translated, stage by stage, and what is there; ValueError where it ends."""

    def snapshot(self, path: str) -> int:
        """Write the whole machine to a file; return its size. ValueError says why not."""


class Monitor:
    """Reads typed bytes, edits a line, runs commands; the three flags are for whoever runs the machine."""

    def __init__(self, target: Target, write: Callable[[bytes], object]) -> None:
        self._target, self._write = target, write
        self._line = bytearray()
        self._escape = b""
        self._history: list[bytes] = []
        self._back = 0
        self.cpu = 0
        self.stopped = self.quit_requested = self.reset_requested = False
        self.held_for = ""  # who else holds the machine
        self._commands: dict[str, tuple[str, str, Callable[[list[str]], Iterable[str]]]] = {
            "help": ("[CMD]", "this list, or what CMD takes", self._help),
            "info": ("status|registers|stats|mem|mtree|cpus", "what the machine is and does", self._info),
            "print": ("[/FMT] EXPR", "a value: $a0 + 8, $satp & 0xfff; FMT one of x d u c t", self._print),
            "x": ("/NFMT EXPR", "virtual memory: N of x d u c i(nstruction) s(tring), b h w g", self._x),
            "xp": ("/NFMT EXPR", "physical memory, likewise", lambda words: self._x(words, physical=True)),
            "gva2gpa": ("EXPR", "translate a virtual address, stage by stage", self._translate),
            "cpu": ("N", "look at CPU N from now on", self._cpu),
            "snapshot": ("FILE", "write the whole machine to a file, for --restore", self._snapshot),
            "stop": ("", "hold the machine", self._sets("stopped", True)),
            "cont": ("", "let it run on", self._sets("stopped", False)),
            "system_reset": ("", "start again from the beginning", self._sets("reset_requested", True)),
            "quit": ("", "end the run", self._sets("quit_requested", True)),
        }
        self._short = {"?": "help", "p": "print", "s": "stop", "c": "cont", "q": "quit"}

    # --- the line ---
    def prompt(self) -> None:
        """Show the prompt and what is typed so far."""
        self._show(PROMPT + self._line.decode("latin-1"))

    def type(self, data: bytes) -> None:
        """Bytes typed at the prompt."""
        for byte in data:
            self._key(byte)

    def _key(self, byte: int) -> None:
        if self._escape:
            self._arrow(byte)
        elif byte == _ESCAPE:
            self._escape = b"\x1b"
        elif byte in _ENTER:
            self._enter()
        elif byte in _ERASE:
            if self._line:
                del self._line[-1]
                self._show("\b \b")
        elif byte in (_KILL, _CANCEL):
            self._replace(b"")
        elif 0x20 <= byte < 0x7F:
            self._line.append(byte)
            self._show(chr(byte))

    def _arrow(self, byte: int) -> None:
        """Up and down walk through what was typed before; other sequences are swallowed."""
        if self._escape == b"\x1b" and byte in b"[O":
            self._escape += bytes((byte,))
            return
        self._escape = b""
        step = {0x41: 1, 0x42: -1}.get(byte, 0)
        wanted = self._back + step
        if step and 0 <= wanted <= len(self._history):
            self._back = wanted
            self._replace(self._history[-wanted] if wanted else b"")

    def _replace(self, line: bytes) -> None:
        self._show("\b \b" * len(self._line) + line.decode("latin-1"))
        self._line = bytearray(line)

    def _enter(self) -> None:
        line, self._line, self._back = bytes(self._line), bytearray(), 0
        self._show("\r\n")
        if line.strip():
            if self._history[-1:] != [line]:
                self._history.append(line)
            for answer in self.run(line.decode("latin-1")):
                self._show(answer + "\r\n")
        if not self.quit_requested:
            self.prompt()

    def _show(self, shown: str) -> None:
        self._write(shown.encode("latin-1", "replace"))

    # --- commands ---
    def run(self, line: str) -> list[str]:
        """Run one command; return what it answers."""
        words = line.replace("/", " /", 1).split() if re.match(r"\s*(xp?|p|print)\s*/", line) else line.split()
        name = self._short.get(words[0], words[0])
        if name not in self._commands:
            return [self._unknown(words[0])]
        usage, _, do = self._commands[name]
        if words[1:] and not usage:
            return [f"{name} takes no argument"]
        try:
            return list(do(words[1:]))
        except ValueError as error:
            return [str(error)]

    def _unknown(self, word: str) -> str:
        hint = suggest(word, [*self._commands, *self._short], ": ") or ": help lists them"
        return f"unknown command {word[:30]!r}{hint}"

    def _help(self, words: list[str]) -> Iterable[str]:
        short = {long: word for word, long in self._short.items()}
        wanted = [self._short.get(word, word) for word in words]
        for word in wanted:
            if word not in self._commands:
                yield self._unknown(word)
        for name, (usage, what, _) in self._commands.items():
            if wanted and name not in wanted:
                continue
            title = f"{name}|{short[name]}" if name in short else name
            title = f"{title} {usage}" if usage else title
            if len(title) < _USAGE_WIDTH:
                yield f"{title:{_USAGE_WIDTH}} {what}"
            else:
                yield title
                yield f"{'':{_USAGE_WIDTH}} {what}"
        if not wanted:
            yield "Ctrl-A c goes back to the guest's console, Ctrl-A x ends the run"

    def _info(self, words: list[str]) -> Iterable[str]:
        target = self._target
        if words[1:] and "registers".startswith(words[0]):
            return [self._named(word.lstrip("$").lower()) for word in words[1:]]
        found: dict[str, Callable[[], Iterable[str]]] = {
            "status": lambda: [self._state(), *target.status()],
            "cpus": target.status,
            "registers": lambda: target.registers(self.cpu),
            "stats": lambda: list(target.statistics()) or ["no trap so far"],
            "mem": lambda: target.mappings(self.cpu),
            "mtree": target.memory_tree,
        }
        names = [name for name in found if words and name.startswith(words[0])]
        exact = words[0] if words and words[0] in found else names[0] if len(names) == 1 else ""
        if not exact:
            near = suggest(words[0], found, ": ") if words else ""
            return [f"info {words[0][:30]!r}{near}"] if near else [f"info {'|'.join(found)}"]
        if words[1:]:
            return [f"info {exact} takes no argument"]
        return found[exact]()

    def _state(self) -> str:
        if self.held_for:
            return f"VM status: paused ({self.held_for})"
        return f"VM status: {'paused' if self.stopped else 'running'}"

    def _x(self, words: list[str], *, physical: bool = False) -> Iterable[str]:
        form = words.pop(0) if words and words[0].startswith("/") else ""
        match = _FORMAT.fullmatch(form)
        if match is None or not words:
            raise ValueError("x /NFMT EXPR: a count, one of x d u c i s, one of b h w g: x /4xg 0x80200000")
        address, count = self.value(words), int(match[1] or 1)
        if count > _MOST:
            raise ValueError(f"{count} are too many: x shows at most {_MOST} at once")
        kind = match[2] or match[5] or "x"
        size = _SIZES.get(match[3] or match[4] or "", 1 if kind == "c" else 4)
        if kind == "i":
            return self._instructions(address, count, physical)
        if kind == "s":
            return self._strings(address, count, physical)
        data = self._target.read(self.cpu, address, count * size, physical=physical)
        return _dump(address, data, kind, size)

    def _snapshot(self, words: list[str]) -> Iterable[str]:
        if len(words) != 1:
            raise ValueError("snapshot FILE: write the whole machine to a file")
        return [f"{words[0]}: {self._target.snapshot(words[0]) / 1e6:.1f} MB"]

    def value(self, words: list[str]) -> int:
        """Return the value of an expression, with the registers of the CPU that is looked at; ValueError."""
        return evaluate(" ".join(words), lambda name: self._target.register(self.cpu, name))

    def _named(self, name: str) -> str:
        return f"{name:>10} {self._target.register(self.cpu, name):016x}"

    def _print(self, words: list[str]) -> Iterable[str]:
        form = words.pop(0) if words and words[0].startswith("/") else "/"
        if form[1:] not in _PRINTED:
            raise ValueError("print /FMT EXPR: FMT one of x d u c t(wo, binary): print /d $sp - 16")
        return [_PRINTED[form[1:]](self.value(words))]

    def _translate(self, words: list[str]) -> Iterable[str]:
        return self._target.translation(self.cpu, self.value(words))

    def _instructions(self, address: int, count: int, physical: bool) -> Iterable[str]:
        decoder = self._target.decoder(self.cpu)
        for _ in range(count):
            bits = int.from_bytes(self._target.read(self.cpu, address, 2, physical=physical), "little")
            size = 4 if bits & 3 == 3 else 2
            if size == 4:
                bits |= int.from_bytes(self._target.read(self.cpu, address + 2, 2, physical=physical), "little") << 16
            found = decoder.decode(bits)
            shown = text(found, address) if found else "illegal"
            yield f"{address:#018x}: {f'{bits:0{2 * size}x}':8}  {shown}"
            address += size

    def _strings(self, address: int, count: int, physical: bool) -> Iterable[str]:
        """Yield strings up to their NUL; a long one goes on in a line with an address of its own, as in gdb."""
        first, start, shown = address, address, ""
        while count > 0 and address - first < _MOST:
            byte = self._target.read(self.cpu, address, 1, physical=physical)[0]
            address += 1
            shown += _character(byte) if byte else ""
            if byte == 0 or len(shown) > _STRING_WIDTH:
                yield f'{start:016x}: "{shown}"'
                start, shown = address, ""
                count -= byte == 0
        if shown:
            yield f'{start:016x}: "{shown}"'

    def _cpu(self, words: list[str]) -> Iterable[str]:
        if len(words) != 1 or not re.fullmatch("[0-9]{1,9}", words[0]) or int(words[0]) >= self._target.cpus:
            return [f"cpu N: 0 to {self._target.cpus - 1}"]
        self.cpu = int(words[0])
        return []

    def _sets(self, flag: str, value: bool) -> Callable[[list[str]], Iterable[str]]:
        def command(words: list[str]) -> Iterable[str]:
            setattr(self, flag, value)
            return []

        return command


def _character(byte: int) -> str:
    return _CHARACTERS.get(byte, f"\\x{byte:02x}")


def _dump(address: int, data: bytes, kind: str, size: int) -> Iterable[str]:
    """Yield lines of 16 bytes, of 8 where each is shown by itself: 80 columns."""
    length = 8 if size == 1 else 16
    code = _CODES[size].lower() if kind == "d" else _CODES[size]
    for at in range(0, len(data), length):
        row = data[at : at + length]
        values = [v for (v,) in struct.iter_unpack(f"<{code}", row)]
        if kind == "x":
            shown = " ".join(f"0x{v:0{2 * size}x}" for v in values)
        elif kind == "c":
            shown = " ".join(repr(chr(v & 0xFF)) for v in values)
        else:
            shown = " ".join(str(v) for v in values)
        yield f"{address + at:016x}: {shown}"
