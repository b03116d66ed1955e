"""What an instruction's function does, read off its AST, against what is declared beside it (lang.facts).

A fact that is declared once and wrong would be wrong for the decoder, the hypervisor and the traces alike; so the image
is not made before both agree.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from trapline.engine.compiler.source import SubsetError, definition, kind, names, walk
from trapline.lang import control, values
from trapline.lang.facts import Access, Flow, Kind
from trapline.lang.functions import INLINE, Instruction
from trapline.privilege import memory, returns

ACCESSES: dict[Any, tuple[Kind, bool]] = {
    memory.load: (Kind.LOAD, False),
    memory.store: (Kind.STORE, False),
    memory.amo_load: (Kind.AMO, False),
    memory.load_reserved: (Kind.RESERVE, False),
    memory.store_conditional: (Kind.CONDITIONAL, False),
    memory.guest_load: (Kind.LOAD, True),
    memory.guest_store: (Kind.STORE, True),
    memory.zero_block: (Kind.ZERO, False),
    memory.manage_block: (Kind.MANAGE, False),
}
RETURNS = (returns.mret, returns.sret)


@dataclass(slots=True)
class Found:
    """What a function does: registers as (file, operand), the access, and where it may go."""

    reads: set[tuple[str, str]] = field(default_factory=set)
    writes: set[tuple[str, str]] = field(default_factory=set)
    access: Access | None = None
    flow: Flow = Flow.NEXT


def facts_of(function: Callable[..., Any]) -> Found:
    """Read them off an instruction's function."""
    found = Found()
    node, known = definition(function), names(function)
    for at in walk(node):
        match at:
            case ast.Subscript(
                value=ast.Attribute(value=ast.Name(id="hart"), attr="x" | "f" as file), slice=ast.Name(id=name)
            ):
                (found.writes if isinstance(at.ctx, ast.Store) else found.reads).add((file, name))
            case ast.Call(func=ast.Name(id=name)) if known.get(name) in ACCESSES:
                note_access(found, at, known)
    if found.access is not None and any(extends_sign(at, known) for at in walk(node)):
        found.access = replace(found.access, signed=True)
    found.flow = flow_of(node, known)
    return found


def extends_sign(node: ast.AST, known: Any) -> bool:
    """Whether this is the sign extension of what an access gave."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and known.get(node.func.id) is values.sext):
        return False
    inner = node.args[0]
    return isinstance(inner, ast.Call) and isinstance(inner.func, ast.Name) and known.get(inner.func.id) in ACCESSES


def note_access(found: Found, call: ast.Call, known: Any) -> None:
    """Note an access; the store of an AMO goes with its load."""
    target = known[call.func.id]  # type: ignore[attr-defined]
    what, guest = ACCESSES[target]
    if found.access is not None and found.access.kind is Kind.AMO:
        return
    size = constant(call.args[2], known) if what not in (Kind.ZERO, Kind.MANAGE) else 0
    found.access = Access(what, size, guest=guest)


def constant(node: ast.expr, known: Any) -> int:
    """The number that an expression stands for."""
    match node:
        case ast.Constant(value=int() as number):
            return number
        case ast.Name(id=name):
            return int(known[name])
        case ast.Attribute(value=ast.Name(id=name), attr=attribute):
            return int(getattr(known[name], attribute))
        case ast.Call(func=ast.Name(id="U64"), args=[inner]):
            return constant(inner, known)
    raise SubsetError(f"line {node.lineno}: the size of an access is no constant: {ast.unparse(node)}")


def flow_of(node: ast.FunctionDef, known: Any) -> Flow:
    """Where an instruction goes when it retires."""
    body = [s for s in node.body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
    if body and isinstance(body[-1], ast.Raise):
        return Flow.TRAP
    for statement in body:
        called = set(calls(statement, known))
        if called.intersection(RETURNS):
            return Flow.RETURN
        if control.jump in called:
            return Flow.BRANCH if isinstance(statement, ast.If) else Flow.JUMP
    return Flow.NEXT


def calls(node: ast.AST, known: Any) -> Iterator[Any]:
    """The functions that a statement calls, itself or through inline ones."""
    for at in walk(node):
        if isinstance(at, ast.Call) and isinstance(at.func, ast.Name):
            target = known.get(at.func.id)
            if target is not None and target.__module__ != values.__name__:
                yield target
                if kind(target) == INLINE:
                    yield from calls_of(target)


@cache
def calls_of(function: Callable[..., Any]) -> frozenset[Any]:
    """The functions that an inline one calls, itself or through others."""
    return frozenset(calls(definition(function), names(function)))


def check(instruction: Instruction) -> None:
    """Refuse an instruction whose declaration says something else than its function does (SubsetError)."""
    assert instruction.function is not None
    found = facts_of(instruction.function)
    wrong = [f"its flow is {found.flow.value}"] if found.flow is not instruction.flow else []
    if found.access != instruction.access:
        wrong.append(f"its access is {found.access}")
    for file, operand in sorted(found.reads | found.writes):
        if instruction.is_float(operand) is not (file == "f"):
            wrong.append(f"its {operand} is a register of {file}")
    if {operand for _, operand in found.writes} - {"rd"}:
        wrong.append("it writes a register that is not rd")
    if wrong:
        raise SubsetError(f"{instruction.name}: {'; '.join(wrong)}, and its declaration says something else")
