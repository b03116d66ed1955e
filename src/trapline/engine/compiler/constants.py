"""What the compiler knows at compile time: names, constants, and conditions that a special reading decides."""

from __future__ import annotations

import ast
import builtins
from typing import Any

from trapline.engine.compiler.text import FunctionText

EQUALITY = {ast.Eq: "eq", ast.NotEq: "ne"}


class Constants(FunctionText):
    """Names and constant expressions."""

    def resolve(self, node: ast.expr) -> Any:
        """The Python object that a module-level name or dotted name stands for, or None."""
        if isinstance(node, ast.Name):
            if node.id in self.locals or node.id in self.known:
                return None
            return self.globals.get(node.id, getattr(builtins, node.id, None))
        if isinstance(node, ast.Attribute):
            base = self.resolve(node.value)
            return getattr(base, node.attr, None) if base is not None else None
        return None

    def is_bool(self, node: ast.expr) -> bool:
        """Whether a compile-time constant is a bool."""
        return isinstance(node.value if isinstance(node, ast.Constant) else self.resolve(node), bool)

    def constant(self, node: ast.expr) -> int | None:
        """The value of a compile-time constant expression, or None."""
        match node:
            case ast.Constant(value=int() as number):
                return int(number)
            case ast.Name(id=name) if name in self.known:
                return self.known[name]
            case ast.Name() | ast.Attribute():
                found = self.resolve(node)
                return int(found) if isinstance(found, int) else None
            case ast.UnaryOp(op=ast.USub() | ast.Invert(), operand=operand):
                inner = self.constant(operand)
                return None if inner is None else -inner if isinstance(node.op, ast.USub) else ~inner
            case ast.Call(func=ast.Name(id="U64"), args=[argument]):
                return self.constant(argument)
            case ast.BinOp():
                left, right = self.constant(node.left), self.constant(node.right)
                if left is None or right is None:
                    return None
                return fold(node.op, left, right)
        return None

    def constant_condition(self, node: ast.expr) -> bool | None:
        """The outcome of a condition that this reading decides, or None."""
        match node:
            case ast.Name(id=name) if name in self.known:
                return bool(self.known[name])
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                inner = self.constant_condition(operand)
                return None if inner is None else not inner
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                if isinstance(op, ast.In):
                    return self.known_membership(left, right)
                a, b = self.assumed(left), self.assumed(right)
                if a is None or b is None or type(op) not in EQUALITY:
                    return None
                return (a == b) == isinstance(op, ast.Eq)
            case ast.BoolOp(op=ast.And()):
                if any(self.constant_condition(v) is False for v in node.values):
                    return False
        return None

    def known_membership(self, left: ast.expr, right: ast.expr) -> bool | None:
        """Whether a key is in a table, where the reading knows which keys can come."""
        table, key = self.resolve(right), self.constant(left)
        keys = self.keys if key is None else (key,)
        if not isinstance(table, dict) or not keys:
            return None
        found = {k in table for k in keys}
        return found.pop() if len(found) == 1 else None

    def assumed(self, node: ast.expr) -> int | None:
        """A constant, or the value that this reading assumes of a field."""
        match node:
            case ast.Attribute(value=ast.Name(id="hart"), attr=name):
                return self.assume.get(name)
        return self.constant(node)


def fold(op: ast.operator, left: int, right: int) -> int | None:
    """Constant arithmetic."""
    match op:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.BitAnd():
            return left & right
        case ast.BitOr():
            return left | right
        case ast.BitXor():
            return left ^ right
        case ast.LShift():
            return left << right
        case ast.RShift():
            return left >> right
    return None
