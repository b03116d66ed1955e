"""All compiled functions of one LLVM module."""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

# Their forms are compiled.
import trapline.engine.floats.forms
import trapline.engine.settled
import trapline.engine.tlb  # noqa: F401
from trapline.engine.compiler.emitter import FunctionEmitter
from trapline.engine.compiler.source import VOID, B, definition, has_hart, kind, parameters, walk
from trapline.engine.compiler.text import LLVM, to_i64
from trapline.engine.definitions import Constant, Definition, Item
from trapline.engine.forms import form_of
from trapline.engine.llvm import Builder, Word, declared, declared_intrinsics, signature
from trapline.lang.functions import INLINE

PREAMBLE = f"""
!0 = !{{!"branch_weights", i32 2000, i32 1}}
!1 = !{{!"branch_weights", i32 1, i32 2000}}
{declared_intrinsics()}
"""

FAST = "fastcc"  # of functions that only the module itself calls

# State that a function may not touch when it is called from a fast handler, which keeps pc and time in registers.
POSITION = {"pc", "next_pc", "insn", "insn_length", "instret", "attention", "exit_reason", "exit_arg"}
POSITION_PRIMITIVES = {
    "jump", "leave", "flush_translations", "flush_page", "forget_code", "arm_code", "cache_translation", "note_store",
    "device_load", "device_store", "ask_host", "call_registers", "on_hart", "traps_on_hart", "transformed_instruction",
    "instruction_bits", "user_mmio", "call_action", "run_engine", "enter_code", "serve_run",
}  # fmt: skip


# Rooms of cold functions that a reading for one CSR takes apart.
FOLDED = {f"trapline.privilege.{n}" for n in ("csr", "csr_table", "csr_status", "csr_interrupts", "counters")}


# Calls between cold functions that are compiled in place, so that a trap costs tens of nanoseconds.
TRAP_PATH = {
    "deliver_exception": {"take_trap"},
    "mret": {"require_machine", "mret"},
    "sret": {"require_sret", "sret"},
    "environment_call": {"take_trap"},
    "hosted_exit": {"supervisor_exit"},
    "supervisor_exit": {"redirect_exit"},
    "enter_guest": {"sret"},
}
# Steps of an exit that hosted software handles, in place wherever they are taken (kvm.exits.native_exit).
EXIT_STEPS = {
    "save_guest", "begin_exit", "move_counters", "sync_pending", "trap_redirect", "note_exit", "spend_time",
    "timer_tick", "enter_vcpu", "flush_pending", "enter_guest", "slice_left",
}  # fmt: skip
TRAP_PATH_CALLEES = {"environment_call", "select_context", *EXIT_STEPS}.union(*TRAP_PATH.values())
KEY = Word("%key")  # by which a dispatch table is asked


@dataclass(slots=True)
class Compiled:
    """What callers need to know of a compiled function."""

    symbol: str
    returns: str
    fast: bool
    may_fail: bool = False
    always_bails: bool = False
    late_bail: bool = False
    writes: int = 0
    writes_x: bool = False
    reads_mode: bool = False
    jumps: bool = False
    touches: set[str] = field(default_factory=set)

    def result_type(self) -> str:
        """The LLVM return type: the value, and whether the call failed."""
        if not self.may_fail:
            return LLVM.get(self.returns, "void")
        return "i1" if self.returns == VOID else f"{{ {LLVM[self.returns]}, i1 }}"


class ModuleBuilder:
    """Compiles functions on demand and collects their text."""

    def __init__(
        self, engine_functions: dict[str, Callable[..., Any]], *, host_has_fma: bool, markers: bool = False
    ) -> None:
        self.markers = markers  # registers are named by calls of read.x, write.x, read.f, write.f
        self.pure: dict[str, Callable[..., Any]] = {}  # cold functions that fast readings call
        self.declared: dict[str, str] = {}
        self.items: list[Item] = []
        self.done: dict[Any, Compiled] = {}
        self.names: dict[str, int] = {}
        self.tables: dict[int, Constant] = {}
        self.keep: list[Any] = []
        self.memberships: dict[int, str] = {}
        self.engine_functions = engine_functions
        self.host_has_fma = host_has_fma
        self.late_bail = False
        self.stack: list[set[str]] = []

    @staticmethod
    def on_trap_path(caller: Callable[..., Any], symbol: str) -> bool:
        """Whether a call is compiled in place although its target is cold."""
        name = symbol.split(".")[0]
        return name in EXIT_STEPS or name in TRAP_PATH.get(caller.__name__, ())

    def engine_function(self, name: str) -> Callable[..., Any]:
        """The subset function that stands behind a primitive."""
        return self.engine_functions[name]

    def symbol(self, name: str) -> str:
        """A unique symbol that still shows the function's name (perf map)."""
        count = self.names.get(name, 0)
        self.names[name] = count + 1
        return name if count == 0 else f"{name}.{count}"

    def declare(self, name: str, words: int, convention: str = "") -> None:
        """Declare a C function of the hart and so many words, once."""
        given = ["ptr", *["i64"] * words]
        self.declared[name] = declared(signature("i64", name, given, "nounwind", convention=convention))

    def touch(self, name: str) -> None:
        """Note a primitive used by the function under compilation."""
        if name in POSITION_PRIMITIVES:
            self.stack[-1].add(name)

    def is_pure(self, function: Callable[..., Any]) -> bool:
        """Whether a cold function may run from a fast handler: it cannot trap and needs no position."""
        compiled = self.function(function)
        return not compiled.may_fail and not compiled.touches

    @staticmethod
    def folds(function: Callable[..., Any]) -> bool:
        """Whether a reading for known keys takes this cold function apart."""
        return function.__module__ in FOLDED

    def function(
        self,
        function: Callable[..., Any],
        *,
        fast: bool = False,
        assume: dict[str, int] | None = None,
        known: dict[str, int] | None = None,
        keys: tuple[int, ...] = (),
    ) -> Compiled:
        """Compile a function in one reading, once.

        `assume` fixes fields of the hart, `known` parameters, `keys` what dispatch can be asked for.
        """
        assume, known, function = assume or {}, known or {}, form_of(function)
        key = (function, fast, tuple(sorted(assume.items())) if fast else (), tuple(sorted(known.items())), keys)
        if key in self.done:
            found = self.done[key]
            self.late_bail |= found.late_bail
            if self.stack:
                self.stack[-1] |= found.touches
            return found
        saved, self.late_bail = self.late_bail, False
        self.stack.append(set())
        emitter = FunctionEmitter(self, function, fast=fast, assume=assume if fast else {}, known=known, keys=keys)
        body = emitter.compile()
        touches = self.stack.pop()
        touches |= POSITION & fields_of(function)
        if self.stack:
            self.stack[-1] |= touches
        symbol = self.symbol(function.__name__ + (".fast" if fast else ""))
        compiled = Compiled(
            symbol, emitter.returns, fast, emitter.may_fail, emitter.always_bails, self.late_bail, emitter.wrote,
            emitter.writes_x, emitter.reads_mode, emitter.jumps, touches,
        )  # fmt: skip
        self.late_bail |= saved
        self.items.append(self.assemble(function, emitter, compiled, body))
        self.done[key] = compiled
        return compiled

    def assemble(
        self, function: Callable[..., Any], emitter: FunctionEmitter, compiled: Compiled, body: str
    ) -> Definition:
        """The whole definition, with returns and failures in their final form."""
        params = ["ptr noalias %hart"] if has_hart(function) else []
        params += [f"{LLVM[t]} %a.{n}" for n, t in emitter.parameters()]
        if compiled.fast:
            params += ["i64 %pc", "ptr %np", "ptr %tlb", "ptr %jumped", "i64 %now", "i64 %priv", "i64 %virt"]
        b = Builder("")
        for slot, type_ in dict.fromkeys(emitter.locals.values()):
            b.called(slot, b.room, LLVM[type_])
        inlined = compiled.fast or kind(function) == INLINE
        small = function.__name__ in TRAP_PATH_CALLEES or self.folds(function)
        attributes = "alwaysinline" if inlined else "" if small else "noinline"
        attributes += ' nounwind "no-builtins"'
        for number, line in enumerate(body.split("\n")):
            finish(b, line, compiled, number)
        return self.internal(compiled, params, b.lines, emitter.uses, attributes)

    @staticmethod
    def internal(
        compiled: Compiled, params: Iterable[str], lines: list[str], uses: Iterable[str], attributes: str = "nounwind"
    ) -> Definition:
        """A function that only the module itself calls."""
        return Definition(
            compiled.symbol, tuple(params), "\n".join(lines), frozenset(uses), compiled.result_type(), FAST, attributes
        )

    def table(self, table: tuple[int, ...]) -> Constant:
        """A constant array for a module-level tuple."""
        if id(table) not in self.tables:
            constant = Constant(self.symbol("table"), tuple(map(to_i64, table)))
            self.items.append(constant)
            self.tables[id(table)] = constant
            self.keep.append(table)
        return self.tables[id(table)]

    def membership(self, table: dict[int, Any]) -> str:
        """A function that tells whether a key is in a dispatch table."""
        if id(table) not in self.memberships:
            name = self.symbol("in_table")
            b = Builder("")
            b.switch(KEY, [(to_i64(k), "yes") for k in table], "no")
            for label, answer in (("yes", "true"), ("no", "false")):
                b.begin(label)
                b.ret("i1", answer)
            self.items.append(self.internal(Compiled(name, B, False), ["i64 %key"], b.lines, ()))
            self.memberships[id(table)] = name
            self.keep.append(table)
        return self.memberships[id(table)]

    def switch(self, table: dict[int, Callable[..., Any]]) -> Compiled:
        """A function that calls the entry of a dispatch table."""
        key = ("switch", id(table))
        if key in self.done:
            found = self.done[key]
            if self.stack:
                self.stack[-1] |= found.touches
            return found
        self.keep.append(table)
        entries = {k: self.function(f) for k, f in table.items()}
        sample = next(iter(table.values()))
        returns = next(iter(entries.values())).returns
        compiled = Compiled(self.symbol("switch"), returns, False)
        for entry in entries.values():
            if entry.returns != returns:
                raise TypeError(f"dispatch table mixes result types ({entry.symbol})")
            compiled.may_fail |= entry.may_fail
            compiled.writes |= entry.writes
            compiled.touches |= entry.touches
        params = parameters(sample)
        head = [
            "i64 %key",
            *(["ptr noalias %hart"] if has_hart(sample) else []),
            *[f"{LLVM[t]} %a.{n}" for n, t in params],
        ]
        targets = {e.symbol: e for e in entries.values()}
        labels = {symbol: f"T{i}" for i, symbol in enumerate(targets)}
        b = Builder("")
        b.switch(KEY, [(to_i64(k), labels[e.symbol]) for k, e in entries.items()], "none")
        b.begin("none")
        b.unreachable()
        for symbol, entry in targets.items():
            b.begin(labels[symbol])
            args = ", ".join([*(["ptr %hart"] if has_hart(sample) else []), *[f"{LLVM[t]} %a.{n}" for n, t in params]])
            switch_case(b, compiled, entry, labels[symbol], args)
        self.items.append(self.internal(compiled, head, b.lines, targets))
        self.done[key] = compiled
        if self.stack:
            self.stack[-1] |= compiled.touches
        return compiled


def switch_case(b: Builder, compiled: Compiled, entry: Compiled, label: str, args: str) -> None:
    """Call one entry and return its result in the switch's own form."""
    result, own = entry.result_type(), compiled.result_type()
    if result == "void":
        b.call(b.named(entry.symbol), result, args)
        b.ret(*(() if own == "void" else ("i1", "false")))
        return
    given = b.called(f"%r{label}", b.call, b.named(entry.symbol), result, args)
    b.ret(own, given if result == own else b.called(f"%s{label}", b.succeeded, own, result, given))


@functools.cache
def fields_of(function: Callable[..., Any]) -> frozenset[str]:
    """The hart fields that a function names itself."""
    return frozenset(
        n.attr
        for n in walk(definition(function))
        if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name) and n.value.id == "hart"
    )


def finish(b: Builder, line: str, compiled: Compiled, number: int) -> None:
    """A line, with LLVM's returns in place of the RETURN and FAIL marks."""
    mark, _, operand = line.strip().partition(" ")
    type_ = LLVM.get(compiled.returns, "void")
    both = f"{{ {type_}, i1 }}"
    if mark == "FAIL":
        b.ret(*(("i1", "true") if compiled.returns == VOID else (both, f"{{ {type_} poison, i1 true }}")))
    elif mark != "RETURN":
        b.take(line)
    elif not compiled.may_fail:
        b.ret(*((type_, operand) if operand else ()))
    elif compiled.returns == VOID:
        b.ret("i1", "false")
    else:
        b.ret(both, b.called(f"%ret{number}", b.succeeded, both, type_, operand))


__all__ = ["B", "Compiled", "ModuleBuilder"]
