"""One subset function -> one LLVM function.

Every function exists in up to two readings. The normal one does everything: a raise stores the
trap and returns "trapped". The fast one exists for instruction handlers: a raise or a call of a cold
function returns "bail", nothing has been written by then, and the handler runs the normal one instead.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trapline.engine.compiler import primitives
from trapline.engine.compiler.source import (
    B,
    S,
    SubsetError,
    U,
    VOID,
    annotation,
    definition,
    has_hart,
    is_primitive,
    is_subset,
    kind,
)
from trapline.lang import values
from trapline.lang.functions import COLD, IllegalInstruction, Trap, VirtualInstruction, dispatch
from trapline.lang.state import LAYOUT

if TYPE_CHECKING:
    from trapline.engine.compiler.module import Compiled, ModuleBuilder

Value = tuple[str, str]  # LLVM operand, type

ARITHMETIC = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.BitAnd: "and", ast.BitOr: "or", ast.BitXor: "xor"}
COMPARE = {ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge"}
EQUALITY = {ast.Eq: "eq", ast.NotEq: "ne"}
LLVM = {U: "i64", S: "i64", B: "i1"}
FAST_OK_WRITES = {"access_va"}


class FunctionEmitter:
    """Compiles one function in one reading."""

    def __init__(
        self,
        module: ModuleBuilder,
        function: Callable[..., Any],
        *,
        fast: bool,
        assume: dict[str, int],
        known: dict[str, int],
        keys: tuple[int, ...],
    ):
        self.module, self.function, self.fast, self.assume = module, function, fast, assume
        self.known, self.keys = known, keys
        self.node = definition(function)
        self.globals = function.__globals__
        self.lines: list[str] = []
        self.counter = 0
        self.locals: dict[str, tuple[str, str]] = {}
        self.returns = annotation(self.node.returns, VOID) if self.node.returns else VOID
        self.may_fail = False  # normal: may trap; fast: may bail
        self.always_bails = False
        self.wrote = False
        self.depth = 0
        self.terminated = False
        self.writes_x = False
        self.jumps = False
        self.loops: list[tuple[str, str]] = []

    # --- text ---
    def emit(self, text: str) -> None:
        if not self.terminated:
            self.lines.append("  " + text)

    def value(self, text: str) -> str:
        self.counter += 1
        name = f"%v{self.counter}"
        self.emit(f"{name} = {text}")
        return name

    def label(self) -> str:
        self.counter += 1
        return f"L{self.counter}"

    def place_label(self, label: str) -> None:
        if not self.terminated:
            self.lines.append(f"  br label %{label}")
        self.lines.append(f"{label}:")
        self.terminated = False

    def branch(self, condition: str, then: str, other: str, weights: str = "") -> None:
        self.emit(f"br i1 {condition}, label %{then}, label %{other}{weights}")
        self.terminated = True

    def goto(self, label: str) -> None:
        self.emit(f"br label %{label}")
        self.terminated = True

    def error(self, node: ast.AST, message: str) -> SubsetError:
        where = f"{self.globals.get('__name__')}.{self.node.name} line {getattr(node, 'lineno', '?')}"
        return SubsetError(f"{where}: {message}: {ast.unparse(node)}")

    # --- the function ---
    def compile(self) -> str:
        """Return the body lines; the module writes the head once may_fail is known."""
        args = self.node.args.args
        if self.node.args.defaults or self.node.args.kwonlyargs or self.node.args.vararg:
            raise self.error(self.node, "default, keyword and star parameters are not in the subset")
        for arg in args[1:] if has_hart(self.function) else args:
            if arg.arg in self.known:
                continue
            type_ = annotation(arg.annotation, U)
            slot = f"%p.{arg.arg}"
            self.locals[arg.arg] = (slot, type_)
            self.emit(f"store {LLVM[type_]} %a.{arg.arg}, ptr {slot}")
        self.body(self.node.body)
        if not self.terminated:
            if self.returns != VOID:
                raise self.error(self.node, "a path ends without a return value")
            self.return_value(None)
        return "\n".join(self.lines)

    def parameters(self) -> list[tuple[str, str]]:
        """Names and types of the parameters that this reading still has."""
        return [(n, t) for n, t in self.module.parameters(self.function) if n not in self.known]

    def body(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            if self.terminated:
                return
            self.statement(statement)

    def return_value(self, result: str | None) -> None:
        self.emit(f"RETURN {result or ''}".rstrip())
        self.terminated = True

    def fail(self) -> None:
        """Leave with trapped (normal) or bail (fast)."""
        if self.fast and self.wrote:
            self.module.late_bail = True
        self.may_fail = True
        self.emit("FAIL")
        self.terminated = True

    # --- statements ---
    def statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Expr(value=ast.Constant()) | ast.Pass():
                pass
            case ast.Expr(value=ast.Call() as call):
                self.call(call, need=False)
            case ast.Assign(targets=[ast.Name(id=name)]):
                self.assign_local(node, name, self.expression(node.value))
            case ast.AnnAssign(target=ast.Name(id=name)) if node.value is not None:
                self.assign_local(node, name, self.expression(node.value))
            case ast.Assign(targets=[target]):
                self.assign_place(target, self.expression(node.value))
            case ast.AugAssign(target=ast.Name(id=name)):
                both = ast.copy_location(ast.BinOp(ast.Name(name, ast.Load()), node.op, node.value), node)
                self.assign_local(node, name, self.expression(ast.fix_missing_locations(both)))
            case ast.AugAssign():
                both = ast.copy_location(ast.BinOp(node.target, node.op, node.value), node)
                self.assign_place(node.target, self.expression(ast.fix_missing_locations(both)))
            case ast.If():
                self.if_statement(node)
            case ast.For():
                self.for_statement(node)
            case ast.Break() if self.loops:
                self.goto(self.loops[-1][1])
            case ast.Continue() if self.loops:
                self.goto(self.loops[-1][0])
            case ast.Return():
                self.return_statement(node)
            case ast.Raise():
                self.raise_statement(node)
            case _:
                raise self.error(node, "statement is not in the subset")

    def assign_local(self, node: ast.AST, name: str, value: Value) -> None:
        operand, type_ = value
        slot, declared = self.locals.setdefault(name, (f"%l.{name}", type_))
        if declared != type_:
            raise self.error(node, f"{name} is {declared} and gets {type_}")
        self.emit(f"store {LLVM[type_]} {operand}, ptr {slot}")

    def assign_place(self, target: ast.expr, value: Value) -> None:
        operand, type_ = value
        if type_ != U:
            raise self.error(target, f"a field takes a U64, not {type_}")
        name = self.field_name(target)
        if name == "next_pc" and self.fast:
            self.emit(f"store i64 {operand}, ptr %np")
            return
        if name not in FAST_OK_WRITES:
            self.wrote = True
        if name == "x":
            self.writes_x = True
        self.emit(f"store i64 {operand}, ptr {self.place(target, store=True)}, align 8")

    def if_statement(self, node: ast.If) -> None:
        constant = self.constant_condition(node.test)
        if constant is not None:
            self.body(node.body if constant else node.orelse)
            return
        then, other, done = self.label(), self.label(), self.label()
        self.depth += 1
        self.condition(node.test, then, other if node.orelse else done)
        before = self.wrote
        self.place_label(then)
        self.body(node.body)
        open_then = not self.terminated
        wrote_then = self.wrote and open_then
        if open_then:
            self.goto(done)
        if node.orelse:
            self.wrote = before
            self.place_label(other)
            self.body(node.orelse)
            open_other = not self.terminated
            wrote_other = self.wrote and open_other
            if open_other:
                self.goto(done)
        else:
            open_other, wrote_other = True, before
        self.depth -= 1
        if open_then or open_other:
            self.place_label(done)
        self.wrote = wrote_then or wrote_other

    def for_statement(self, node: ast.For) -> None:
        match node:
            case ast.For(target=ast.Name(id=name), iter=ast.Call(func=ast.Name(id="range"), args=args), orelse=[]):
                bounds = [self.constant(a) for a in args]
            case _:
                raise self.error(node, "only `for NAME in range(LITERALS)` is in the subset")
        if None in bounds or len(bounds) > 3:
            raise self.error(node, "range bounds must be literals")
        known = [int(b) for b in bounds if b is not None]
        start, stop, step = (0, known[0], 1) if len(known) == 1 else (*known, 1)[:3]
        head, body, next_, done = self.label(), self.label(), self.label(), self.label()
        self.assign_local(node, name, (str(start), U))
        slot = self.locals[name][0]
        self.place_label(head)
        index = self.value(f"load i64, ptr {slot}")
        self.branch(self.value(f"icmp {'slt' if step > 0 else 'sgt'} i64 {index}, {stop}"), body, done)
        self.place_label(body)
        self.loops.append((next_, done))
        self.depth += 1
        self.body(node.body)
        self.depth -= 1
        self.loops.pop()
        self.place_label(next_)
        following = self.value(f"load i64, ptr {slot}")
        self.emit(f"store i64 {self.value(f'add i64 {following}, {step}')}, ptr {slot}")
        self.goto(head)
        self.place_label(done)

    def return_statement(self, node: ast.Return) -> None:
        if node.value is None:
            if self.returns != VOID:
                raise self.error(node, "a value must be returned")
            self.return_value(None)
            return
        operand, type_ = self.expression(node.value)
        if type_ != self.returns:
            raise self.error(node, f"returns {type_}, declared {self.returns}")
        self.return_value(operand)

    def raise_statement(self, node: ast.Raise) -> None:
        if not isinstance(node.exc, ast.Call):
            raise self.error(node, "raise needs a call of Trap")
        target = self.resolve(node.exc.func)
        args = node.exc.args
        if target is IllegalInstruction or target is VirtualInstruction:
            cause = 2 if target is IllegalInstruction else 22
            args = [ast.copy_location(ast.Constant(cause), node)]
        elif target is not Trap or node.exc.keywords or not 1 <= len(args) <= 5:
            raise self.error(node, "only Trap, IllegalInstruction and VirtualInstruction are raised, positionally")
        if not has_hart(self.function):
            raise self.error(node, "a function without `hart` cannot trap")
        if self.fast:
            if self.depth == 0:
                self.always_bails = True
            self.fail()
            return
        operands = [self.as_word(a) for a in args] + ["0"] * (5 - len(args))
        for name, operand in zip(("cause", "tval", "tval2", "tinst", "gva"), operands, strict=True):
            self.emit(f"store i64 {operand}, ptr {self.field_pointer('trap_' + name)}, align 8")
        self.fail()

    # --- places ---
    def field_pointer(self, name: str) -> str:
        return self.value(f"getelementptr inbounds i8, ptr %hart, i64 {LAYOUT.fields[name].index * 8}")

    def field_name(self, node: ast.expr) -> str:
        if isinstance(node, ast.Subscript):
            node = node.value
        match node:
            case ast.Attribute(value=ast.Name(id="hart"), attr=name) if name in LAYOUT.fields:
                return name
        raise self.error(node, "not a field of the hart")

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
        name = self.field_name(node)
        if name in self.assume:
            return str(self.assume[name]), U
        if self.fast and name == "pc":
            return "%pc", U
        if self.fast and name == "next_pc":
            return self.value("load i64, ptr %np"), U
        return self.value(f"load i64, ptr {self.place(node)}, align 8"), U

    # --- expressions ---
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
        match node:
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
        match node:
            case ast.Attribute(value=ast.Name(id="hart"), attr=name):
                return self.assume.get(name)
        return self.constant(node)

    def as_word(self, node: ast.expr) -> str:
        operand, type_ = self.expression(node)
        if type_ != U:
            raise self.error(node, f"needs a U64, is {type_}")
        return operand

    def expression(self, node: ast.expr, want: str = U) -> Value:
        number = self.constant(node)
        if number is not None:
            if isinstance(node, ast.Constant) and isinstance(node.value, bool):
                return str(int(node.value)), B
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
                result = self.call(node, need=True)
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
        slot = self.module_slot("i1")
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

    def module_slot(self, type_: str) -> str:
        self.counter += 1
        name = f"t{self.counter}"
        self.locals[f" {name}"] = (f"%l.{name}", {"i1": B, "i64": U}[type_])
        return f"%l.{name}"

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

    # --- calls ---
    def call(self, node: ast.Call, *, need: bool) -> Value | None:
        target = self.resolve(node.func)
        if node.keywords:
            raise self.error(node, "keyword arguments are not in the subset")
        if target is dispatch:
            return self.dispatch_call(node)
        if target is values.U64 and len(node.args) == 1:
            return self.as_word(node.args[0]), U
        if target is not None and (target.__module__ == values.__name__ or is_primitive(target)):
            return primitives.lower(self, node, target)
        if not callable(target) or not is_subset(target):
            raise self.error(node, "call of something that is not in the subset")
        hot = getattr(target, "__fast_path__", None)
        if self.fast and hot is not None:
            return primitives.fast_access(self, node, hot)
        return self.subset_call(node, target)

    def subset_call(self, node: ast.Call, target: Callable[..., Any]) -> Value | None:
        """Call a subset function in the reading that fits this one."""
        folds = bool(self.keys) and self.module.folds(target)
        if self.fast and kind(target) == COLD and not folds:
            compiled = self.module.function(target)
            if not self.module.is_pure(target):
                if self.depth == 0:
                    self.always_bails = True
                self.fail()
                self.place_label(self.label())
                return ("0" if compiled.returns != B else "false", compiled.returns)
            return self.finish_call(compiled, self.arguments(node, target, {}))
        fast = self.fast and (kind(target) != COLD or folds)
        known = self.known_arguments(node, target) if fast and self.keys else {}
        compiled = self.module.function(
            target, fast=fast, assume=self.assume, known=known, keys=self.keys if fast else ()
        )
        return self.finish_call(compiled, self.arguments(node, target, known))

    def known_arguments(self, node: ast.Call, target: Callable[..., Any]) -> dict[str, int]:
        """Parameters that get a constant and are not assigned in the callee."""
        given = node.args[1:] if has_hart(target) else node.args
        names = [name for name, _ in self.module.parameters(target)]
        changed = {n.id for n in ast.walk(definition(target)) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        found = {name: self.constant(arg) for name, arg in zip(names, given, strict=False) if name not in changed}
        return {name: value for name, value in found.items() if value is not None}

    def arguments(self, node: ast.Call, target: Callable[..., Any], known: dict[str, int]) -> list[str]:
        params = self.module.parameters(target)
        given = node.args[1:] if has_hart(target) else node.args
        if len(params) != len(given):
            raise self.error(node, f"takes {len(params)} arguments")
        out = []
        for (name, type_), arg in zip(params, given, strict=True):
            if name in known:
                continue
            operand, actual = self.expression(arg, type_)
            if actual != type_:
                raise self.error(node, f"parameter {name} is {type_}, gets {actual}")
            out.append(f"{LLVM[type_]} {operand}")
        if has_hart(target):
            out.insert(0, "ptr %hart")
        return out

    def finish_call(self, compiled: Compiled, args: list[str]) -> Value | None:
        if compiled.fast:
            args = [*args, "i64 %pc", "ptr %np", "ptr %tlb", "ptr %jumped"]
        self.writes_x |= compiled.writes_x
        self.jumps |= compiled.jumps
        if self.fast and compiled.may_fail and self.wrote:
            self.module.late_bail = True
        result_type = compiled.result_type()
        text = f"call fastcc {result_type} @{compiled.symbol}({', '.join(args)})"
        if not self.fast and self.module.on_trap_path(self.function, compiled.symbol):
            text += " alwaysinline"
        if not compiled.may_fail:
            self.wrote |= compiled.writes
            if compiled.returns == VOID:
                self.emit(text)
                return None
            return self.value(text), compiled.returns
        result = self.value(text)
        self.may_fail = True
        if compiled.always_bails and self.depth == 0:
            self.always_bails = True
        failed = result if compiled.returns == VOID else self.value(f"extractvalue {result_type} {result}, 1")
        bad, good = self.label(), self.label()
        self.branch(failed, bad, good, ", !prof !1")
        self.place_label(bad)
        wrote = self.wrote
        self.fail()
        self.wrote = wrote or compiled.writes
        self.place_label(good)
        if compiled.returns == VOID:
            return None
        return self.value(f"extractvalue {result_type} {result}, 0"), compiled.returns

    def dispatch_call(self, node: ast.Call) -> Value | None:
        table = self.resolve(node.args[0])
        if not isinstance(table, dict) or not table:
            raise self.error(node, "dispatch takes a module-level dict")
        rest = ast.copy_location(ast.Call(node.func, node.args[2:], []), node)
        if self.keys:
            return self.folded_dispatch(node, table, rest)
        compiled = self.module.switch(table)
        key = self.as_word(node.args[1])
        args = self.arguments(rest, next(iter(table.values())), {})
        return self.finish_call(compiled, [f"i64 {key}", *args])

    def folded_dispatch(self, node: ast.Call, table: dict[int, Any], rest: ast.Call) -> Value | None:
        """A dispatch on one of few keys: direct calls."""
        known = self.constant(node.args[1])
        entries = {k: table[k] for k in (self.keys if known is None else (known,)) if k in table}
        if not entries:
            raise self.error(node, "no entry for the keys of this reading")
        if len(entries) == 1:
            return self.subset_call(rest, next(iter(entries.values())))
        key, done, slot, type_ = self.as_word(node.args[1]), self.label(), "", VOID
        wrote = before = self.wrote
        self.depth += 1
        last = list(entries)[-1]
        for value, target in entries.items():
            other = self.label()
            if value != last:
                here = self.label()
                self.branch(self.value(f"icmp eq i64 {key}, {value}"), here, other)
                self.place_label(here)
            self.wrote = before
            result = self.subset_call(rest, target)
            if result is not None:
                type_ = result[1]
                slot = slot or self.module_slot(LLVM[type_])
                self.emit(f"store {LLVM[type_]} {result[0]}, ptr {slot}")
            wrote |= self.wrote
            self.goto(done)
            if value != last:
                self.place_label(other)
        self.depth -= 1
        self.wrote = wrote
        self.place_label(done)
        return (self.value(f"load {LLVM[type_]}, ptr {slot}"), type_) if slot else None


def to_i64(number: int) -> int:
    """The signed decimal that LLVM text wants for a 64-bit pattern."""
    number &= values.MASK64
    return number - (1 << 64) if number >> 63 else number


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
