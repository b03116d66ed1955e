"""The text of one LLVM function as it grows: values, labels, branches, and places in the hart's state."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trapline.engine.compiler.source import VOID, B, D, S, SubsetError, U, annotation, definition, names
from trapline.engine.llvm import Builder, Pointer, Word
from trapline.lang import values
from trapline.lang.devices import DEVICES
from trapline.lang.state.words import LAYOUT

if TYPE_CHECKING:
    from trapline.engine.compiler.module import ModuleBuilder

Value = tuple[str, str]  # LLVM operand, type

WROTE, ARCHITECTURAL, WROTE_MODE = 1, 2, 4
MODE = ("priv", "virt")
HART = Pointer("%hart")
LLVM = {U: "i64", S: "i64", B: "i1", D: "i64"}


class FunctionText(Builder):
    """What every part of the emitter shares; `known`, `keys` and `assume` describe a special reading."""

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
        super().__init__("%v")
        self.module, self.function, self.fast, self.assume = module, function, fast, assume
        self.known, self.keys = known, keys
        self.node = definition(function)
        self.globals = names(function)
        self.locals: dict[str, tuple[str, str]] = {}
        self.returns = annotation(self.node.returns, VOID) if self.node.returns else VOID
        self.may_fail = False  # normal: may trap; fast: may bail
        self.always_bails = False
        self.wrote = 0  # WROTE and ARCHITECTURAL bits of what has been written so far
        self.depth = 0
        self.writes_x = False
        self.reads_mode = False
        self.jumps = False
        self.loops: list[tuple[str, str]] = []

    # --- text ---
    def label(self) -> str:
        """A name for a block."""
        self.counter += 1
        return f"L{self.counter}"

    def place_label(self, label: str) -> None:
        """Begin a block, where what stands before it leads, too."""
        self.goto(label)
        self.begin(label)

    def error(self, node: ast.AST, message: str) -> SubsetError:
        where = f"{self.globals.get('__name__')}.{self.node.name} line {getattr(node, 'lineno', '?')}"
        return SubsetError(f"{where}: {message}: {ast.unparse(node)}")

    def slot(self, type_: str) -> str:
        """A stack slot of its own."""
        self.counter += 1
        name = f"t{self.counter}"
        self.locals[f" {name}"] = (f"%l.{name}", type_)
        return f"%l.{name}"

    def gives_up_here(self) -> None:
        """What follows may trap or bail: nothing may have been written by now."""
        if self.wrote & (WROTE if self.fast else ARCHITECTURAL):
            self.module.late_bail = True

    def fail(self) -> None:
        """Leave with trapped (normal) or bail (fast)."""
        self.gives_up_here()
        self.may_fail = True
        self.emit("FAIL")
        self.terminated = True

    def field_pointer(self, name: str) -> Pointer:
        return self.at(HART, LAYOUT.fields[name].index * 8)

    def device_state(self, node: ast.expr) -> str | None:
        """The local whose field this is, where it is one of the devices and not of the hart."""
        match node.value if isinstance(node, ast.Subscript) else node:
            case ast.Attribute(value=ast.Name(id=owner), attr=name) if self.locals.get(owner, ("", ""))[1] == D:
                if name in DEVICES.fields:
                    return owner
                raise self.error(node, "not a field of the devices")
        return None

    def device_pointer(self, owner: str, name: str) -> Pointer:
        state = self.pointer(Word(self.read(self.locals[owner][0])))
        return self.at(state, DEVICES.fields[name].index * 8)

    def field_name(self, node: ast.expr) -> str:
        if isinstance(node, ast.Subscript):
            node = node.value
        match node:
            case ast.Attribute(value=ast.Name(id="hart"), attr=name) if name in LAYOUT.fields:
                return name
        raise self.error(node, "not a field of the hart")


def to_i64(number: int) -> int:
    """The signed decimal that LLVM text wants for a 64-bit pattern."""
    number &= values.MASK64
    return number - (1 << 64) if number >> 63 else number
