"""NX as the host keeps it: what a region's operations raise stays in MXCSR, and goes to fflags where it is left.

The host says of each operation whether its result is exact, for nothing. While a region runs, NX is what fflags has,
or the host's PE: either fflags has it when the region is entered, or PE is cleared there. LLVM is told that these
operations raise flags (its constrained intrinsics), so it makes none that the guest does not, leaves none out, and
moves none past a place where PE is looked at. What else may raise PE, a rare call or a conversion that is tried first,
stands between `merged` and `cleared`.
"""

from __future__ import annotations

import re

from trapline.lang.state.words import LAYOUT
from trapline.privilege.fields import NX

PE = 0x20  # of MXCSR: a result was inexact
RNE, STRICT = 'metadata !"round.tonearest"', 'metadata !"fpexcept.strict"'
MXCSR = ("llvm.x86.sse.stmxcsr", "llvm.x86.sse.ldmxcsr")
_NAMES = {"double": "f64", "float": "f32", "i64": "i64"}
_BINARY = re.compile(r"= (fadd|fsub|fmul|fdiv) (double|float) (\S+), (\S+)$")
_CONVERSION = re.compile(r"= (sitofp|uitofp|fptosi|fptrunc) (?:nneg )?(\w+) (\S+) to (\w+)$")
_CALL = re.compile(r"= (?:tail )?call (double|float) @llvm\.(fma|sqrt)\.f\d\d\((.*)\)$")


def raising(line: str) -> str:
    """An operation whose result may be inexact, as one that raises the host's flags."""
    if found := _BINARY.search(line):
        name, type_, a, b = found.groups()
        return line[: found.start()] + constrained(name, type_, f"{type_} {a}, {type_} {b}")
    if found := _CONVERSION.search(line):
        name, source, value, type_ = found.groups()
        return line[: found.start()] + constrained(name, type_, f"{source} {value}", source)
    if found := _CALL.search(line):
        type_, name, operands = found.groups()
        return line[: found.start()] + constrained(name, type_, operands)
    return line


def constrained(name: str, type_: str, operands: str, source: str = "") -> str:
    """The right side of such an operation; `source`: the type that a conversion begins with."""
    intrinsic = f"llvm.experimental.constrained.{name}.{_NAMES[type_]}{f'.{_NAMES[source]}' if source else ''}"
    rounding = "" if name == "fptosi" else f"{RNE}, "
    return f"= call {type_} @{intrinsic}({operands}, {rounding}{STRICT})"


def declared(name: str) -> str:
    """The signature of such an intrinsic, or of those that read and write MXCSR."""
    if name in MXCSR:
        return f"void @{name}(ptr)"
    types = {short: type_ for type_, short in _NAMES.items()}
    operation, result, *source = name.removeprefix("llvm.experimental.constrained.").split(".")
    operands = [types[source[0]]] if source else [types[result]] * {"fma": 3, "sqrt": 1}.get(operation, 2)
    operands += ["metadata"] * (1 if operation == "fptosi" else 2)
    return f"{types[result]} @{name}({', '.join(operands)})"


def may_overshoot(name: str, rm: int | None) -> bool:
    """Whether an instruction's template tries an operation that is not its own: PE may be wrong behind it."""
    truncates = rm == 1
    return name.startswith(("fcvt.w", "fcvt.l")) and not truncates


def _fflags(unique: str) -> list[str]:
    place = LAYOUT.fields["fflags"].index * 8
    return [
        f"  %{unique}.nx.p = getelementptr inbounds i8, ptr %st, i64 {place}",
        f"  %{unique}.nx.f = load i64, ptr %{unique}.nx.p, align 8",
    ]


def merged(unique: str) -> list[str]:
    """Put what the host has raised into fflags."""
    return [*_fflags(unique), *_raised(unique)]


def _raised(unique: str) -> list[str]:
    return [
        f"  call void @{MXCSR[0]}(ptr %mx)",
        f"  %{unique}.nx.m = load i32, ptr %mx, align 4",
        f"  %{unique}.nx.w = zext i32 %{unique}.nx.m to i64",
        f"  %{unique}.nx.s = lshr i64 %{unique}.nx.w, {PE.bit_length() - NX.bit_length()}",
        f"  %{unique}.nx.1 = and i64 %{unique}.nx.s, {NX}",
        f"  %{unique}.nx.n = or i64 %{unique}.nx.f, %{unique}.nx.1",
        f"  store i64 %{unique}.nx.n, ptr %{unique}.nx.p, align 8",
    ]


def _if_clear(unique: str, lines: list[str]) -> list[str]:
    """Do something where fflags has no NX."""
    return [
        *_fflags(unique),
        f"  %{unique}.nx.b = and i64 %{unique}.nx.f, {NX}",
        f"  %{unique}.nx.c = icmp eq i64 %{unique}.nx.b, 0",
        f"  br i1 %{unique}.nx.c, label %{unique}.nx.do, label %{unique}.nx.done",
        f"{unique}.nx.do:",
        *lines,
        f"  br label %{unique}.nx.done",
        f"{unique}.nx.done:",
    ]


def merged_if_clear(unique: str) -> list[str]:
    """The same where it may change something: in blocks of its own."""
    return _if_clear(unique, _raised(unique))


def cleared(unique: str) -> list[str]:
    """Forget what the host has raised."""
    return [
        f"  call void @{MXCSR[0]}(ptr %mx)",
        f"  %{unique}.pe.m = load i32, ptr %mx, align 4",
        f"  %{unique}.pe.n = and i32 %{unique}.pe.m, {~PE}",
        f"  store i32 %{unique}.pe.n, ptr %mx, align 4",
        f"  call void @{MXCSR[1]}(ptr %mx)",
    ]


def cleared_if_clear(unique: str) -> list[str]:
    """The same where NX is not set, and PE is: in blocks of its own."""
    return _if_clear(
        unique,
        [
            f"  call void @{MXCSR[0]}(ptr %mx)",
            f"  %{unique}.pe.m = load i32, ptr %mx, align 4",
            f"  %{unique}.pe.b = and i32 %{unique}.pe.m, {PE}",
            f"  %{unique}.pe.c = icmp ne i32 %{unique}.pe.b, 0",
            f"  br i1 %{unique}.pe.c, label %{unique}.pe.do, label %{unique}.nx.done",
            f"{unique}.pe.do:",
            f"  %{unique}.pe.n = xor i32 %{unique}.pe.m, {PE}",
            f"  store i32 %{unique}.pe.n, ptr %mx, align 4",
            f"  call void @{MXCSR[1]}(ptr %mx)",
        ],
    )
