"""Expressions of the subset: fields, operators, comparisons, conditions, tables."""

from __future__ import annotations

import ast
from abc import ABC, abstractmethod

from trapline.engine.compiler.constants import EQUALITY, Constants
from trapline.engine.compiler.source import B, S, U
from trapline.engine.compiler.text import LLVM, MODE, WROTE_MODE, Value, to_i64
from trapline.lang.devices import DEVICES
from trapline.lang.state.words import LAYOUT

ARITHMETIC = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.BitAnd: "and", ast.BitOr: "or", ast.BitXor: "xor"}
COMPARE = {ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge"}


class Expressions(Constants, ABC):
    """Compiles expressions; calls are in `calls`."""

    @abstractmethod
    def call(self, node: ast.Call) -> Value | None:
        """Compile a call."""

    def device_place(self, node: ast.expr, owner: str) -> str:
        attribute = node.value if isinstance(node, ast.Subscript) else node
        assert isinstance(attribute, ast.Attribute)
        if isinstance(node, ast.Subscript) != DEVICES.fields[attribute.attr].array:
            raise self.error(node, "an array field is indexed, a word is not")
        start = self.device_pointer(owner, attribute.attr)
        if not isinstance(node, ast.Subscript):
            return start
        return self.value(f"getelementptr inbounds i64, ptr {start}, i64 {self.as_word(node.slice)}")

    def place(self, node: ast.expr, *, store: bool = False) -> str:
        name = self.field_name(node)
        base = LAYOUT.fields[name]
        if isinstance(node, ast.Subscript) != base.array:
            raise self.error(node, "an array field is indexed, a word is not")
        if isinstance(node, ast.Subscript):
            index, type_ = self.expression(node.slice)
            if type_ != U:
                raise self.error(node, "an index is a U64")
            if name == "x" and store and not self.fast:
                zero = self.value(f"icmp eq i64 {index}, 0")
                index = self.value(f"select i1 {zero}, i64 32, i64 {index}")
            start = self.value(f"getelementptr inbounds i8, ptr %hart, i64 {base.index * 8}") if base.index else "%hart"
            return self.value(f"getelementptr inbounds i64, ptr {start}, i64 {index}")
        return self.field_pointer(name)

    def read_field(self, node: ast.expr) -> Value:
        owner = self.device_state(node)
        if owner is not None:
            return self.value(f"load i64, ptr {self.device_place(node, owner)}, align 8"), U
        name = self.field_name(node)
        if name in self.assume:
            return str(self.assume[name]), U
        if self.fast and name == "pc":
            return "%pc", U
        if self.fast and name == "instret":
            return "%now", U
        if self.fast and name in MODE:
            if self.wrote & WROTE_MODE:
                raise self.error(node, "the fast reading knows the mode as it was before the instruction")
            self.reads_mode = True
            return f"%{name}", U
        if self.fast and name == "next_pc":
            return self.value("load i64, ptr %np"), U
        if self.module.markers and name in ("x", "f") and isinstance(node, ast.Subscript):
            return self.value(f"call i64 @read.{name}(i64 {self.as_word(node.slice)})"), U
        return self.value(f"load i64, ptr {self.place(node)}, align 8"), U

    def as_word(self, node: ast.expr) -> str:
        operand, type_ = self.expression(node)
        if type_ != U:
            raise self.error(node, f"needs a U64, is {type_}")
        return operand

    def expression(self, node: ast.expr, want: str = U) -> Value:
        number = self.constant(node)
        if number is not None:
            if self.is_bool(node):
                return str(int(number)), B
            return str(to_i64(number)), want if want in (U, S) else U
        match node:
            case ast.Name(id=name) if name in self.locals:
                slot, type_ = self.locals[name]
                return self.value(f"load {LLVM[type_]}, ptr {slot}"), type_
            case ast.Attribute() | ast.Subscript(value=ast.Attribute()):
                return self.read_field(node)
            case ast.Subscript(value=ast.Name()):
                return self.table_item(node)
            case ast.BinOp():
                return self.binary(node)
            case ast.UnaryOp(op=ast.Not()) | ast.BoolOp() | ast.Compare():
                return self.boolean(node)
            case ast.UnaryOp(op=ast.Invert(), operand=operand):
                value, type_ = self.expression(operand)
                return self.value(f"xor i64 {value}, -1"), type_
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                value, type_ = self.expression(operand)
                return self.value(f"sub i64 0, {value}"), type_
            case ast.IfExp():
                return self.conditional(node)
            case ast.Call():
                result = self.call(node)
                assert result is not None
                return result
        raise self.error(node, "expression is not in the subset")

    def both(self, node: ast.AST, left: ast.expr, right: ast.expr) -> tuple[str, str, str]:
        """Two operands of one type; a literal takes the type of the other side."""
        if self.constant(left) is not None:
            b, type_ = self.expression(right)
            a, other = self.expression(left, type_)
        else:
            a, type_ = self.expression(left)
            b, other = self.expression(right, type_)
        if type_ != other:
            raise self.error(node, f"mixes {type_} and {other}")
        return a, b, type_

    def binary(self, node: ast.BinOp) -> Value:
        if isinstance(node.op, ast.LShift | ast.RShift):
            a, type_ = self.expression(node.left)
            b, count = self.expression(node.right)
            if type_ == B or count != U:
                raise self.error(node, "a value is shifted by a U64")
            op = "shl" if isinstance(node.op, ast.LShift) else "ashr" if type_ == S else "lshr"
            return self.value(f"{op} i64 {a}, {b}"), type_
        if type(node.op) not in ARITHMETIC:
            raise self.error(node, "operator is not in the subset")
        a, b, type_ = self.both(node, node.left, node.right)
        if type_ == B:
            raise self.error(node, "arithmetic on a bool: use u64()")
        return self.value(f"{ARITHMETIC[type(node.op)]} i64 {a}, {b}"), type_

    def compare(self, node: ast.Compare) -> str:
        if len(node.ops) != 1:
            raise self.error(node, "comparisons are not chained")
        op, right = node.ops[0], node.comparators[0]
        if isinstance(op, ast.In | ast.NotIn):
            table = self.resolve(right)
            if not isinstance(table, dict):
                raise self.error(node, "`in` takes a module-level dispatch table")
            found = self.value(f"call fastcc i1 @{self.module.membership(table)}(i64 {self.as_word(node.left)})")
            return found if isinstance(op, ast.In) else self.value(f"xor i1 {found}, true")
        a, b, type_ = self.both(node, node.left, right)
        literal = self.constant(right)
        if type_ == U and literal is not None and literal < 0:
            raise self.error(node, "a negative literal is not compared with a U64")
        if type(op) in EQUALITY:
            return self.value(f"icmp {EQUALITY[type(op)]} {LLVM[type_]} {a}, {b}")
        if type_ == B or type(op) not in COMPARE:
            raise self.error(node, "comparison is not in the subset")
        return self.value(f"icmp {'s' if type_ == S else 'u'}{COMPARE[type(op)]} i64 {a}, {b}")

    def boolean(self, node: ast.expr) -> Value:
        match node:
            case ast.Compare():
                return self.compare(node), B
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                value, type_ = self.expression(operand)
                if type_ != B:
                    raise self.error(node, "`not` takes a bool")
                return self.value(f"xor i1 {value}, true"), B
        slot = self.slot(B)
        yes, no, done = self.label(), self.label(), self.label()
        self.condition(node, yes, no)
        self.place_label(yes)
        self.emit(f"store i1 true, ptr {slot}")
        self.goto(done)
        self.place_label(no)
        self.emit(f"store i1 false, ptr {slot}")
        self.goto(done)
        self.place_label(done)
        return self.value(f"load i1, ptr {slot}"), B

    def condition(self, node: ast.expr, then: str, other: str) -> None:
        """Branch on a condition with short circuits."""
        match node:
            case ast.BoolOp(op=op, values=values_):
                for part in values_[:-1]:
                    more = self.label()
                    if isinstance(op, ast.And):
                        self.condition(part, more, other)
                    else:
                        self.condition(part, then, more)
                    self.place_label(more)
                self.condition(values_[-1], then, other)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                self.condition(operand, other, then)
            case _:
                value, type_ = self.expression(node)
                if type_ != B:
                    raise self.error(node, "a condition is a bool: compare the value")
                self.branch(value, then, other)

    def conditional(self, node: ast.IfExp) -> Value:
        then, other, done = self.label(), self.label(), self.label()
        self.depth += 1
        self.condition(node.test, then, other)
        self.place_label(then)
        literal = self.constant(node.body) is not None
        a, type_ = self.expression(node.body)
        self.counter += 1
        key = f"t{self.counter}"
        slot = f"%l.{key}"
        self.emit(f"store {LLVM[type_]} {a}, ptr {slot}")
        self.goto(done)
        self.place_label(other)
        b, second = self.expression(node.orelse, type_)
        if literal and second == S:
            type_ = S
        if type_ != second:
            raise self.error(node, f"mixes {type_} and {second}")
        self.locals[f" {key}"] = (slot, type_)
        self.emit(f"store {LLVM[type_]} {b}, ptr {slot}")
        self.goto(done)
        self.place_label(done)
        self.depth -= 1
        return self.value(f"load {LLVM[type_]}, ptr {slot}"), type_

    def table_item(self, node: ast.Subscript) -> Value:
        table = self.resolve(node.value)
        if not isinstance(table, tuple):
            raise self.error(node, "only a module-level tuple of ints is indexed")
        name, count = self.module.table(table), len(table)
        index = self.as_word(node.slice)
        return self.value(
            f"load i64, ptr {self.value(f'getelementptr inbounds [{count} x i64], ptr @{name}, i64 0, i64 {index}')}"
        ), U
