"""One subset function -> one LLVM function.

Every function exists in up to two readings. The normal one does everything: a raise stores the
trap and returns "trapped". The fast one exists for instruction handlers: a raise or a call of a cold
function returns "bail", nothing has been written by then, and the handler runs the normal one instead.
"""

from __future__ import annotations

import ast

from trapline.engine.compiler.calls import Calls
from trapline.engine.compiler.source import VOID, U, annotation, has_hart, parameters
from trapline.engine.compiler.text import ARCHITECTURAL, LLVM, MODE, WROTE, WROTE_MODE, Value
from trapline.engine.llvm import Word, words
from trapline.lang.functions import IllegalInstruction, Trap, VirtualInstruction
from trapline.privilege.causes import ILLEGAL_INST, VIRTUAL_INST

FAST_OK_WRITES = {"access_va"}
VISIBLE = {"x", "f", "fflags", "frm"}


class FunctionEmitter(Calls):
    """Compiles one function in one reading."""

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
            self.write(f"%a.{arg.arg}", slot, LLVM[type_])
        self.body(self.node.body)
        if not self.terminated:
            if self.returns != VOID:
                raise self.error(self.node, "a path ends without a return value")
            self.return_value(None)
        return "\n".join(self.lines)

    def parameters(self) -> list[tuple[str, str]]:
        """Names and types of the parameters that this reading still has."""
        return [(n, t) for n, t in parameters(self.function) if n not in self.known]

    def body(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            if self.terminated:
                return
            self.statement(statement)

    def return_value(self, result: str | None) -> None:
        self.emit(f"RETURN {result or ''}".rstrip())
        self.terminated = True

    def statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Expr(value=ast.Constant()) | ast.Pass():
                pass
            case ast.Expr(value=ast.Call() as call):
                self.call_expression(call)
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
        self.write(operand, slot, LLVM[type_])

    def assign_place(self, target: ast.expr, value: Value) -> None:
        type_ = value[1]
        if type_ != U:
            raise self.error(target, f"a field takes a U64, not {type_}")
        operand = Word(value[0])
        owner = self.device_state(target)
        if owner is not None:
            self.store(operand, self.device_place(target, owner))
            self.wrote |= WROTE
            return
        name = self.field_name(target)
        if name == "next_pc" and self.fast:
            self.write(operand, "%np")
            return
        if name not in FAST_OK_WRITES:
            self.wrote |= WROTE | (ARCHITECTURAL if name in VISIBLE else 0) | (WROTE_MODE if name in MODE else 0)
        if name == "x":
            self.writes_x = True
        if self.module.markers and name in ("x", "f") and isinstance(target, ast.Subscript):
            self.call(self.named(f"write.{name}"), "void", words(self.as_word(target.slice), operand), convention="")
            return
        self.store(operand, self.place(target, store=True))

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
        wrote_then = self.wrote if open_then else 0
        if open_then:
            self.goto(done)
        if node.orelse:
            self.wrote = before
            self.place_label(other)
            self.body(node.orelse)
            open_other = not self.terminated
            wrote_other = self.wrote if open_other else 0
            if open_other:
                self.goto(done)
        else:
            open_other, wrote_other = True, before
        self.depth -= 1
        if open_then or open_other:
            self.place_label(done)
        self.wrote = wrote_then | wrote_other

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
        index = Word(self.read(slot))
        self.branch(self.compare("slt" if step > 0 else "sgt", index, stop), body, done)
        self.place_label(body)
        self.loops.append((next_, done))
        self.depth += 1
        self.body(node.body)
        self.depth -= 1
        self.loops.pop()
        self.place_label(next_)
        following = Word(self.read(slot))
        self.write(self.add(following, step), slot)
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
            cause = ILLEGAL_INST if target is IllegalInstruction else VIRTUAL_INST
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
        operands = [self.as_word(a) for a in args] + [Word("0")] * (5 - len(args))
        for name, operand in zip(("cause", "tval", "tval2", "tinst", "gva"), operands, strict=True):
            self.store(operand, self.field_pointer("trap_" + name))
        self.fail()
