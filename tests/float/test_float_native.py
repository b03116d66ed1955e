"""The compiled floating-point functions, and the host's fast path, against exact rational arithmetic."""

from __future__ import annotations

import random
from collections.abc import Callable

import float_oracle as oracle
import pytest
from float_native import compile_functions
from float_oracle import DOUBLE, FORMATS, MODES, NX, SINGLE, Format
from float_values import hard_bits, triple

from trapline.lang.state import Hart
from trapline.lang.state.words import LAYOUT

HART = Hart()
FFLAGS = LAYOUT.fields["fflags"].index
SUBNORMALS = LAYOUT.fields["host_subnormals"].index
ARITHMETIC = {"add": 2, "mul": 2, "div": 2, "sqrt": 1, "fma": 3}
INTEGERS = {"w": (-(2**31), 2**31 - 1), "wu": (0, 2**32 - 1), "l": (-(2**63), 2**63 - 1), "lu": (0, 2**64 - 1)}
BY_NAME = pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.name)
WITH_HOST = pytest.mark.parametrize("fmt", (SINGLE, DOUBLE), ids=lambda f: f.name)
Native = dict[str, Callable[..., int]]


@pytest.fixture(scope="module")
def native() -> Native:
    """Every function of the three formats, compiled."""
    keep, functions = compile_functions()
    functions["keep"] = keep
    return functions


def call(function: Callable[..., int], before: int, *args: int, subnormals: int = 1) -> tuple[int, int]:
    HART.mem[FFLAGS], HART.mem[SUBNORMALS] = before, subnormals
    return function(HART.address, *args), HART.mem[FFLAGS]


@BY_NAME
def test_compiled_arithmetic(native: Native, fmt: Format) -> None:
    """Native code gives exact bits and flags, with NX clear (integers) and set (the host where it may)."""
    rng = random.Random(fmt.width + 10)
    for _ in range(4000):
        operands, mode = triple(fmt, rng), rng.choice((0, *MODES))
        for op, count in ARITHMETIC.items():
            args = operands[:count]
            bits, flags = getattr(oracle, op)(fmt, *args, mode)
            function = native[f"{fmt.name}_{op}"]
            for before in (0, NX):
                assert call(function, before, *args, mode) == (bits, flags | before), (op, [hex(a) for a in args], mode)


@BY_NAME
def test_compiled_conversions(native: Native, fmt: Format) -> None:
    """Native conversions give exact bits and flags."""
    rng = random.Random(fmt.width + 11)
    for n in range(4000):
        mode, before = n % 5, NX * (n // 5 % 2)
        a = hard_bits(fmt, rng, min(fmt.emax + rng.randrange(66) << fmt.f, fmt.inf))
        for target in FORMATS:
            if target is not fmt:
                function = native[f"{target.name}_from_{fmt.name}"]
                want = oracle.convert(fmt, target, a, mode)
                assert call(function, before, a, mode) == (want[0], want[1] | before), hex(a)
        for name, (low, high) in INTEGERS.items():
            value, flags = oracle.to_int(fmt, a, mode, low, high)
            if name == "wu" and value >> 31:
                value -= 1 << 32
            result = call(native[f"{fmt.name}_to_{name}"], before, a, mode)
            assert result == (value & (2**64 - 1), flags | before), (name, hex(a), mode)
        whole = rng.getrandbits(rng.randrange(1, 65)) ^ rng.choice((0, 2**64 - 1))
        signed = whole - (whole >> 63 << 64)
        for name, value in (("l", signed), ("lu", whole)):
            bits, flags = oracle.from_int(fmt, value, mode)
            assert call(native[f"{fmt.name}_from_{name}"], before, whole, mode) == (bits, flags | before)


@WITH_HOST
def test_hosts_that_flush_subnormal_numbers(native: Native, fmt: Format) -> None:
    """Where the host reads and writes subnormal numbers as zero, its results are not taken for ours."""
    if "set_mxcsr" not in native:
        return  # only x86 can be told so here
    rng = random.Random(fmt.width + 14)
    subnormal = [rng.getrandbits(1) << (fmt.width - 1) | rng.getrandbits(fmt.f) | 1 for _ in range(64)]
    for _ in range(3000):
        operands = list(triple(fmt, rng))
        operands[rng.randrange(3)] = rng.choice(subnormal)
        for op, count in ARITHMETIC.items():
            args = tuple(operands[:count])
            bits, flags = getattr(oracle, op)(fmt, *args, oracle.RNE)
            native["set_mxcsr"](HART.address, 0x1F80 | 1 << 6 | 1 << 15)
            got = call(native[f"{fmt.name}_{op}"], NX, *args, oracle.RNE, subnormals=0)
            native["set_mxcsr"](HART.address, 0x1F80)
            assert got == (bits, flags | NX), (op, [hex(a) for a in args])
