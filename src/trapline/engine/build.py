"""Builds the native code: every instruction and rule through LLVM into one position-independent image."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

from trapline.engine.beside import Beside
from trapline.engine.compiler import facts, handlers, joints
from trapline.engine.compiler.fast_access import COLD_CALL, RARE, RARE_CALL
from trapline.engine.compiler.fusion import fused_handlers
from trapline.engine.compiler.module import PREAMBLE, Compiled, ModuleBuilder
from trapline.engine.compiler.source import SubsetError, has_hart, parameters
from trapline.engine.definitions import Definition
from trapline.engine.emit import Level, Part, emitted, host_has_fma
from trapline.engine.link import Image, link
from trapline.engine.parts import Module
from trapline.engine.roots import ROOMS, hosted_functions
from trapline.isa.lookup import changes_mode
from trapline.lang.functions import INSTRUCTIONS, Instruction

# sstatus, sscratch, sepc, scause, stval; the same of VS, M; what HS reads of a guest's trap; cycle, time, instret.
HOT_CSRS = (
    *(0x100, 0x140, 0x141, 0x142, 0x143, 0x205, 0x200, 0x240, 0x241, 0x242, 0x243),
    *(0x300, 0x340, 0x341, 0x342, 0x343, 0x34A, 0x34B, 0x600, 0x643, 0x64A, 0xC00, 0xC01, 0xC02),
)

# Cold functions of the specification that hosted software and the engine call by name, beside the roots.
EXPORTS = {
    "deliver_exception": "trapline.privilege.deliver",
    "raise_illegal": "trapline.privilege.deliver",
    "take_trap": "trapline.privilege.trap",
    "take_interrupt": "trapline.privilege.trap",
    "check_csr": "trapline.privilege.csr",
    "csr_read": "trapline.privilege.csr",
    "csr_write": "trapline.privilege.csr",
    "update_derived": "trapline.privilege.derived",
    "translate": "trapline.privilege.translation",
    "store": "trapline.privilege.memory",
    "guest_load": "trapline.privilege.memory",
    "fetch_parcel": "trapline.privilege.memory",
    "update_timers": "trapline.privilege.interrupts",
    "imsic_message": "trapline.privilege.imsic",
    "imsic_signal": "trapline.privilege.imsic",
}


def expansion_targets() -> set[str]:
    """Names of the instructions that have a 16-bit spelling."""
    return {i.expands.split()[0] for i in INSTRUCTIONS if i.expands}


def instruction_handlers(module: ModuleBuilder) -> Iterator[Definition]:
    """Handlers of all instructions."""
    short = expansion_targets()
    for instruction in INSTRUCTIONS:
        if instruction.function is None:
            continue
        facts.check(instruction)
        normal = module.function(instruction.delivered or instruction.function)
        if normal.late_bail and not instruction.effects_first:
            raise SubsetError(f"{instruction.name}: writes a register before the last call that may trap")
        target = instruction.has_target
        module.late_bail = False
        fast = module.function(instruction.delivered or instruction.function, fast=True)
        moves = changes_mode(instruction)
        quick = not (fast.always_bails or fast.late_bail)
        for length in (2, 4) if instruction.name in short else (4,):
            name = f"{instruction.name}_{length}"
            yield handlers.slow_handler(name, instruction, normal, length, target=target)
            if not quick:
                continue
            yield handlers.fast_handler(name, instruction, fast, length, kind="m" if moves else "x", slow=name)
            if target:
                inside = module.function(instruction.function, fast=True, assume={"has_c": 1})
                for kind in ("f", "b"):
                    yield handlers.fast_handler(f"{name}{kind}", instruction, inside, length, kind=kind, slow=name)


def csr_readings(module: ModuleBuilder) -> Iterator[tuple[Instruction, str, Compiled, tuple[str, ...]]]:
    """The fast readings of CSR instructions for the registers that trap handlers use most.

    Yields the instruction, what follows its name (`@140`, or `@140r` where only reads are fast), the reading, and
    which operands it knows.
    """
    module.late_bail = False
    for instruction in INSTRUCTIONS:
        if instruction.name not in ("csrrw", "csrrs", "csrrc") or instruction.function is None:
            continue
        for csr in HOT_CSRS:
            keys = (csr, csr + 0x100) if csr >> 8 == 1 else (csr,)
            known, suffix = {"csr": csr}, f"@{csr:x}"
            fast = module.function(instruction.function, fast=True, known=known, keys=keys)
            if fast.late_bail and instruction.name == "csrrs":
                known, suffix = {"csr": csr, "rs1": 0}, f"{suffix}r"
                fast = module.function(instruction.function, fast=True, known=known, keys=keys)
            if not (fast.always_bails or fast.late_bail):
                yield instruction, suffix, fast, tuple(known)


def csr_handlers(module: ModuleBuilder) -> Iterator[Definition]:
    """Handlers of those."""
    for instruction, suffix, fast, known in csr_readings(module):
        slow = f"{instruction.name}_4"
        yield handlers.fast_handler(f"{slow}{suffix}", instruction, fast, 4, kind="x", slow=slow, known=known)


def pure_thunks(module: ModuleBuilder) -> Iterator[Definition]:
    """The C form of the cold functions that fast readings call."""
    for name, function in sorted(module.pure.items()):
        yield handlers.thunk(
            module.function(function),
            parameters(function),
            with_hart=has_hart(function),
            symbol=f"p.{name}",
            convention=RARE_CALL if name in RARE else COLD_CALL,
        )


def whole_builder(*, host_has_fma: bool) -> tuple[ModuleBuilder, list[Definition]]:
    """All functions of the engine, compiled, and what the image gives by name."""
    importlib.import_module("trapline.isa.all")
    hosted = hosted_functions()
    module = ModuleBuilder(hosted, host_has_fma=host_has_fma)
    exports: dict[str, Callable[..., Any]] = {n: getattr(importlib.import_module(m), n) for n, m in EXPORTS.items()}
    exports |= hosted
    compiled = {name: module.function(function) for name, function in exports.items()}
    made = [*instruction_handlers(module), *csr_handlers(module)]
    made += fused_handlers(module, {definition.name for definition in made})
    made += joints.joints(compiled)
    made += [handlers.thunk(compiled[n], parameters(f), with_hart=has_hart(f)) for n, f in exports.items()]
    module.pure |= {name: hosted[name] for name in RARE}
    made += pure_thunks(module)
    return module, made


def whole_module(*, host_has_fma: bool) -> Module:
    """The whole engine."""
    module, made = whole_builder(host_has_fma=host_has_fma)
    return Module(PREAMBLE, [*module.items, *made])


def compile_functions(functions: list[Callable[..., Any]], *, may_trap: bool = True) -> Image:
    """Compile subset functions alone, each as a C function `c.NAME`: a policy's actions, tests, experiments."""
    module = ModuleBuilder(hosted_functions(ROOMS), host_has_fma=host_has_fma())
    made = []
    for function in functions:
        compiled = module.function(function)
        if compiled.may_fail and not may_trap:
            raise SubsetError(f"{function.__name__} may trap, or calls something that may")
        made.append(handlers.thunk(compiled, parameters(function), with_hart=has_hart(function)))
    whole = Module(PREAMBLE, [*module.items, *made])
    return link(emitted([(whole.text, Level.FULL)]), whole.exported)


def compile_image(progress: Callable[[str], None] = lambda text: None) -> Image:
    """Compile everything for this host, half of the work in a process beside this one. Imports LLVM; takes seconds."""
    beside = Beside()
    try:
        progress("translating the semantics")
        whole = whole_module(host_has_fma=host_has_fma())
        progress(f"compiling {len(whole.exported)} functions")
        handlers, taken_in, cold, behind = divided(whole)
        others = [taken_in, cold]  # as much work as the rest
        beside.submit(others)
        objects = emitted([handlers, behind])
        return link([*objects, *(beside.collect() or emitted(others))], whole.exported)
    finally:
        beside.end()


def divided(whole: Module) -> list[Part]:
    """The engine's text in four parts.

    They are the fast handlers; cold functions that others are compiled into where that pays, such as the way of a trap;
    the rest of the cold ones; and what only slow handlers call that stand behind a fast one.
    """

    def behind(name: str) -> bool:
        return name.endswith("_soft") or name.startswith("p.f") or (name[:2] == "s." and f"h.{name[2:]}" in whole.items)

    often = whole.reached({name for name in whole.exported if not behind(name)}, behind)

    def part_of(name: str) -> int:
        if name.startswith("h."):
            return 0
        return 3 if name not in often else 1 if whole.may_take_in(name) else 2

    levels = (Level.FULL, Level.FULL, Level.PLAIN, Level.QUICK)
    return list(zip(whole.divide(part_of, len(levels)), levels, strict=True))
