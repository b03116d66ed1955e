"""Builds the native code: every instruction and rule through LLVM into one position-independent image."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

from trapline.engine.beside import Beside
from trapline.engine.compiler import facts, handlers, joints
from trapline.engine.compiler.fast_access import COLD_CALL, FAR, RARE_CALL, SPLIT
from trapline.engine.compiler.fusion import fused_texts
from trapline.engine.compiler.module import PREAMBLE, Compiled, ModuleBuilder
from trapline.engine.compiler.source import SubsetError, has_hart, parameters
from trapline.engine.emit import Level, Part, emitted, host_has_fma
from trapline.engine.link import Image, link
from trapline.engine.parts import Text
from trapline.engine.roots import hosted_functions
from trapline.isa.lookup import changes_mode
from trapline.lang.functions import INSTRUCTIONS, Instruction

ENGINE_FUNCTIONS = {
    "flush_all_sets": "trapline.engine.tlb",
    "flush_page_sets": "trapline.engine.tlb",
    "fill_translation": "trapline.engine.tlb",
    "bytes_stored": "trapline.engine.code_bytes",
    "split_access": "trapline.engine.tlb",
    "far_load": "trapline.engine.tlb",
    "known_table": "trapline.engine.tlb",
    "remember_table": "trapline.engine.tlb",
    "known_guest_table": "trapline.engine.tlb",
    "remember_guest_table": "trapline.engine.tlb",
    "select_context": "trapline.engine.tlb",
    "bits_at_pc": "trapline.engine.tlb",
    "decode_block": "trapline.engine.decode_block",
    "mark_code": "trapline.engine.code_bytes",
    "release_code": "trapline.engine.code_bytes",
    "forget_bytes": "trapline.engine.code_bytes",
    "take_offers": "trapline.engine.code_bytes",
    "put_pages_back": "trapline.engine.undo",
    "keep_page": "trapline.privilege.undo",
    "stop_at": "trapline.privilege.stops",
    "record_place": "trapline.privilege.stops",
    "run_hart": "trapline.engine.running",
}

# sstatus, sscratch, sepc, scause, stval; the same of VS, M; what HS reads of a guest's trap; cycle, time, instret.
HOT_CSRS = (
    *(0x100, 0x140, 0x141, 0x142, 0x143, 0x205, 0x200, 0x240, 0x241, 0x242, 0x243),
    *(0x300, 0x340, 0x341, 0x342, 0x343, 0x34A, 0x34B, 0x600, 0x643, 0x64A, 0xC00, 0xC01, 0xC02),
)

# Cold functions that hosted software and the engine call by name.
EXPORTS = {
    **ENGINE_FUNCTIONS,
    "deliver_exception": "trapline.privilege.deliver",
    "raise_illegal": "trapline.privilege.deliver",
    "take_trap": "trapline.privilege.trap",
    "take_interrupt": "trapline.privilege.trap",
    "mret": "trapline.privilege.returns",
    "sret": "trapline.privilege.returns",
    "check_csr": "trapline.privilege.csr",
    "csr_read": "trapline.privilege.csr",
    "csr_write": "trapline.privilege.csr",
    "effective_csr": "trapline.privilege.csr",
    "update_derived": "trapline.privilege.derived",
    "pending": "trapline.privilege.interrupts",
    "translate": "trapline.privilege.translation",
    "load": "trapline.privilege.memory",
    "store": "trapline.privilege.memory",
    "guest_load": "trapline.privilege.memory",
    "guest_store": "trapline.privilege.memory",
    "fetch_parcel": "trapline.privilege.memory",
    "update_timers": "trapline.privilege.interrupts",
    "next_timer": "trapline.privilege.interrupts",
    "imsic_message": "trapline.privilege.imsic",
    "imsic_signal": "trapline.privilege.imsic",
}


def expansion_targets() -> set[str]:
    """Names of the instructions that have a 16-bit spelling."""
    return {i.expands.split()[0] for i in INSTRUCTIONS if i.expands}


def instruction_texts(module: ModuleBuilder) -> tuple[list[str], list[str]]:
    """Handlers of all instructions: their text and names."""
    texts, names = [], []
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
            texts.append(handlers.slow_handler(name, instruction, normal, length, target=target))
            names.append(f"s.{name}")
            if not quick:
                continue
            texts.append(handlers.fast_handler(name, instruction, fast, length, kind="m" if moves else "x", slow=name))
            names.append(f"h.{name}")
            if target:
                inside = module.function(instruction.function, fast=True, assume={"has_c": 1})
                for kind in ("f", "b"):
                    texts.append(
                        handlers.fast_handler(f"{name}{kind}", instruction, inside, length, kind=kind, slow=name)
                    )
                    names.append(f"h.{name}{kind}")
    return texts, names


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


def csr_texts(module: ModuleBuilder) -> tuple[list[str], list[str]]:
    """Handlers of those."""
    texts, names = [], []
    for instruction, suffix, fast, known in csr_readings(module):
        slow = f"{instruction.name}_4"
        texts.append(handlers.fast_handler(f"{slow}{suffix}", instruction, fast, 4, kind="x", slow=slow, known=known))
        names.append(f"h.{slow}{suffix}")
    return texts, names


def whole_module(*, host_has_fma: bool) -> tuple[ModuleBuilder, list[str], list[str]]:
    """All functions of the engine, compiled, the texts of its handlers, and the names that must be found in them."""
    importlib.import_module("trapline.isa.all")
    engine = {n: getattr(importlib.import_module(m), n) for n, m in ENGINE_FUNCTIONS.items()}
    module = ModuleBuilder(engine, host_has_fma=host_has_fma)
    exports: dict[str, Callable[..., Any]] = {n: getattr(importlib.import_module(m), n) for n, m in EXPORTS.items()}
    exports |= hosted_functions()
    compiled = {name: module.function(function) for name, function in exports.items()}
    texts, names = instruction_texts(module)
    hot_texts, hot_names = csr_texts(module)
    texts, names = texts + hot_texts, names + hot_names
    pair_texts, pair_names = fused_texts(module, set(names))
    texts, names = texts + pair_texts, names + pair_names
    texts += joints.joints(compiled)
    for name, function in exports.items():
        texts.append(handlers.thunk(compiled[name], parameters(function), with_hart=has_hart(function)))
        names.append(f"c.{compiled[name].symbol}")
    module.pure |= {name: engine[name] for name in (SPLIT, FAR)}
    for name, function in sorted(module.pure.items()):
        whole = module.function(function)
        texts.append(
            handlers.thunk(
                whole,
                parameters(function),
                with_hart=has_hart(function),
                symbol=f"p.{name}",
                convention=RARE_CALL if name in (SPLIT, FAR) else COLD_CALL,
            )
        )
        names.append(f"p.{name}")
    called = ("budget", "goto", "resume", "stop", "undecoded", "page_end", "step_end", "undefined", "straddle")
    names += ["run", *[f"h.{n}" for n in called]]
    return module, texts, names


def module_text(*, host_has_fma: bool) -> tuple[str, list[str]]:
    """The LLVM IR of the whole engine and the names that must be found in it."""
    module, texts, names = whole_module(host_has_fma=host_has_fma)
    return "\n\n".join([PREAMBLE, *module.text, *texts]), names


def compile_functions(functions: list[Callable[..., Any]], *, may_trap: bool = True) -> Image:
    """Compile subset functions alone, each as a C function `c.NAME`: a policy's actions, tests, experiments."""
    engine = {n: getattr(importlib.import_module(m), n) for n, m in ENGINE_FUNCTIONS.items()}
    module = ModuleBuilder(engine, host_has_fma=host_has_fma())
    texts, names = [], []
    for function in functions:
        compiled = module.function(function)
        if compiled.may_fail and not may_trap:
            raise SubsetError(f"{function.__name__} may trap, or calls something that may")
        texts.append(handlers.thunk(compiled, parameters(function), with_hart=has_hart(function)))
        names.append(f"c.{compiled.symbol}")
    return link(emitted([("\n\n".join([PREAMBLE, *module.text, *texts]), Level.FULL)]), names)


def compile_image(progress: Callable[[str], None] = lambda text: None) -> Image:
    """Compile everything for this host, half of the work in a process beside this one. Imports LLVM; takes seconds."""
    beside = Beside()
    try:
        progress("translating the semantics")
        text, names = module_text(host_has_fma=host_has_fma())
        progress(f"compiling {len(names)} handlers")
        handlers, taken_in, cold, behind = divided(text)
        others = [taken_in, cold]  # as much work as the rest
        beside.submit(others)
        objects = emitted([handlers, behind])
        return link([*objects, *(beside.collect() or emitted(others))], names)
    finally:
        beside.end()


def divided(text: str) -> list[Part]:
    """The engine's text in four parts.

    They are the fast handlers; cold functions that others are compiled into where that pays, such as the way of a trap;
    the rest of the cold ones; and what only slow handlers call that stand behind a fast one.
    """
    whole = Text(text)

    def behind(name: str) -> bool:
        return name.endswith("_soft") or name.startswith("p.f") or (name[:2] == "s." and f"h.{name[2:]}" in whole.items)

    often = whole.reached({name for name in whole.named if not behind(name)}, behind)

    def part_of(name: str) -> int:
        if name.startswith("h."):
            return 0
        return 3 if name not in often else 1 if whole.may_take_in(name) else 2

    levels = (Level.FULL, Level.FULL, Level.PLAIN, Level.QUICK)
    return list(zip(whole.divide(part_of, len(levels)), levels, strict=True))
