"""Assembles rows into an ELF: code, page tables, and the table of cases and checks that the program walks."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from trapline.isa.assemble import assemble_program
from trapline.isa.expression import evaluate
from trapline.lab.replay.elf_file import Part, write_elf
from trapline.pack.harness import CASE, CHECK, source
from trapline.pack.places import BASE, CODE_SIZE, NO_ACCESS, TABLES, TABLES_AT
from trapline.pack.rows import MODES, NOTED, Case

CASES_AT = BASE + 0x20_0000
UART, FINISHER = 0x1000_0000, 0x10_0000


def _block(n: int, case: Case) -> str:
    setup, code = ("\n  ".join(lines) for lines in (case.setup, case.code))
    return f"""
  .align 2
c{n}_setup:
  {setup.replace("{c}", f"c{n}")}
  ret
c{n}_skip:
  tail skipped
  .align 2
c{n}_entry:
  {code.replace("{c}", f"c{n}")}
c{n}_after:
  {case.end}
"""


def build(cases: Sequence[Case], uart: int = UART, finisher: int = FINISHER) -> bytes:
    """Return the ELF of these cases: M-mode, loaded at 0x80000000, no compressed code."""
    end = CASES_AT + CASE * len(cases)
    text = [source(uart, finisher, NO_ACCESS, CASES_AT, end)]
    text += [_block(n, case) for n, case in enumerate(cases)]
    program = assemble_program("\n".join(text), BASE)
    if len(program.code) > CODE_SIZE:
        raise AssertionError("the code of the pack outgrew its place")
    parts = [Part(BASE, program.code), Part(TABLES_AT, TABLES), Part(CASES_AT, _data(cases, program.symbols, end))]
    symbols = {name: program.symbols[name] for name in ("_start", "tohost", "fromhost")}
    return write_elf(parts, symbols, BASE, compressed=False)


class _Texts:
    """Strings, each once."""

    def __init__(self, at: int) -> None:
        self.at, self.data, self.known = at, bytearray(), dict[str, int]()

    def place(self, text: str) -> int:
        if text not in self.known:
            self.known[text] = self.at + len(self.data)
            self.data += text.encode("ascii") + b"\0"
        return self.known[text]


def _data(cases: Sequence[Case], symbols: dict[str, int], at_checks: int) -> bytes:
    heads, checks = bytearray(), bytearray()
    texts = _Texts(at_checks + CHECK * sum(len(c.checks) for c in cases))

    for n, case in enumerate(cases):

        def value(want: int | str, n: int = n) -> int:
            found = evaluate(want.replace("{c}", f"c{n}"), symbols) if isinstance(want, str) else want
            return found & (1 << 64) - 1

        v, privilege = MODES[case.mode]
        places = [symbols[f"c{n}_{part}"] for part in ("setup", "entry", "after")]
        end = int(case.end == "ebreak") | int(case.optional) << 1
        heads += struct.pack(
            "<8Q", texts.place(case.name), places[0], places[1] + case.window, places[2] + case.window,
            v << 2 | privilege, end, at_checks + len(checks), len(case.checks),
        )  # fmt: skip
        for check in case.checks:
            want = value(check.want)
            other = want if check.other is None else value(check.other)
            words = (NOTED.index(check.noted), check.mask, want, other)
            checks += struct.pack("<6Q", *words, texts.place(check.label), texts.place(check.rule))
    return bytes(heads + checks + texts.data)
