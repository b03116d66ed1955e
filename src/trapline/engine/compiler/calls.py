"""Calls: of primitives, of subset functions in the reading that fits, and of a dispatch table's entry."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trapline.engine.compiler import fast_access, primitives
from trapline.engine.compiler.expressions import Expressions
from trapline.engine.compiler.source import (
    VOID,
    B,
    SubsetError,
    U,
    assigned,
    has_hart,
    is_primitive,
    is_quick,
    is_subset,
    kind,
    parameters,
)
from trapline.engine.compiler.text import LLVM, WROTE_MODE, Value
from trapline.engine.forms import form_of
from trapline.engine.llvm import UNLIKELY, Flag, Word, words
from trapline.lang import values
from trapline.lang.functions import COLD, dispatch

if TYPE_CHECKING:
    from trapline.engine.compiler.module import Compiled


class Calls(Expressions):
    """Compiles calls."""

    def call_expression(self, node: ast.Call) -> Value | None:
        """Compile a call of whatever the name stands for."""
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
        if self.fast and target in fast_access.PROBES:
            return fast_access.fast_access(self, node, fast_access.PROBES[target])
        return self.subset_call(node, target)

    def subset_call(self, node: ast.Call, target: Callable[..., Any]) -> Value | None:
        """Call a subset function in the reading that fits this one."""
        target = form_of(target)
        folds = (bool(self.keys) and self.module.folds(target)) or is_quick(target)
        if self.fast and kind(target) == COLD and not folds:
            compiled = self.module.function(target)
            if not self.module.is_pure(target):
                if self.depth == 0:
                    self.always_bails = True
                self.fail()
                self.place_label(self.label())
                if compiled.returns == VOID:
                    return None
                return ("0" if compiled.returns != B else "false", compiled.returns)
            self.module.pure[target.__name__] = target
            if self.module.markers:
                return self.pure_call(compiled, target, self.arguments(node, target, {}))
            return self.finish_call(compiled, self.arguments(node, target, {}))
        fast = self.fast and (kind(target) != COLD or folds)
        # A CSR by its number: the table's row alone.
        known = self.known_arguments(node, target) if (fast and self.keys) or self.module.folds(target) else {}
        compiled = self.module.function(
            target, fast=fast, assume=self.assume, known=known, keys=self.keys if fast else ()
        )
        return self.finish_call(compiled, self.arguments(node, target, known))

    def pure_call(self, compiled: Compiled, target: Callable[..., Any], args: list[str]) -> Value | None:
        """From a template, a cold function is called through its C form (handlers.thunk)."""
        self.wrote |= compiled.writes
        name = f"p.{target.__name__}"
        given = []
        for arg in args if has_hart(target) else ["ptr %hart", *args]:
            type_, _, operand = arg.partition(" ")
            given.append(words(self.widen(operand)) if type_ == "i1" else arg)
        self.module.declare(name, len(given) - 1)
        result = Word(self.call(self.named(name), "i64", ", ".join(given), convention=""))
        if compiled.returns == VOID:
            return None
        return (self.narrow(result, "i1") if compiled.returns == B else result), compiled.returns

    def known_arguments(self, node: ast.Call, target: Callable[..., Any]) -> dict[str, int]:
        """Parameters that get a constant and are not assigned in the callee."""
        given = node.args[1:] if has_hart(target) else node.args
        names = [name for name, _ in parameters(target)]
        changed = assigned(target)
        found = {name: self.constant(arg) for name, arg in zip(names, given, strict=False) if name not in changed}
        return {name: value for name, value in found.items() if value is not None}

    def arguments(self, node: ast.Call, target: Callable[..., Any], known: dict[str, int]) -> list[str]:
        """The LLVM arguments of a call, without the parameters that the callee's reading knows."""
        params = parameters(target)
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
        """Emit the call and what follows a failure."""
        if compiled.fast:
            args = [*args, "i64 %pc", "ptr %np", "ptr %tlb", "ptr %jumped", "i64 %now", "i64 %priv", "i64 %virt"]
            if compiled.reads_mode and self.wrote & WROTE_MODE:
                raise SubsetError(f"{compiled.symbol}: reads the mode after it was written")
            self.reads_mode |= compiled.reads_mode
        self.writes_x |= compiled.writes_x
        self.jumps |= compiled.jumps
        result_type = compiled.result_type()
        in_place = not self.fast and self.module.on_trap_path(self.function, compiled.symbol)
        more = " alwaysinline" if in_place else ""
        result = self.call(self.named(compiled.symbol), result_type, ", ".join(args), more=more)
        if not compiled.may_fail:
            self.wrote |= compiled.writes
            return None if compiled.returns == VOID else (result, compiled.returns)
        self.may_fail = True
        if compiled.always_bails and self.depth == 0:
            self.always_bails = True
        failed = result if compiled.returns == VOID else self.part(1, result_type, result)
        bad, good = self.label(), self.label()
        self.branch(Flag(failed), bad, good, UNLIKELY)
        self.place_label(bad)
        wrote = self.wrote
        self.fail()
        self.wrote = wrote | compiled.writes
        self.place_label(good)
        if compiled.returns == VOID:
            return None
        return self.part(0, result_type, result), compiled.returns

    def dispatch_call(self, node: ast.Call) -> Value | None:
        """Call a dispatch table's entry."""
        table = self.resolve(node.args[0])
        if not isinstance(table, dict) or not table:
            raise self.error(node, "dispatch takes a module-level dict")
        rest = ast.copy_location(ast.Call(node.func, node.args[2:], []), node)
        if self.keys or self.constant(node.args[1]) is not None:
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
                self.branch(self.compare("eq", key, value), here, other)
                self.place_label(here)
            self.wrote = before
            result = self.subset_call(rest, target)
            if result is not None:
                type_ = result[1]
                slot = slot or self.slot(type_)
                self.write(result[0], slot, LLVM[type_])
            wrote |= self.wrote
            self.goto(done)
            if value != last:
                self.place_label(other)
        self.depth -= 1
        self.wrote = wrote
        self.place_label(done)
        return (self.read(slot, LLVM[type_]), type_) if slot else None
