"""The floating-point functions alone, compiled to native code: C functions by name."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm

from trapline.engine.compiler.handlers import thunk
from trapline.engine.compiler.module import PREAMBLE, ModuleBuilder
from trapline.engine.compiler.source import parameters
from trapline.isa.float.formats import DOUBLE, HALF, SINGLE, conversion

INTEGERS = ("w", "wu", "l", "lu")

# Bits 6 and 15 of MXCSR: read and write subnormal numbers as zero, as a library built with -ffast-math leaves it.
SET_MXCSR = """
define i64 @set_mxcsr(ptr %st, i64 %value) nounwind {
  %place = alloca i32
  %narrow = trunc i64 %value to i32
  store i32 %narrow, ptr %place
  call void @llvm.x86.sse.ldmxcsr(ptr %place)
  ret i64 0
}
"""


def operations() -> dict[str, Callable[..., Any]]:
    """Every operation of the three formats: single_add, double_to_w, half_from_single, ..."""
    found: dict[str, Callable[..., Any]] = {}
    formats = (HALF, SINGLE, DOUBLE)
    for fmt in formats:
        names = ("add", "mul", "div", "sqrt", "fma", *(f"{way}_{i}" for way in ("to", "from") for i in INTEGERS))
        found |= {f"{fmt.name}_{name}": getattr(fmt, name) for name in names}
        found |= {f"{fmt.name}_from_{other.name}": conversion(other, fmt) for other in formats if other is not fmt}
    return found


def compile_functions() -> tuple[Any, dict[str, Callable[..., int]]]:
    """Compile every operation; keep the first result alive."""
    builder = ModuleBuilder({}, host_has_fma=bool(llvm.get_host_cpu_features().get("fma")))
    texts, signatures = [], {}
    if llvm.get_process_triple().startswith("x86_64"):
        texts.append(SET_MXCSR)
        signatures["set_mxcsr"] = ("set_mxcsr", 1)
    for name, function in operations().items():
        compiled = builder.function(function)
        given = parameters(function)
        texts.append(thunk(compiled, given).text)
        signatures[name] = (f"c.{compiled.symbol}", len(given))
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=2
    )
    module = llvm.parse_assembly("\n\n".join([PREAMBLE, *(item.text for item in builder.items), *texts]))
    module.verify()
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
    passes.getModulePassManager().run(module, passes)
    jit = llvm.create_mcjit_compiler(module, machine)
    jit.finalize_object()
    functions = {}
    for name, (symbol, count) in signatures.items():
        kind = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, *[ctypes.c_uint64] * count)
        functions[name] = kind(jit.get_function_address(symbol))
    return jit, functions
