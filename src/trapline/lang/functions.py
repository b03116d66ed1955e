"""Decorators that put a plain Python function into the subset, and the exception that is a trap."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from trapline.dataclass import dataclass, field
from trapline.lang.facts import Access, Flow
from trapline.lang.values import U64

if TYPE_CHECKING:
    from trapline.lang.state import Hart

_WORD = re.compile(r"[a-z]\w*")

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")

INLINE = "inline"
COLD = "cold"
PRIMITIVE = "primitive"


class Trap(Exception):
    """A synchronous exception raised by a subset function.

    `cause` is the exception code; `tval`, `tval2`, `tinst` are what the trap registers get (64 bits);
    `gva` is 1 when tval is a guest virtual address (Hypervisor chapter, mstatus.GVA and hstatus.GVA).
    """

    def __init__(self, cause: int, tval: int = 0, tval2: int = 0, tinst: int = 0, gva: int = 0) -> None:
        super().__init__(int(cause), int(tval))
        self.cause, self.tval, self.tval2 = int(cause), int(tval), int(tval2)
        self.tinst, self.gva = int(tinst), int(gva)

    def note(self, hart: Hart) -> None:
        """Leave it in the hart, for who called what trapped."""
        hart.trap_cause, hart.trap_tval, hart.trap_tval2 = self.cause, self.tval, self.tval2
        hart.trap_tinst, hart.trap_gva = self.tinst, self.gva


class IllegalInstruction(Trap):
    """Cause 2; tval becomes the instruction bits when the trap is delivered."""

    def __init__(self) -> None:
        super().__init__(2)


class VirtualInstruction(Trap):
    """Cause 22; tval becomes the instruction bits when the trap is delivered."""

    def __init__(self) -> None:
        super().__init__(22)


def inline(function: F) -> F:
    """A subset function compiled into its callers: the fast path."""
    function.__subset__ = INLINE  # type: ignore[attr-defined]
    return function


def cold(function: F) -> F:
    """A subset function compiled once and called: page walker, take_trap, CSR access."""
    function.__subset__ = COLD  # type: ignore[attr-defined]
    return function


def primitive(function: F) -> F:
    """One of the closed list that the compiler implements itself."""
    function.__subset__ = PRIMITIVE  # type: ignore[attr-defined]
    return function


def named(name: str) -> Callable[[F], F]:
    """Name a function of a family: the compiled code shows this name."""

    def mark(function: F) -> F:
        function.__name__ = name
        return function

    return mark


def generated(text: str, **space: Any) -> Any:
    """Define the function of subset source `text`, whose names beside U64's are given, for both engines.

    CPython compiles the text at the first call: most of these functions are never called there.
    """
    name = text[4 : text.index("(")]
    names = {"Any": Any, "U64": U64, "Hart": Any, **space}
    made: list[Callable[..., Any]] = []

    def function(*args: Any) -> Any:
        if not made:
            exec(text, names)
            made.append(names[name])
        return made[0](*args)

    function.__name__ = function.__qualname__ = name
    function.__module__ = space.get("__name__", __name__)
    function.__subset_source__ = text  # type: ignore[attr-defined]
    function.__subset_names__ = names  # type: ignore[attr-defined]
    return function


def hosted(function: F) -> F:
    """A cold function that is called by name: a root of what is compiled (engine.roots)."""
    function.__hosted__ = True  # type: ignore[attr-defined]
    return cold(function)


@dataclass(slots=True)
class Instruction:
    """One instruction: assembly text, encoding and meaning.

    `pattern` reads from the most significant bit: literals of 0 and 1, register fields (rd rs1 rs2 rs3,
    with ' for the three-bit registers), rm, csr, shamt, and immediates with their bit slices.
    """

    text: str
    pattern: str
    extension: str
    function: Callable[..., None] | None = None
    expands: str | None = None
    where: Callable[[dict[str, int]], bool] | None = None
    name: str = ""
    operands: tuple[str, ...] = field(default=())
    effects_first: bool = False
    delivered: Callable[..., None] | None = None
    flow: Flow = Flow.NEXT
    access: Access | None = None
    names: tuple[str, ...] = field(default=())

    def is_float(self, operand: str) -> bool:
        """Whether a register operand (rd, rs1, ...) is a floating-point register."""
        return f"f{operand}" in self.names

    @property
    def has_target(self) -> bool:
        """Whether its immediate is a pc-relative target."""
        return "target" in self.names


def operand_names(text: str) -> tuple[str, ...]:
    """Return the operands of an instruction's text by their names: rd, frs1, target, ..."""
    return tuple(_WORD.findall(text.partition(" ")[2]))


INSTRUCTIONS: list[Instruction] = []


def instruction(
    text: str,
    pattern: str,
    *,
    extension: str,
    where: Callable[[dict[str, int]], bool] | None = None,
    partial: bool = False,
    delivered: Callable[..., None] | None = None,
    flow: Flow = Flow.NEXT,
    access: Access | None = None,
) -> Callable[[F], F]:
    """Declare the decorated subset function as the meaning of an instruction.

    `extension` is the ISA-string name that gates it; several joined by "&" must all be on, by "|" any.
    `where` restricts the encoding by its fields (decode time). `partial` permits an architectural
    write before the last call that may trap. `delivered` is for an instruction that always traps: the
    subset function that takes this trap, from which its fast handler is made. `flow` and `access` say where
    control goes and what memory is touched (lang.facts).
    """

    def register(function: F) -> F:
        code = function.__code__
        names = code.co_varnames[1 : code.co_argcount]
        function.__subset__ = "instruction"  # type: ignore[attr-defined]
        function.__name__ = text.split()[0].replace(".", "_")
        INSTRUCTIONS.append(
            Instruction(
                text=text,
                pattern=pattern,
                extension=extension,
                function=function,
                where=where,
                name=text.split()[0],
                operands=tuple(names),
                effects_first=partial,
                delivered=delivered,
                flow=flow,
                access=access,
                names=operand_names(text),
            )
        )
        return function

    return register


def compressed(
    text: str,
    pattern: str,
    expands: str,
    *,
    extension: str = "C",
    where: Callable[[dict[str, int]], bool] | None = None,
) -> None:
    """Declare a 16-bit encoding as another spelling of a 32-bit instruction.

    `expands` is the target and its operands, for example "addi rd=rd, rs1=rd, imm=imm" or
    "jalr rd=1, rs1=rs1, imm=0": each operand is a field of the pattern or a number.
    """
    INSTRUCTIONS.append(
        Instruction(text, pattern, extension, None, expands, where, text.split()[0], names=operand_names(text))
    )


def dispatch(table: dict[int, Callable[..., R]], key: int, *args: Any) -> R:
    """Call the subset function that `table` holds for `key` (a switch in native code)."""
    return table[int(key)](*args)
