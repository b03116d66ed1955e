"""The text of an LLVM function, an instruction a call: `b.load(b.at(STATE, 16))` writes two lines and gives a name.

Operands are names as LLVM spells them (`%h7`), or numbers where a word is wanted. A name has a type of its own for
mypy, so a pointer is never added to and a word never branched on; at run time it is the string that it looks like.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NewType, ParamSpec, TypeVar, overload

Word = NewType("Word", str)  # i64
Flag = NewType("Flag", str)  # i1
Pointer = NewType("Pointer", str)  # ptr
Double = NewType("Double", str)
Operand = Word | int
Given = ParamSpec("Given")
T = TypeVar("T")

CC = "preserve_nonecc"  # of handlers and regions: their four arguments stay in registers
UNLIKELY, LIKELY = ", !prof !1", ", !prof !0"  # of a branch; the metadata stands in front of each module
STEADY = ", !invariant.load !5"  # of a load: the same whenever it is made (jit.translate.TRAILER)
STATE = Pointer("%st")


def beside(symbol: str, distance: int) -> Pointer:
    """A place so many bytes from a symbol of the module, known when it is linked."""
    return Pointer(f"getelementptr (i8, ptr {symbol}, i64 {distance})")


class Builder:
    """Lines of a function's body; values are numbered behind `prefix`."""

    def __init__(self, prefix: str) -> None:
        self.lines: list[str] = []
        self.counter = 0
        self.terminated = False  # what follows a branch is not reached, until a label
        self.uses: set[str] = set()  # functions and constants of the module
        self._prefix = prefix
        self._name = ""  # of the next value, where it has one of its own

    # --- text ---
    def emit(self, text: str) -> None:
        """An instruction that gives no value."""
        if not self.terminated:
            self.lines.append("  " + text)

    def value(self, text: str) -> str:
        """An instruction that gives a value: its name."""
        if name := self._name:
            self._name = ""
        else:
            self.counter += 1
            name = f"{self._prefix}{self.counter}"
        if not self.terminated:
            self.lines.append(f"  {name} = {text}")
        return name

    def called(self, name: str, make: Callable[Given, T], *given: Given.args, **more: Given.kwargs) -> T:
        """A value with a name of its own: `b.called("%pc", b.add, base, 4)`."""
        self._name = name
        return make(*given, **more)

    def take(self, text: str) -> None:
        """Lines that are there already; what follows goes on behind them."""
        self.lines.append(text)
        self.terminated = False

    def taken(self) -> str:
        """All lines, of which none stay here."""
        text = "\n".join(self.lines)
        self.lines = []
        return text

    def named(self, symbol: str) -> str:
        """A function or a constant of the module."""
        if not self.terminated:
            self.uses.add(symbol)
        return f'@"{symbol}"'

    def begin(self, label: str) -> None:
        """Begin a block."""
        self.lines.append(f"{label}:")
        self.terminated = False

    # --- words ---
    def binary(self, operation: str, a: Operand, b: Operand) -> Word:
        """One of LLVM's operations of two words."""
        return Word(self.value(f"{operation} i64 {a}, {b}"))

    def add(self, a: Operand, b: Operand) -> Word:
        """a + b."""
        return Word(self.value(f"add i64 {a}, {b}"))

    def sub(self, a: Operand, b: Operand) -> Word:
        """a - b."""
        return Word(self.value(f"sub i64 {a}, {b}"))

    def mask(self, a: Operand, b: Operand) -> Word:
        """a & b."""
        return Word(self.value(f"and i64 {a}, {b}"))

    def either(self, a: Operand, b: Operand) -> Word:
        """a | b."""
        return Word(self.value(f"or i64 {a}, {b}"))

    def differ(self, a: Operand, b: Operand) -> Word:
        """a ^ b."""
        return Word(self.value(f"xor i64 {a}, {b}"))

    def mul(self, a: Operand, b: Operand) -> Word:
        """a * b."""
        return Word(self.value(f"mul i64 {a}, {b}"))

    def shl(self, a: Operand, b: Operand) -> Word:
        """a << b."""
        return Word(self.value(f"shl i64 {a}, {b}"))

    def lshr(self, a: Operand, b: Operand) -> Word:
        """a >> b, of an unsigned word."""
        return Word(self.value(f"lshr i64 {a}, {b}"))

    def select(self, condition: Flag, a: Operand, b: Operand) -> Word:
        """A word by a condition."""
        return Word(self.value(f"select i1 {condition}, i64 {a}, i64 {b}"))

    def phi(self, *ways: tuple[Word, str]) -> Word:
        """A word by the block from which control came."""
        return Word(self.value(f"phi i64 {', '.join(f'[ {word}, %{label} ]' for word, label in ways)}"))

    def intrinsic(self, name: str, *words: Operand) -> Word:
        """A function of LLVM's over words, such as smin."""
        return Word(self.value(f"call i64 @llvm.{name}.i64({', '.join(f'i64 {w}' for w in words)})"))

    def narrow(self, word: Operand, type_: str) -> str:
        """The low bits of a word."""
        return self.value(f"trunc i64 {word} to {type_}")

    def widen(self, value: str, type_: str = "i1", how: str = "zext") -> Word:
        """A narrower integer as a word."""
        return Word(self.value(f"{how} {type_} {value} to i64"))

    # --- flags ---
    def compare(self, how: str, a: Operand, b: Operand) -> Flag:
        """A comparison of words as icmp names it."""
        return Flag(self.value(f"icmp {how} i64 {a}, {b}"))

    def same_place(self, a: Pointer, b: Pointer) -> Flag:
        """Whether two pointers are one."""
        return Flag(self.value(f"icmp eq ptr {a}, {b}"))

    def is_null(self, place: Pointer) -> Flag:
        """Whether a pointer leads nowhere."""
        return Flag(self.value(f"icmp eq ptr {place}, null"))

    def flags(self, operation: str, a: Flag, b: Flag | str) -> Flag:
        """One of LLVM's operations of two flags."""
        return Flag(self.value(f"{operation} i1 {a}, {b}"))

    # --- values of other types ---
    def operate(self, operation: str, type_: str, a: str, b: str) -> str:
        """One of LLVM's operations of two values, comparisons among them."""
        return self.value(f"{operation} {type_} {a}, {b}")

    def convert(self, how: str, type_: str, value: str, to: str) -> str:
        """A value as one of another type."""
        return self.value(f"{how} {type_} {value} to {to}")

    def succeeded(self, both: str, type_: str, value: str) -> str:
        """A value, and that it did not fail (`part`)."""
        return self.value(f"insertvalue {both} {{ {type_} poison, i1 false }}, {type_} {value}, 0")

    # --- doubles ---
    def bits(self, number: Double) -> Word:
        """The bits of a double."""
        return Word(self.value(f"bitcast double {number} to i64"))

    def number(self, bits: Word) -> Double:
        """The double that has these bits."""
        return Double(self.value(f"bitcast i64 {bits} to double"))

    def join_doubles(self, *ways: tuple[str, str]) -> Double:
        """A double by the block from which control came."""
        return Double(self.value(f"phi double {', '.join(f'[ {number}, %{label} ]' for number, label in ways)}"))

    # --- memory ---
    def at(self, place: Pointer, offset: Operand) -> Pointer:
        """A place so many bytes on."""
        return Pointer(self.value(f"getelementptr inbounds i8, ptr {place}, i64 {offset}"))

    def item(self, place: Pointer, number: Operand, type_: str = "i64") -> Pointer:
        """An item of an array."""
        return Pointer(self.value(f"getelementptr inbounds {type_}, ptr {place}, i64 {number}"))

    def pointer(self, word: Operand) -> Pointer:
        """A host address as a pointer."""
        return Pointer(self.value(f"inttoptr i64 {word} to ptr"))

    def address(self, place: Pointer) -> Word:
        """A pointer as a host address."""
        return Word(self.value(f"ptrtoint ptr {place} to i64"))

    def choose(self, condition: Flag, a: Pointer, b: Pointer) -> Pointer:
        """A pointer by a condition."""
        return Pointer(self.value(f"select i1 {condition}, ptr {a}, ptr {b}"))

    def load(self, place: Pointer, align: int = 8, marks: str = "") -> Word:
        """A word of memory."""
        return Word(self.value(f"load i64, ptr {place}, align {align}{marks}"))

    def load_pointer(self, place: Pointer) -> Pointer:
        """A pointer in memory."""
        return Pointer(self.value(f"load ptr, ptr {place}, align 8"))

    def load_narrow(self, place: Pointer, bits: int, how: str = "zext") -> Word:
        """An aligned integer of fewer bits, as a word."""
        return self.widen(self.value(f"load i{bits}, ptr {place}, align {bits // 8}"), f"i{bits}", how)

    def store(self, word: Operand, place: Pointer, align: int = 8) -> None:
        """Write a word to memory."""
        self.emit(f"store i64 {word}, ptr {place}, align {align}")

    def store_narrow(self, word: Word, place: Pointer, bits: int) -> None:
        """Write the low bits of a word to memory, aligned."""
        self.emit(f"store i{bits} {self.narrow(word, f'i{bits}')}, ptr {place}, align {bits // 8}")

    def store_pointer(self, pointer: Pointer, place: Pointer) -> None:
        """Write a pointer to memory."""
        self.emit(f"store ptr {pointer}, ptr {place}, align 8")

    def load_as(self, type_: str, place: Pointer, align: int = 8) -> str:
        """A value of another type, or at any address, from memory."""
        return self.value(f"load {type_}, ptr {place}, align {align}")

    def store_as(self, type_: str, value: Operand | str, place: Pointer, align: int = 8) -> None:
        """Write such a value to memory."""
        self.emit(f"store {type_} {value}, ptr {place}, align {align}")

    def room(self, type_: str) -> Pointer:
        """A place on the stack."""
        return Pointer(self.value(f"alloca {type_}"))

    @overload
    def read(self, slot: str) -> Word: ...
    @overload
    def read(self, slot: str, type_: str, marks: str = "") -> str: ...
    def read(self, slot: str, type_: str = "i64", marks: str = "") -> str:
        """What a slot of the stack holds."""
        return self.value(f"load {type_}, ptr {slot}{marks}")

    def read_pointer(self, slot: str) -> Pointer:
        """A pointer that a slot of the stack holds."""
        return Pointer(self.value(f"load ptr, ptr {slot}"))

    def write(self, value: str | int, slot: str, type_: str = "i64") -> None:
        """Set a slot of the stack."""
        self.emit(f"store {type_} {value}, ptr {slot}")

    # --- control ---
    def branch(self, condition: Flag, then: str, other: str, weights: str = "") -> None:
        """Go to one of two blocks."""
        self.emit(f"br i1 {condition}, label %{then}, label %{other}{weights}")
        self.terminated = True

    def goto(self, label: str) -> None:
        """Go to a block."""
        self.emit(f"br label %{label}")
        self.terminated = True

    def switch(self, word: Word, cases: Iterable[tuple[int, str]], other: str) -> None:
        """Go to the block of a number."""
        ways = " ".join(f"i64 {number}, label %{label}" for number, label in cases)
        self.emit(f"switch i64 {word}, label %{other} [ {ways} ]")
        self.terminated = True

    def unreachable(self) -> None:
        """Nothing comes here."""
        self.emit("unreachable")
        self.terminated = True

    def ret(self, type_: str = "void", value: str = "") -> None:
        """Come back, with a value or without one."""
        self.emit(f"ret {type_} {value}".rstrip())
        self.terminated = True

    def go_on(self, handler: str, rec: Pointer, ic: Operand, tlb: Pointer) -> None:
        """Go on in a handler or a region, for good: its four arguments are in its registers."""
        self.emit(f"musttail call {CC} void {handler}(ptr {STATE}, ptr {rec}, i64 {ic}, ptr {tlb})")
        self.ret()

    def part(self, number: int, type_: str, value: str) -> str:
        """One of the two that a function gave: its value, and whether it failed."""
        return self.value(f"extractvalue {type_} {value}, {number}")

    def call(self, target: str, result: str, given: str, *, convention: str = "fastcc ", more: str = "") -> str:
        """Call what is `named`, or a pointer; `given` are its arguments with their types.

        Returns the name of the value, "" where there is none.
        """
        text = f"call {convention}{result} {target}({given}){more}"
        if result == "void":
            self.emit(text)
            return ""
        return self.value(text)


def signature(
    result: str, symbol: str, given: Iterable[str], attributes: str = "", *, linkage: str = "", convention: str = ""
) -> str:
    """How a function is called: `given` are its parameters, with their names or without."""
    parts = linkage, convention.strip(), result, f'@"{symbol}"({", ".join(given)})', attributes.strip()
    return " ".join(part for part in parts if part)


def declared(signed: str) -> str:
    """A function that another module has."""
    return f"declare {signed}"


def defined(signed: str, lines: Iterable[str]) -> str:
    """A function with its body."""
    return "\n".join([f"define {signed} {{", *lines, "}"])


# Intrinsics: what they give and what they take.
INTRINSICS = {
    "llvm.ctlz.i64": ("i64", "i64", "i1"),
    "llvm.cttz.i64": ("i64", "i64", "i1"),
    **dict.fromkeys(("llvm.ctpop.i64", "llvm.bswap.i64"), ("i64", "i64")),
    **dict.fromkeys(("llvm.smin.i64", "llvm.smax.i64"), ("i64", "i64", "i64")),
    "llvm.sqrt.f64": ("double", "double"),
    "llvm.sqrt.f32": ("float", "float"),
    "llvm.fma.f64": ("double",) * 4,
    "llvm.fma.f32": ("float",) * 4,
    **dict.fromkeys(("llvm.x86.sse.stmxcsr", "llvm.x86.sse.ldmxcsr"), ("void", "ptr")),
}


def declared_intrinsics() -> str:
    """Declarations of all of them."""
    return "\n".join(declared(signature(result, name, given)) for name, (result, *given) in INTRINSICS.items())


def words(*operands: Operand) -> str:
    """Arguments that are words."""
    return ", ".join(f"i64 {o}" for o in operands)
