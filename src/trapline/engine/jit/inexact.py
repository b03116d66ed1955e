"""NX as the host keeps it: what a region's operations raise stays in MXCSR, and goes to fflags where it is left.

The host says of each operation whether its result is exact, for nothing. While a region runs, NX is what fflags has,
or the host's PE: either fflags has it when the region is entered, or PE is cleared there. LLVM is told that these
operations raise flags (its constrained intrinsics), so it makes none that the guest does not, leaves none out, and
moves none past a place where PE is looked at. What else may raise PE, a rare call or a conversion that is tried first,
stands between `merged` and `cleared`.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from trapline.engine.llvm import STATE, Builder, Pointer, Word
from trapline.engine.llvm_lines import BINARY, CONVERSION, FLOAT_CALL
from trapline.lang.state.words import LAYOUT
from trapline.privilege.fields import NX

if TYPE_CHECKING:
    from collections.abc import Iterator

PE = 0x20  # of MXCSR: a result was inexact
RNE, STRICT = 'metadata !"round.tonearest"', 'metadata !"fpexcept.strict"'
MX = Pointer("%mx")  # the slot through which MXCSR is read and written
MXCSR = ("llvm.x86.sse.stmxcsr", "llvm.x86.sse.ldmxcsr")
_NAMES = {"double": "f64", "float": "f32", "i64": "i64"}


def raising(line: str) -> str:
    """An operation whose result may be inexact, as one that raises the host's flags."""
    if found := BINARY.match(line):
        value, name, type_, a, b = found.groups()
        return constrained(value, name, type_, f"{type_} {a}, {type_} {b}")
    if found := CONVERSION.match(line):
        value, name, source, operand, type_ = found.groups()
        return constrained(value, name, type_, f"{source} {operand}", source)
    if found := FLOAT_CALL.match(line):
        value, type_, name, operands = found.groups()
        return constrained(value, name, type_, operands)
    return line


def constrained(value: str, name: str, type_: str, operands: str, source: str = "") -> str:
    """The line of such an operation; `source`: the type that a conversion begins with."""
    intrinsic = f"llvm.experimental.constrained.{name}.{_NAMES[type_]}{f'.{_NAMES[source]}' if source else ''}"
    rounding = "" if name == "fptosi" else f"{RNE}, "
    b = Builder("")
    b.called(value, b.call, f"@{intrinsic}", type_, f"{operands}, {rounding}{STRICT}", convention="")
    return b.taken()


def signature_of(name: str) -> tuple[str, ...]:
    """What such an intrinsic gives and takes."""
    types = {short: type_ for type_, short in _NAMES.items()}
    operation, result, *source = name.removeprefix("llvm.experimental.constrained.").split(".")
    operands = [types[source[0]]] if source else [types[result]] * {"fma": 3, "sqrt": 1}.get(operation, 2)
    operands += ["metadata"] * (1 if operation == "fptosi" else 2)
    return types[result], *operands


def may_overshoot(name: str, rm: int | None) -> bool:
    """Whether an instruction's template tries an operation that is not its own: PE may be wrong behind it."""
    truncates = rm == 1
    return name.startswith(("fcvt.w", "fcvt.l")) and not truncates


def _fflags(b: Builder) -> tuple[Pointer, Word]:
    place = b.at(STATE, LAYOUT.fields["fflags"].index * 8)
    return place, b.load(place)


def _mxcsr(b: Builder) -> Word:
    b.call(f"@{MXCSR[0]}", "void", f"ptr {MX}", convention="")
    return b.load_narrow(MX, 32)


def _set_mxcsr(b: Builder, word: Word) -> None:
    b.store_narrow(word, MX, 32)
    b.call(f"@{MXCSR[1]}", "void", f"ptr {MX}", convention="")


def merged(b: Builder) -> None:
    """Put what the host has raised into fflags."""
    _raised(b, *_fflags(b))


def _raised(b: Builder, fflags: Pointer, before: Word) -> None:
    raised = b.mask(b.lshr(_mxcsr(b), PE.bit_length() - NX.bit_length()), NX)
    b.store(b.either(before, raised), fflags)


@contextlib.contextmanager
def _if_clear(b: Builder, unique: str) -> Iterator[tuple[Pointer, Word]]:
    """Do something where fflags has no NX: fflags."""
    fflags, before = _fflags(b)
    b.branch(b.compare("eq", b.mask(before, NX), 0), f"{unique}.nx.do", f"{unique}.nx.done")
    b.begin(f"{unique}.nx.do")
    yield fflags, before
    b.goto(f"{unique}.nx.done")
    b.begin(f"{unique}.nx.done")


def merged_if_clear(b: Builder, unique: str) -> None:
    """The same where it may change something: in blocks of its own."""
    with _if_clear(b, unique) as fflags:
        _raised(b, *fflags)


def cleared(b: Builder) -> None:
    """Forget what the host has raised."""
    _set_mxcsr(b, b.mask(_mxcsr(b), ~PE))


def cleared_if_clear(b: Builder, unique: str) -> None:
    """The same where NX is not set, and PE is: in blocks of its own."""
    with _if_clear(b, unique):
        now = _mxcsr(b)
        b.branch(b.compare("ne", b.mask(now, PE), 0), f"{unique}.pe.do", f"{unique}.nx.done")
        b.begin(f"{unique}.pe.do")
        _set_mxcsr(b, b.differ(now, PE))
