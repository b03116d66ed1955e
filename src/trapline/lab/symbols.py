"""Names for addresses: System.map, /proc/kallsyms (with modules), or an ELF with a symbol table, for each level.

A kernel that has moved (KASLR) is recognised by the handler that a level's traps were seen to enter.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from pathlib import Path

from trapline.dataclass import dataclass, field
from trapline.lab.errors import UsageError
from trapline.machine.load.content import Content, ImageError, OpenFile
from trapline.machine.load.elf import is_elf, parse
from trapline.named_files import open_input

LEVELS = ("M", "HS", "VS", "U", "VU")
# The trap vector of Linux (arch/riscv/kernel/entry.S), and those of OpenSBI (firmware/fw_base.S).
ANCHORS = ("handle_exception", "_trap_handler", "_trap_handler_hyp", "_trap_handler_rv32_hyp")
FARTHEST = 1 << 20  # bytes behind the last symbol that may still be its own
PAGE = 4096
_MOST = 64 << 20  # bytes of a list of names
_LINE = re.compile(r"([0-9a-fA-F]{8,16})\s+(\S)\s+(\S+)(?:\s+\[(\w+)\])?\s*")
_LOCAL = (".L", "$")  # labels of the assembler, which modules keep
_REMEDY = "write FILE, or LEVEL=FILE with M, HS, VS, U or VU"


@dataclass(slots=True)
class Table:
    """Symbols of one file, sorted by address; `offset` is how far the program has moved."""

    name: str
    level: str | None
    addresses: list[int] = field(repr=False)
    names: list[str] = field(repr=False)
    offset: int = 0

    def find(self, pc: int) -> tuple[str, int] | None:
        """Return the symbol at or before a pc, and the distance to it."""
        pc = pc - self.offset & (1 << 64) - 1
        at = bisect_right(self.addresses, pc) - 1
        if at < 0 or (at == len(self.addresses) - 1 and pc - self.addresses[at] > FARTHEST):
            return None
        # Two kernels' worth of nothing may lie between a firmware and a kernel in one file.
        return (self.names[at], pc - self.addresses[at]) if pc - self.addresses[at] <= FARTHEST else None


class Symbols:
    """The tables that a user gave."""

    def __init__(self, tables: Iterable[Table] = ()) -> None:
        self.tables = list(tables)

    def __bool__(self) -> bool:
        return bool(self.tables)

    def settle(self, handlers: Mapping[str, Iterable[int]]) -> None:
        """Find how far each program has moved: `handlers` has, by level, the pcs where traps were handled."""
        for table in self.tables:
            known = {n: a for a, n in zip(table.addresses, table.names, strict=True) if n in ANCHORS}
            levels = [table.level] if table.level else ["M", "HS", "VS"]
            seen = [pc for level in levels for pc in handlers.get(level, ()) if pc >> 32 or level == "M"]
            if not known or not seen or any(pc in known.values() for pc in seen):
                continue
            moved = [pc - a for pc in seen for a in known.values() if (pc - a) % PAGE == 0]
            if moved:
                table.offset = max(set(moved), key=moved.count)

    def name(self, level: str, pc: int, *, exact: bool = True) -> str | None:
        """Return `function+0x12` for a pc, or `function` alone; None if no file knows it."""
        found = self._find(level, pc)
        if found is None:
            return None
        text, distance = found
        return f"{text}+{distance:#x}" if exact and distance else text

    def caller(self, level: str, ra: int) -> str | None:
        """Return `function+0x12` for a return address; its call may be the last of its function."""
        found = self._find(level, ra - 1)
        return f"{found[0]}+{found[1] + 1:#x}" if found is not None else None

    def _find(self, level: str, pc: int) -> tuple[str, int] | None:
        own = [t for t in self.tables if t.level == level]
        for table in own or [t for t in self.tables if t.level is None and level not in ("U", "VU")]:
            if (found := table.find(pc)) is not None:
                return found
        return None


def symbols_of(path: str | None) -> Symbols:
    """Return the symbols of a guest's own ELF, for its kernel and its user code; none of other files."""
    try:
        pairs = sorted(_elf_symbols(data, str(path))) if path is not None and (data := _elf(path)) else []
    except (OSError, UsageError):
        return Symbols()
    addresses, names = [a for a, _ in pairs], [n for _, n in pairs]
    return Symbols(Table(str(path), level, addresses, names) for level in ("VS", "VU") if pairs)


def _elf(path: str) -> bytes:
    """Read a file if it is an ELF: of a kernel's Image, tens of MiB, only the beginning is."""
    with open_input(path) as file:
        head = file.read(4)
        return head + file.read() if is_elf(head) else b""


def read_symbols(arguments: Iterable[str]) -> Symbols:
    """Read what `--symbols` names; UsageError says what is wrong with a file."""
    return Symbols(_read(text) for text in arguments)


def _read(argument: str) -> Table:
    level, separator, path = argument.partition("=")
    if not separator or level not in LEVELS:
        level, path = "", argument
    try:
        data = _contents(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {getattr(error, 'strerror', None) or error}", "--symbols", _REMEDY) from None
    pairs = _elf_symbols(data, path) if is_elf(data) else _text_symbols(data[:], path)
    pairs.sort(key=lambda p: p[0])
    return Table(path, level or None, [a for a, _ in pairs], [n for _, n in pairs])


def _contents(path: str) -> Content:
    """Read a file, but not a large ELF whole."""
    with open_input(path) as file:
        data = file.read(_MOST + 1)
        if len(data) <= _MOST:
            return data
        if not is_elf(data):
            raise ValueError(f"more than {_MOST} bytes, and no ELF")
        return OpenFile(file, path)


def _elf_symbols(data: Content, path: str) -> list[tuple[int, str]]:
    try:
        elf = parse(data, path)
    except ImageError as error:
        raise UsageError(str(error), "--symbols", "for a module take /proc/kallsyms of the running kernel") from None
    if not elf.symbols:
        raise UsageError(f"{path}: the ELF is stripped: it names nothing", "--symbols")
    named = [(address, name) for name, address in elf.symbols.items() if not name.startswith(_LOCAL)]
    places = [(s.virtual, s.virtual + s.size) for s in elf.segments]
    # Constants of an assembler are symbols too, and would name what lies below the program.
    return [(a, name) for a, name in named if any(low <= a <= high for low, high in places)] or named


def _text_symbols(data: bytes, path: str) -> list[tuple[int, str]]:
    if b"The real System.map is in" in data[:200]:
        raise UsageError(
            f"{path}: Debian's placeholder, not the real System.map",
            "--symbols",
            "take the -dbg package's, or /proc/kallsyms of the running kernel",
        )
    found = []
    zeros = 0
    for line in data.decode("utf-8", errors="replace").splitlines():
        match = _LINE.fullmatch(line)
        if match is None or match[2] not in "tTwW" or match[3].startswith(_LOCAL):
            continue
        address = int(match[1], 16)
        zeros += address == 0
        found.append((address, f"{match[3]} [{match[4]}]" if match[4] else match[3]))
    if found and zeros > len(found) // 2:
        raise UsageError(f"{path}: all addresses are zero", "--symbols", "read /proc/kallsyms as root")
    if not found:
        raise UsageError(f"{path}: no symbol of a function in it", "--symbols", "System.map, kallsyms or an ELF")
    return found


def symbols_among(own: Mapping[str, int]) -> Symbols:
    """Return names and addresses as symbols of all levels."""
    pairs = sorted((a, n) for n, a in own.items() if not n.startswith(_LOCAL))
    addresses, names = [a for a, _ in pairs], [n for _, n in pairs]
    return Symbols(Table("program", level, addresses, names) for level in (*LEVELS, None) if pairs)


def program_symbols(paths: Iterable[str | None], levels: Iterable[str | None]) -> Symbols:
    """Return the symbols of programs that are ELF files, for some levels (None: all but user code)."""
    tables, wanted = [], list(levels)
    for path in paths:
        for table in symbols_of(path).tables[:1]:
            tables += [Table(table.name, level, table.addresses, table.names) for level in wanted]
    return Symbols(tables)


def absolute_names(arguments: Iterable[str]) -> list[str]:
    """Return file names that another process can use; LEVEL= stays in front."""
    made = []
    for argument in arguments:
        level, equals, path = argument.partition("=")
        known = equals and level in LEVELS
        made.append(f"{level}={Path(path).absolute()}" if known else str(Path(argument).absolute()))
    return made
