"""The two readings of the subset agree, and what is not in it is refused by name."""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine import subset_examples as examples
from trapline.engine.build import compile_functions
from trapline.engine.compiler.module import ModuleBuilder
from trapline.engine.compiler.source import SubsetError
from trapline.lang.functions import Trap, cold
from trapline.lang.state import Hart
from trapline.lang.state.words import LAYOUT
from trapline.lang.values import MASK64, U64, signed

EDGES = [0, 1, 2, 3, 5, 63, 64, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, 1 << 63, MASK64]
WORDS = st.sampled_from(EDGES) | st.integers(0, MASK64)


@pytest.fixture(scope="module")
def native() -> dict[str, Any]:
    image = compile_functions([*examples.PURE, *examples.WITH_STATE])
    memory = mmap.mmap(-1, len(image.code), prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory[:] = image.code
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    prototype = ctypes.CFUNCTYPE(*[ctypes.c_uint64] * 4)  # result, hart, a, b
    return {name: prototype(base + offset) for name, offset in image.symbols.items()} | {"memory": memory}


def reference(hart: Hart, function: Any, *args: int) -> tuple[Any, ...]:
    try:
        return ("value", int(function(*args)))
    except Trap as trap:
        return ("trap", trap.cause, trap.tval, trap.tval2)


def compiled(hart: Hart, function: Any, *args: int) -> tuple[Any, ...]:
    hart.call_failed = 0
    value = function(hart.address, *args)
    if hart.call_failed != 0:
        return ("trap", int(hart.trap_cause), int(hart.trap_tval), int(hart.trap_tval2))
    return ("value", value)


@pytest.mark.parametrize("function", examples.PURE, ids=lambda f: f.__name__)
def test_pure_functions_agree(native: dict[str, Any], function: Any) -> None:
    """A function of values gives the same value or trap under CPython and natively."""
    hart = Hart()

    @settings(max_examples=400, deadline=None)
    @given(WORDS, WORDS)
    def check(a: int, b: int) -> None:
        expected = reference(hart, function, U64(a), U64(b))
        assert compiled(hart, native[f"c.{function.__name__}"], a, b) == expected

    check()


@settings(max_examples=300, deadline=None)
@given(WORDS, WORDS)
def test_dispatch_agrees(native: dict[str, Any], a: int, b: int) -> None:
    """A dispatch calls the table's entry for the key, and an unknown key is seen as one."""
    hart = Hart()
    expected = reference(hart, examples.dispatching, hart, U64(a), U64(b))
    assert compiled(hart, native["c.dispatching"], a, b) == expected


@settings(max_examples=300, deadline=None)
@given(WORDS, WORDS)
def test_state_agrees(native: dict[str, Any], a: int, b: int) -> None:
    """Fields and arrays of the hart are read and written alike, x0 stays 0, and a trap reports its cause."""
    first, second = Hart(), Hart()
    expected = reference(first, examples.state, first, U64(a), U64(b))
    found = compiled(second, native["c.state"], a, b)
    assert found[:2] == expected[:2]
    for name in ("x", "scratch"):
        field = LAYOUT.fields[name]
        words = slice(field.index, field.index + (32 if name == "x" else field.count))
        assert list(first.mem[words]) == list(second.mem[words])
    assert first.mscratch == second.mscratch


@cold
def mixes(a: U64) -> U64:
    return a + signed(a)  # type: ignore[operator]


@cold
def floor_division(a: U64) -> U64:
    return a // 3


@cold
def bare_condition(a: U64) -> U64:
    if a:
        return a
    return U64(0)


@cold
def loops_forever(a: U64) -> U64:
    while a > 0:
        a = a - 1
    return a


@cold
def negative_literal(a: U64) -> U64:
    return U64(1) if a < -1 else a


@cold
def traps_nowhere(a: U64) -> U64:
    raise Trap(3, a)


@pytest.mark.parametrize(
    "function",
    [traps_nowhere, mixes, floor_division, bare_condition, loops_forever, negative_literal],
    ids=lambda f: f.__name__,
)
def test_compiler_refuses(function: Any) -> None:
    """What is not in the subset is refused with the function's name and line."""
    with pytest.raises(SubsetError, match=f"{function.__name__} line"):
        ModuleBuilder({}, host_has_fma=False).function(function)


@pytest.mark.parametrize("function", [mixes, floor_division, bare_condition], ids=lambda f: f.__name__)
def test_cpython_refuses(function: Any) -> None:
    """CPython refuses mixed signs, floor division and bare conditions as the compiler does."""
    with pytest.raises(TypeError):
        function(U64(5))


def test_late_traps_are_found() -> None:
    """A register written before a call that may trap is noticed."""
    module = ModuleBuilder({}, host_has_fma=False)
    assert module.function(examples.writes_then_traps).late_bail
    assert not module.function(examples.traps_then_writes).late_bail
