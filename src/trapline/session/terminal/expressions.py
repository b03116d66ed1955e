"""Expressions at the monitor's prompt: numbers, registers and C's integer operators, in 64 bits."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable

from trapline.isa.expression import BINARY

_MASK = (1 << 64) - 1
_LONGEST = 200  # characters: what a person types, and no depth that the parser could not take
_OCTAL_OR_DECIMAL = re.compile(r"(?<![\w$])0+(?=[0-9])")  # 010 is 10 here, in C 8, in Python an error


def _divide(one: int, other: int) -> int:
    if other == 0:
        raise ValueError("division by zero")
    return one // other


def _rest(one: int, other: int) -> int:
    return one - other * _divide(one, other)


_BINARY: dict[type[ast.operator], Callable[[int, int], int]] = {
    **BINARY,
    ast.Div: _divide,
    ast.FloorDiv: _divide,
    ast.Mod: _rest,
    ast.LShift: lambda one, by: one << by if by < 64 else 0,
    ast.RShift: lambda one, by: one >> by if by < 64 else 0,
}
_UNARY: dict[type[ast.unaryop], Callable[[int], int]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: operator.invert,
}


def evaluate(text: str, register: Callable[[str], int]) -> int:
    """Return the value of an expression, unsigned in 64 bits.

    Registers are written as in QEMU and gdb, `$a0`, or without the dollar. ValueError says what is wrong;
    `register` raises it for a name that is none.
    """
    if not text.strip():
        raise ValueError("an expression is missing: numbers, registers and + - * / % & | ^ ~ << >>")
    plain = _OCTAL_OR_DECIMAL.sub("", text.strip()).replace("$", "")
    try:
        if len(text) > _LONGEST or not text.isascii():
            raise SyntaxError
        tree = ast.parse(plain, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"{text[:40]!r} is no expression: numbers, registers and + - * / % & | ^ ~ << >>") from None
    return _value(tree, register)


def _value(node: ast.expr, register: Callable[[str], int]) -> int:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        if node.value > _MASK:
            raise ValueError(f"{node.value:#x}"[:40] + " has more than 64 bits")
        return node.value
    if isinstance(node, ast.Name):
        return register(node.id.lower()) & _MASK
    if isinstance(node, ast.BinOp) and (do := _BINARY.get(type(node.op))) is not None:
        return do(_value(node.left, register), _value(node.right, register)) & _MASK
    if isinstance(node, ast.UnaryOp) and (change := _UNARY.get(type(node.op))) is not None:
        return change(_value(node.operand, register)) & _MASK
    raise ValueError(f"{ast.unparse(node)[:40]!r} is none of numbers, registers and + - * / % & | ^ ~ << >>")
