"""Integer expressions of assembly source: numbers, symbols, `+ - * & | ^ << >> ~` and parentheses."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping

_SYMBOL = re.compile(r"(?<![\w.$])(?:\d+[fb](?![\w.])|[A-Za-z_.$][\w.$]*)")
BINARY: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
}


class UnknownSymbolError(ValueError):
    """The expression names a symbol that has no value (yet)."""


def evaluate(source: str, symbols: Mapping[str, int]) -> int:
    """Return the value of an expression; ValueError if it is none, UnknownSymbolError if a symbol is missing."""
    source = source.strip()

    def number(match: re.Match[str]) -> str:
        name = match.group()
        if name not in symbols:
            raise UnknownSymbolError(f"unknown symbol {name!r}")
        return f"({symbols[name]})"

    parts = re.split(r"('(?:\\.|[^'\\])')", source)
    parts[::2] = [_SYMBOL.sub(number, part) for part in parts[::2]]
    try:
        tree = ast.parse("".join(parts), mode="eval")
    except SyntaxError:
        raise ValueError(f"not an expression: {source!r}") from None
    return _value(tree.body, source)


def _value(node: ast.expr, source: str) -> int:
    if isinstance(node, ast.Constant):
        if isinstance(node.value, int):
            return node.value
        if isinstance(node.value, str) and len(node.value) == 1:
            return ord(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd, ast.Invert)):
        value = _value(node.operand, source)
        return -value if isinstance(node.op, ast.USub) else ~value if isinstance(node.op, ast.Invert) else value
    if isinstance(node, ast.BinOp) and type(node.op) in BINARY:
        return BINARY[type(node.op)](_value(node.left, source), _value(node.right, source))
    raise ValueError(f"not an expression: {source!r}")
