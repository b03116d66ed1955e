"""`--coverage FILE`: which instructions of a run were executed, how often, and what lines they are of.

A file that ends in .info is lcov's, by the DWARF line tables of the program; .txt and .csv have an instruction a line.
The counts are the engine's own (engine.observe.stops.note_executed): an instruction counts when it begins, again if it
is begun again behind a trap. Code without memory behind it, such as a device, is not in them.
"""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trapline.engine.api import Engine
from trapline.lab.errors import UsageError
from trapline.lab.output import behind_result, note_failure, require_writable, write_text
from trapline.lab.symbols import Symbols
from trapline.lang.elf_format import MAGIC
from trapline.named_files import read_input
from trapline.privilege.modes import MODE_NAMES

OPTION = "--coverage"
LCOV, LISTS = ".info", (".txt", ".csv")
Counts = dict[tuple[int, int], int]  # mode index and pc


@dataclass(slots=True)
class Source:
    """One source file: for each line the addresses at which its code begins, and its functions."""

    lines: dict[int, set[int]] = field(default_factory=dict)
    functions: dict[str, tuple[int, int]] = field(default_factory=dict)  # line and address


def check_coverage(path: str | None, programs: Sequence[str | None], *, debugged: bool) -> None:
    """Refuse what cannot be written, or has no lines, before anything runs (UsageError)."""
    if path is None:
        return
    suffix = Path(path).suffix.lower()
    if suffix not in (LCOV, *LISTS):
        remedy = "its name ends in .info for lcov, .txt or .csv for a list of instructions"
        raise UsageError(f"{path!r} does not say in which format", OPTION, remedy)
    if debugged:
        raise UsageError("goes without a debugger", OPTION)
    if suffix == LCOV and not sources_of(programs):
        given = next((p for p in programs if p is not None), "the program")
        raise UsageError(f"{given!r} has no DWARF line table", OPTION, "build it with -g, or name a .txt or .csv")
    require_writable(path, OPTION)


def sources_of(programs: Sequence[str | None]) -> dict[str, Source]:
    """Return the source files of the ELFs among some files, by name."""
    from elftools.common.exceptions import DWARFError, ELFError
    from elftools.elf.elffile import ELFFile

    found: dict[str, Source] = {}
    for path in programs:
        try:
            data = read_input(path) if path is not None else b""
            if data[:4] != MAGIC:
                continue
            elf = ELFFile(io.BytesIO(data))
            if elf.has_dwarf_info():
                for unit in elf.get_dwarf_info().iter_CUs():
                    _read_unit(elf.get_dwarf_info(), unit, found)
        except (OSError, DWARFError, ELFError, KeyError, ValueError, IndexError):
            continue  # what cannot be read has no lines
    return found


def _read_unit(dwarf: Any, unit: Any, found: dict[str, Source]) -> None:
    program = dwarf.line_program_for_CU(unit)
    if program is None:
        return
    names = _file_names(unit, program)
    for entry in program.get_entries():
        state = entry.state
        if state is None or state.end_sequence or not state.is_stmt or not state.line:
            continue
        source = found.setdefault(names(state.file), Source())
        source.lines.setdefault(state.line, set()).add(state.address)
    for die in unit.iter_DIEs():
        low, line = die.attributes.get("DW_AT_low_pc"), die.attributes.get("DW_AT_decl_line")
        name, number = die.attributes.get("DW_AT_name"), die.attributes.get("DW_AT_decl_file")
        if die.tag == "DW_TAG_subprogram" and None not in (low, line, name, number):
            function = name.value.decode(errors="replace")
            found.setdefault(names(number.value), Source()).functions[function] = line.value, low.value


def _file_names(unit: Any, program: Any) -> Any:
    """Return what names a file by its number in the line table (DWARF 5: from 0; before: from 1)."""
    top = unit.get_top_DIE()
    folder = (
        top.attributes["DW_AT_comp_dir"].value.decode(errors="replace") if "DW_AT_comp_dir" in top.attributes else ""
    )
    header = program.header
    five = header.version >= 5

    def name(number: int) -> str:
        entry = header.file_entry[number if five else number - 1]
        text = entry.name.decode(errors="replace")
        at = entry.dir_index
        if not five and at == 0:
            return str(Path(folder, text))
        inside = header.include_directory[at if five else at - 1].decode(errors="replace")
        return str(Path(folder, inside, text))

    return name


def lcov(counts: Counts, sources: dict[str, Source]) -> str:
    """Return lcov's tracefile: of a line, how often the most executed of the places where its code begins was."""
    at: dict[int, int] = {}
    for (_, pc), count in counts.items():
        at[pc] = at.get(pc, 0) + count
    out = ["TN:"]
    for name, source in sorted(sources.items()):
        out.append(f"SF:{name}")
        functions = sorted(source.functions.items(), key=lambda f: (f[1], f[0]))
        out += [f"FN:{line},{function}" for function, (line, _) in functions]
        out += [f"FNDA:{at.get(low, 0)},{function}" for function, (_, low) in functions]
        out += [f"FNF:{len(functions)}", f"FNH:{sum(low in at for _, (_, low) in functions)}"]
        lines = [(line, max(at.get(a, 0) for a in places)) for line, places in sorted(source.lines.items())]
        out += [f"DA:{line},{count}" for line, count in lines]
        out += [f"LF:{len(lines)}", f"LH:{sum(count > 0 for _, count in lines)}", "end_of_record"]
    return "\n".join(out) + "\n"


def listed(counts: Counts, symbols: Symbols, comma: bool) -> str:
    """Return a line for each instruction that was executed: mode, address, how often, symbol."""
    rows = []
    for (mode, pc), count in counts.items():
        level = MODE_NAMES.get(mode, str(mode))
        rows.append((level, pc, count, symbols.name(level, pc) or ""))
    if comma:
        text = io.StringIO()
        made = ((level, hex(pc), count, name) for level, pc, count, name in sorted(rows))
        csv.writer(text, lineterminator="\n").writerows((("mode", "address", "count", "symbol"), *made))
        return text.getvalue()
    return "".join(
        f"{level:2} {pc:#018x} {count:>12} {name}".rstrip() + "\n" for level, pc, count, name in sorted(rows)
    )


@contextlib.contextmanager
def covered(engine: Engine, path: str, programs: Sequence[str | None], symbols: Symbols) -> Iterator[None]:
    """Count what the engine executes in the block, and write it at its end, however it ends."""
    engine.stops.cover()
    try:
        yield
    finally:
        counts, lost = engine.stops.covered()
        if Path(path).suffix.lower() == LCOV:
            text = lcov(counts, sources_of(programs))
        else:
            text = listed(counts, symbols, Path(path).suffix.lower() == ".csv")
        with behind_result():
            write_text(text, path, OPTION)
        if lost:
            note_failure(UsageError(f"{lost} instructions are not in {path!r}: too many different ones", OPTION))
