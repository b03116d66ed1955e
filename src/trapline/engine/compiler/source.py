"""Where a subset function's AST, globals and types come from."""

from __future__ import annotations

import ast
import functools
import inspect
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
    """Return the function's AST with line numbers of its file."""
    text = getattr(function, "__subset_source__", None)
    first = 1
    if text is None:
        lines, first = inspect.getsourcelines(function)
        text = "".join(lines)
    tree = ast.parse(textwrap.dedent(text))
    ast.increment_lineno(tree, first - 1)
    node = tree.body[0]
    assert isinstance(node, ast.FunctionDef)
    return node


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
    name = node.value if isinstance(node, ast.Constant) else getattr(node, "id", ast.unparse(node))
    name = str(name)
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


def has_hart(function: Callable[..., Any]) -> bool:
    """Whether the first parameter is the hart."""
    args = definition(function).args.args
    return bool(args) and args[0].arg == "hart"
