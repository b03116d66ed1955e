"""Templates: the fast reading of each instruction as optimised LLVM text, from which regions are put together.

Registers are not places in memory here but calls of markers (`read.x`, `write.x`, ...), since a region keeps them in
LLVM values; so is the look-up of a page (`find`: host address minus address; jit.access), which may give up. A template
ends in one of three markers: `go.on`, `go.to` (a jump) or `go.out` (the fast reading gives up
before it has written anything; the interpreter repeats the instruction).
"""

from __future__ import annotations

import importlib
import re

from trapline.engine.build import csr_readings
from trapline.engine.compiler.module import PREAMBLE, Compiled, ModuleBuilder
from trapline.engine.emit import host_has_fma, optimise
from trapline.engine.jit.doubles import joined
from trapline.engine.jit.inexact import raising
from trapline.engine.jit.template import HOSTED, PLAIN, PLAIN_STATE, PRESUMED, Template
from trapline.engine.llvm import STATE, UNLIKELY, Builder, Flag, Pointer, Word, declared, defined, signature, words
from trapline.engine.llvm_lines import MARKED_GO, MARKED_READ, MARKED_WRITE
from trapline.engine.roots import ROOMS, hosted_functions
from trapline.engine.settled import environment_call_hosted, environment_call_to
from trapline.lang.functions import INSTRUCTIONS, Instruction

_SEEN, _ENDS = "nounwind willreturn memory(inaccessiblemem: read%s)", "noreturn nounwind"
MARKERS = "\n".join(
    [declared(signature("i64", f"read.{file}", ["i64"], _SEEN % "")) for file in "xf"]
    + [declared(signature("void", f"write.{file}", ["i64"] * 2, _SEEN % "write")) for file in "xf"]
    + [declared(signature("i64", "find", ["i64"] * 4, _SEEN % ""))]
    + [declared(signature("void", f"go.{way}", ["i64"] * (way == "to"), _ENDS)) for way in ("on", "out", "to")]
)

# Of no use inside a region.
LEFT_OUT = frozenset({"ebreak", "wfi"})

_NAME = re.compile(r'%("[^"]*"|[-\w.$]+)')
_DEFINITION = re.compile(r'^define void @"?T\.([\w.@>!]+)"?\([^\n]*\{\n(.*?)^\}', re.M | re.S)
_USED = re.compile(r"@(llvm\.[\w.]+)")
_COLD = re.compile(r"@p\.(\w+)\(")
_METADATA = re.compile(r", !(?!prof)[\w.]+ !\d+")
_PROFILE = re.compile(r", !prof !(\d+)")
_WEIGHTS = re.compile(r'^!(\d+) = !\{!"branch_weights", (?:!"expected", )?i32 (-?\d+), i32 (-?\d+)\}', re.M)


def wrapper(
    instruction: Instruction,
    compiled: Compiled,
    suffix: str = "",
    known: tuple[str, ...] = (),
    operands: tuple[str, ...] | None = None,
) -> str:
    """One instruction's fast reading as a function of its operands, pc and the next pc."""
    names = [name for name in (instruction.operands if operands is None else operands) if name not in known]
    b = Builder("%w")
    np, jumped = b.called("%np", b.room, "i64"), b.called("%jumped", b.room, "i1")
    b.write("%next", np)
    b.write("false", jumped, "i1")
    given = f"{words(*operands_of(names), Word('%pc'))}, ptr {np}, ptr %tlb, ptr {jumped}, "
    given += words(Word("%now"), Word("%priv"), Word("%virt"))
    gives_up = b.call(f"@{compiled.symbol}", compiled.result_type(), f"ptr {STATE}, {given}")
    if compiled.may_fail:
        b.branch(Flag(gives_up), "out", "done", UNLIKELY)
        marked(b, "out")
    else:
        b.goto("done")
    b.begin("done")
    b.branch(Flag(b.read(jumped, "i1")), "jump", "on")
    marked(b, "jump", np)
    marked(b, "on")
    params = [f"i64 %{n}" for n in (*names, "pc", "next")], [f"i64 %{n}" for n in ("now", "priv", "virt")]
    takes = ["ptr noalias %st", *params[0], "ptr noalias %tlb", *params[1]]
    return defined(signature("void", f"T.{instruction.name}{suffix}", takes, 'nounwind "no-builtins"'), [b.taken()])


def operands_of(names: list[str]) -> list[Word]:
    """The parameters of a wrapper that are operands."""
    return [Word(f"%{name}") for name in names]


def marked(b: Builder, label: str, target: Pointer | None = None) -> None:
    """A block that ends in a marker: of its own name, or of a jump to what a slot holds."""
    b.begin(label)
    if target is None:
        b.call(f"@go.{label}", "void", "", convention="")
    else:
        b.call("@go.to", "void", words(b.read(target)), convention="")
    b.unreachable()


def template_module(*, compressed: bool) -> str:
    """The LLVM text of all wrappers before optimisation; `compressed`: harts with C, where every target is aligned."""
    importlib.import_module("trapline.isa.all")
    module = ModuleBuilder(hosted_functions(ROOMS), host_has_fma=host_has_fma(), markers=True)
    texts = []
    for instruction in INSTRUCTIONS:
        if instruction.function is None or instruction.name in LEFT_OUT:
            continue
        module.late_bail = False
        meaning = instruction.delivered or instruction.function
        fast = module.function(meaning, fast=True, assume={"has_c": int(compressed)})
        if fast.always_bails or fast.late_bail:
            continue
        texts.append(wrapper(instruction, fast))
        if any(map(instruction.is_float, instruction.operands)):
            plain = module.function(meaning, fast=True, assume=PLAIN_STATE)
            texts.append(wrapper(instruction, plain, PLAIN))
    call = next(i for i in INSTRUCTIONS if i.name == "ecall")
    for suffix, function in ((PRESUMED, environment_call_to), (HOSTED, environment_call_hosted)):
        texts.append(wrapper(call, module.function(function, fast=True), suffix, operands=("to",)))
    texts += [wrapper(i, fast, suffix, known) for i, suffix, fast, known in csr_readings(module)]
    return "\n\n".join([PREAMBLE, MARKERS, *module.declared.values(), *(i.text for i in module.items), *texts])


def templates(*, compressed: bool) -> dict[str, Template]:
    """All templates by the instructions' names. Imports LLVM; takes about a second."""
    text = optimise(template_module(compressed=compressed))
    likely = {number: "!0" if int(yes) > int(no) else "!1" for number, yes, no in _WEIGHTS.findall(text)}
    operands = {i.name: set(i.operands) for i in INSTRUCTIONS}
    found = {}
    for name, body in _DEFINITION.findall(text):
        one = parse(body, operands.get(re.split(f"[@{PLAIN}]", name)[0], set()), likely, plain=name.endswith(PLAIN))
        found[name] = one
    return found


class Aliases:
    """Tells LLVM that the guest's memory is not the hart's state: both are marked (jit.translate.TRAILER)."""

    def __init__(self) -> None:
        self.state, self.guest = {"%st"}, set[str]()

    def mark(self, line: str) -> str:
        """Note where a pointer comes from; mark an access."""
        words = line.replace(",", " ").split()
        pointers = [words[i + 1] for i, word in enumerate(words[:-1]) if word == "ptr"]
        if " = getelementptr " in line and pointers[0] in self.state:
            self.state.add(words[0])
        elif " = inttoptr " in line or (" = getelementptr " in line and pointers[0] in self.guest):
            self.guest.add(words[0])
        elif (" = load " in line or line.startswith("  store ")) and pointers:
            if pointers[-1] in self.state:
                return f"{line}, !alias.scope !4"
            if pointers[-1] in self.guest:
                return f"{line}, !noalias !4"
        return line


def slotted(b: Builder, line: str) -> None:
    """A line with slots and labels in place of markers."""
    if read := MARKED_READ.match(line):
        b.called(read[1], b.read, f"%{read[2]}{read[3]}")
    elif write := MARKED_WRITE.match(line):
        b.write(write[3], f"%{write[1]}{write[2]}")
    elif go := MARKED_GO.match(line):
        if go[1] == "to":
            b.take(f"  GOTO {go[2]}")
        else:
            b.goto("{" + go[1] + "}")
    else:
        b.take(line)


def parse(body: str, operands: set[str], likely: dict[str, str], *, plain: bool = False) -> Template:
    """Turn the printed body of a wrapper into a format string; `plain`: it presumes PLAIN_STATE."""
    fixed = operands | {"pc", "next", "now", "priv", "virt", "to"}

    def rename(match: re.Match[str]) -> str:
        name = match[1].strip('"')
        if name in ("st", "tlb"):
            return f"%{name}"
        return f"{{{name}}}" if name in fixed else f"%{{p}}{name}"

    def weights(match: re.Match[str]) -> str:
        return f", !prof {likely[match[1]]}" if match[1] in likely else ""

    b = Builder("")
    aliases = Aliases()
    for raw in body.replace("{", "{{").replace("}", "}}").splitlines():
        line = raw.partition(" ; ")[0].partition(";")[0].rstrip()
        if not line.strip() or "noalias.scope.decl" in line or line.strip() == "unreachable":
            continue
        line = re.sub(r" #\d+$", "", _PROFILE.sub(weights, _METADATA.sub("", line)))
        if line.endswith(":"):
            b.begin("{p}" + line.strip('":'))
            continue
        line = _NAME.sub(rename, line)
        slotted(b, aliases.mark(raising(line) if plain else line))
    if not b.lines[0].endswith(":"):
        b.lines.insert(0, "{p}0:")
    lines = b.lines
    text = "\n".join(joined(lines))
    intrinsics, cold = (tuple(sorted(set(pattern.findall(text)))) for pattern in (_USED, _COLD))
    return Template(text, "{priv}" in text or "{virt}" in text, intrinsics, cold)
