"""Expressions of the subset: fields, operators, comparisons, conditions, tables."""

from __future__ import annotations

import ast
from abc import ABC, abstractmethod

from trapline.engine.compiler.constants import EQUALITY, Constants
from trapline.engine.compiler.source import B, S, U
from trapline.engine.compiler.text import HART, LLVM, MODE, WROTE_MODE, Value, to_i64
from trapline.engine.llvm import Flag, Pointer, Word, words
from trapline.lang.devices import DEVICES
from trapline.lang.state.words import LAYOUT

ARITHMETIC = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.BitAnd: "and", ast.BitOr: "or", ast.BitXor: "xor"}
COMPARE = {ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge"}


class Expressions(Constants, ABC):
    """Compiles expressions; calls are in `calls`."""

    @abstractmethod
    def call_expression(self, node: ast.Call) -> Value | None:
        """Compile a call."""

    def device_place(self, node: ast.expr, owner: str) -> Pointer:
        attribute = node.value if isinstance(node, ast.Subscript) else node
        assert isinstance(attribute, ast.Attribute)
        if isinstance(node, ast.Subscript) != DEVICES.fields[attribute.attr].array:
            raise self.error(node, "an array field is indexed, a word is not")
        start = self.device_pointer(owner, attribute.attr)
        if not isinstance(node, ast.Subscript):
            return start
        return self.item(start, self.as_word(node.slice))

    def place(self, node: ast.expr, *, store: bool = False) -> Pointer:
        name = self.field_name(node)
        base = LAYOUT.fields[name]
        if isinstance(node, ast.Subscript) != base.array:
            raise self.error(node, "an array field is indexed, a word is not")
        if isinstance(node, ast.Subscript):
            index = self.as_word(node.slice)
            if name == "x" and store and not self.fast:
                zero = self.compare("eq", index, 0)
                index = self.select(zero, 32, index)
            start = self.at(HART, base.index * 8) if base.index else HART
            return self.item(start, index)
        return self.field_pointer(name)

    def read_field(self, node: ast.expr) -> Value:
        owner = self.device_state(node)
        if owner is not None:
            return self.load(self.device_place(node, owner)), U
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
            return self.read("%np"), U
        if self.module.markers and name in ("x", "f") and isinstance(node, ast.Subscript):
            return self.call(self.named(f"read.{name}"), "i64", words(self.as_word(node.slice)), convention=""), U
        return self.load(self.place(node)), U

    def as_word(self, node: ast.expr) -> Word:
        operand, type_ = self.expression(node)
        if type_ != U:
            raise self.error(node, f"needs a U64, is {type_}")
        return Word(operand)

    def expression(self, node: ast.expr, want: str = U) -> Value:
        number = self.constant(node)
        if number is not None:
            if self.is_bool(node):
                return str(int(number)), B
            return str(to_i64(number)), want if want in (U, S) else U
        match node:
            case ast.Name(id=name) if name in self.locals:
                slot, type_ = self.locals[name]
                return self.read(slot, LLVM[type_]), type_
            case ast.Attribute() | ast.Subscript(value=ast.Attribute()):
                return self.read_field(node)
            case ast.Subscript(value=ast.Name()):
                return self.table_item(node)
            case ast.BinOp():
                return self.binary_expression(node)
            case ast.UnaryOp(op=ast.Not()) | ast.BoolOp() | ast.Compare():
                return self.boolean(node)
            case ast.UnaryOp(op=ast.Invert(), operand=operand):
                value, type_ = self.expression(operand)
                return self.binary("xor", Word(value), -1), type_
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                value, type_ = self.expression(operand)
                return self.sub(0, Word(value)), type_
            case ast.IfExp():
                return self.conditional(node)
            case ast.Call():
                result = self.call_expression(node)
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

    def binary_expression(self, node: ast.BinOp) -> Value:
        if isinstance(node.op, ast.LShift | ast.RShift):
            a, type_ = self.expression(node.left)
            b, count = self.expression(node.right)
            if type_ == B or count != U:
                raise self.error(node, "a value is shifted by a U64")
            op = "shl" if isinstance(node.op, ast.LShift) else "ashr" if type_ == S else "lshr"
            return self.binary(op, Word(a), Word(b)), type_
        if type(node.op) not in ARITHMETIC:
            raise self.error(node, "operator is not in the subset")
        a, b, type_ = self.both(node, node.left, node.right)
        if type_ == B:
            raise self.error(node, "arithmetic on a bool: use u64()")
        return self.binary(ARITHMETIC[type(node.op)], Word(a), Word(b)), type_

    def comparison(self, node: ast.Compare) -> Flag:
        if len(node.ops) != 1:
            raise self.error(node, "comparisons are not chained")
        op, right = node.ops[0], node.comparators[0]
        if isinstance(op, ast.In | ast.NotIn):
            table = self.resolve(right)
            if not isinstance(table, dict):
                raise self.error(node, "`in` takes a module-level dispatch table")
            found = Flag(self.call(self.named(self.module.membership(table)), "i1", words(self.as_word(node.left))))
            return found if isinstance(op, ast.In) else self.flags("xor", found, "true")
        a, b, type_ = self.both(node, node.left, right)
        literal = self.constant(right)
        if type_ == U and literal is not None and literal < 0:
            raise self.error(node, "a negative literal is not compared with a U64")
        if type(op) in EQUALITY:
            return Flag(self.operate(f"icmp {EQUALITY[type(op)]}", LLVM[type_], a, b))
        if type_ == B or type(op) not in COMPARE:
            raise self.error(node, "comparison is not in the subset")
        return self.compare(f"{'s' if type_ == S else 'u'}{COMPARE[type(op)]}", Word(a), Word(b))

    def boolean(self, node: ast.expr) -> Value:
        match node:
            case ast.Compare():
                return self.comparison(node), B
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                value, type_ = self.expression(operand)
                if type_ != B:
                    raise self.error(node, "`not` takes a bool")
                return self.flags("xor", Flag(value), "true"), B
        slot = self.slot(B)
        yes, no, done = self.label(), self.label(), self.label()
        self.condition(node, yes, no)
        self.place_label(yes)
        self.write("true", slot, "i1")
        self.goto(done)
        self.place_label(no)
        self.write("false", slot, "i1")
        self.goto(done)
        self.place_label(done)
        return self.read(slot, "i1"), B

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
                self.branch(Flag(value), then, other)

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
        self.write(a, slot, LLVM[type_])
        self.goto(done)
        self.place_label(other)
        b, second = self.expression(node.orelse, type_)
        if literal and second == S:
            type_ = S
        if type_ != second:
            raise self.error(node, f"mixes {type_} and {second}")
        self.locals[f" {key}"] = (slot, type_)
        self.write(b, slot, LLVM[type_])
        self.goto(done)
        self.place_label(done)
        self.depth -= 1
        return self.read(slot, LLVM[type_]), type_

    def table_item(self, node: ast.Subscript) -> Value:
        table = self.resolve(node.value)
        if not isinstance(table, tuple):
            raise self.error(node, "only a module-level tuple of ints is indexed")
        constant = self.module.table(table)
        first = Pointer(self.named(constant.name))
        return self.read(self.item(first, self.as_word(node.slice))), U
