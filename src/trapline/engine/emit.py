"""LLVM: from text to an object for this host."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Any


class Level(IntEnum):
    """How much time LLVM may take over a part of the engine."""

    QUICK = 0  # an eighth of FULL; the code is half as large again and not as fast
    PLAIN = 1  # functions are compiled into others only where the text says so; two thirds of FULL, hardly slower code
    FULL = 2


Part = tuple[str, Level]


def host_has_fma() -> bool:
    """Whether the host multiplies and adds without rounding in between."""
    import llvmlite.binding as llvm

    return bool(llvm.get_host_cpu_features().get("fma"))


def host_machine(opt: int = 2) -> Any:
    """LLVM's code generator for this host."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=opt,
        reloc="pic",
        codemodel="small",
    )


def optimised(text: str, machine: Any) -> Any:
    """Parse LLVM text and run the optimiser over it."""
    import llvmlite.binding as llvm

    module = llvm.parse_assembly(text)
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return module


def optimise(text: str) -> str:
    """LLVM text before and after the optimiser."""
    return str(optimised(text, host_machine()))


def emitted(parts: Iterable[Part]) -> list[bytes]:
    """The object that becomes of each part."""
    return [_emitted(text, level) for text, level in parts]


def _emitted(text: str, level: Level) -> bytes:
    machine = host_machine(0 if level is Level.QUICK else 2)
    module = optimised(text, machine) if level is Level.FULL else _improved(text, machine, level)
    return bytes(machine.emit_object(module))


def _improved(text: str, machine: Any, level: Level) -> Any:
    """Parse LLVM text and run the few passes over it that shorten it most; QUICK: those that pay for themselves."""
    import llvmlite.binding as llvm

    module = llvm.parse_assembly(text)
    passes = llvm.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.add_global_dead_code_eliminate_pass()
    passes.add_sroa_pass()
    if level is not Level.QUICK:
        passes.add_simplify_cfg_pass()
        passes.add_instruction_combine_pass()
        passes.add_new_gvn_pass()
        passes.add_simplify_cfg_pass()
        passes.add_dead_store_elimination_pass()
    passes.run(module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=1)))
    return module
