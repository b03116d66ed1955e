"""Where a subset function's AST, globals and types come from."""

from __future__ import annotations

import ast
import functools
import inspect
import linecache
import textwrap
from collections import ChainMap
from collections.abc import Callable, Mapping
from typing import Any

from trapline.lang.functions import COLD, INLINE, PRIMITIVE

U, S, B, D, VOID = "u", "s", "b", "d", "void"  # D: the state of a machine's devices
TYPES = {"U64": U, "int": U, "S64": S, "bool": B, "DeviceState": D, "None": VOID, "Any": U}


class SubsetError(SyntaxError):
    """A construct that is not in the subset, named with its file and line."""


@functools.cache
def definition(function: Callable[..., Any]) -> ast.FunctionDef:
    """Return the function's AST with line numbers of its file; OSError if its source is not to be had."""
    text = getattr(function, "__subset_source__", None)
    if text is not None:
        node = ast.parse(textwrap.dedent(text)).body[0]
        assert isinstance(node, ast.FunctionDef)
        return node
    code = inspect.unwrap(function).__code__
    linecache.checkcache(code.co_filename)
    text = "".join(linecache.getlines(code.co_filename, function.__globals__))
    found = _definitions(text).get((code.co_name, code.co_firstlineno))
    if found is None:
        raise OSError(f"the source of {code.co_name} is not in {code.co_filename}")
    return found


@functools.lru_cache(maxsize=256)
def _definitions(text: str) -> dict[tuple[str, int], ast.FunctionDef]:
    """The functions of a file by name and first line. A file is parsed once: that takes less than parts of it do."""
    found = {}
    todo: list[ast.AST] = [ast.parse(text)]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef):
            found[node.name, node.decorator_list[0].lineno if node.decorator_list else node.lineno] = node
        todo += [at for at in ast.iter_child_nodes(node) if isinstance(at, ast.stmt)]
    return found


def walk(node: ast.AST) -> list[ast.AST]:
    """The nodes of a tree in the order of ast.walk, in a third of its time; without contexts (Load, Store)."""
    found = [node]
    for at in found:  # which grows meanwhile
        for name in at._fields:
            value = getattr(at, name, None) if name != "ctx" else None
            if isinstance(value, ast.AST):
                found.append(value)
            elif isinstance(value, list):
                found += [item for item in value if isinstance(item, ast.AST)]
    return found


def names(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Return what names mean in a function: those it was given, its module's and, in a family, those around it."""
    given: dict[str, Any] | None = getattr(function, "__subset_names__", None)
    if given is not None:
        return given
    free = function.__code__.co_freevars
    if not free:
        return function.__globals__
    cells = function.__closure__ or ()
    return ChainMap({name: cell.cell_contents for name, cell in zip(free, cells, strict=True)}, function.__globals__)


def annotation(node: ast.expr | None, default: str) -> str:
    """Return the type that an annotation names."""
    if node is None:
        return default
    match node:
        case ast.Name(id=name):
            pass
        case ast.Constant(value=value):
            name = str(value)
        case _:
            name = ast.unparse(node)
    if name not in TYPES:
        raise SubsetError(f"line {node.lineno}: type {name!r} is not in the subset")
    return TYPES[name]


def kind(function: Any) -> str:
    """Return how a callable takes part: inline, cold, instruction, primitive, or '' for none."""
    return getattr(function, "__subset__", "")


def is_quick(function: Any) -> bool:
    """Whether fast readings compile this cold function in place."""
    return getattr(function, "__quick__", False)


def is_subset(function: Any) -> bool:
    """Whether the compiler may compile this callable."""
    return kind(function) in (INLINE, COLD, "instruction")


def is_primitive(function: Any) -> bool:
    """Whether the compiler implements this callable itself."""
    return kind(function) == PRIMITIVE


@functools.cache
def has_hart(function: Callable[..., Any]) -> bool:
    """Whether the first parameter is the hart."""
    args = definition(function).args.args
    return bool(args) and args[0].arg == "hart"


@functools.cache
def assigned(function: Callable[..., Any]) -> frozenset[str]:
    """The names that a function assigns."""
    nodes = walk(definition(function))
    return frozenset(n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))


@functools.cache
def parameters(function: Callable[..., Any]) -> tuple[tuple[str, str], ...]:
    """Names and types of the parameters after hart."""
    args = definition(function).args.args
    return tuple((a.arg, annotation(a.annotation, U)) for a in (args[1:] if has_hart(function) else args))
