"""The privileged rules as native code do what CPython does."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from privilege_board import RAM, RWX, USER_RWX, Board

from trapline.engine.native import NativeEngine
from trapline.lang.functions import Trap
from trapline.lang.state.words import LAYOUT
from trapline.lang.values import U64
from trapline.privilege.csr import check_csr, csr_read, csr_write, effective_csr
from trapline.privilege.csr_numbers import CSR_NAMES
from trapline.privilege.imsic import imsic_message
from trapline.privilege.isa_string import DEFAULT_ISA
from trapline.privilege.returns import mret, sret
from trapline.privilege.translation import translate
from trapline.privilege.trap import take_trap

SCRATCH = {"trap_cause", "trap_tval", "trap_tval2", "trap_tinst", "trap_gva", "attention"}
CAUSES = [0, 2, 3, 5, 8, 10, 12, 13, 15, 20, 21, 22, 23, 1 << 63 | 1, 1 << 63 | 6, 1 << 63 | 10, 1 << 63 | 11]
STEPS = 4000


def state(board: Board) -> dict[str, list[int]]:
    """Every word of the hart that is not an engine's own."""
    return {
        f.name: list(board.hart.mem[f.index : f.index + f.count])
        for f in LAYOUT.fields.values()
        if not f.host and f.name not in SCRATCH
    }


def outcome(board: Board, function: Callable[..., Any], args: tuple[int, ...]) -> object:
    try:
        result = board.hart.call(function, *args)
    except Trap as trap:
        return trap.cause, trap.tval, trap.tval2, trap.tinst, trap.gva
    return None if result is None else int(result)


def value(random_: random.Random) -> int:
    kind = random_.randrange(5)
    if kind == 0:
        return random_.choice([0, (1 << 64) - 1])
    if kind == 1:
        return random_.getrandbits(64) & random_.getrandbits(64)
    if kind == 2:
        return 1 << random_.randrange(64)
    return random_.getrandbits(64)


def step(random_: random.Random) -> tuple[Callable[..., Any], tuple[int, ...]]:
    """One random thing that privileged code or a guest may do."""
    csr = random_.choice(sorted(CSR_NAMES))
    kind = random_.randrange(12)
    if kind < 4:
        return csr_write, (csr, value(random_))
    if kind < 6:
        return csr_read, (csr,)
    if kind < 8:
        return check_csr, (csr, random_.randrange(2))
    if kind == 8:
        return effective_csr, (csr,)
    if kind == 9 and random_.randrange(2):
        return imsic_message, (random_.randrange(5), random_.randrange(300))
    if kind == 9:
        tval = value(random_)
        return take_trap, (random_.choice(CAUSES), tval & ~1, tval, tval >> 2, 0x3000, random_.randrange(2))
    return random_.choice([mret, sret]), ()


@pytest.mark.parametrize("seed", range(3))
def test_csrs_traps_and_returns(seed: int) -> None:
    """Random CSR accesses, traps and returns leave both harts in the same state with the same results."""
    compare(random.Random(seed), Board(), Board())


@pytest.mark.parametrize("seed", range(2))
def test_csrs_traps_and_returns_with_imsic(seed: int) -> None:
    """The same with Smaia, Smstateen and an IMSIC with three guest interrupt files."""
    isa = f"{DEFAULT_ISA}_smaia_smstateen"
    compare(random.Random(seed), Board(isa, 3), Board(isa, 3))


def compare(random_: random.Random, reference: Board, native: Board) -> None:
    NativeEngine().attach(native.hart)
    for number in range(STEPS):
        function, args = step(random_)
        assert outcome(reference, function, args) == returned(outcome(native, function, args), function), (number, args)
        if number % 50 == 0:
            assert state(reference) == state(native), number
    assert state(reference) == state(native)


def returned(result: object, function: Callable[..., Any]) -> object:
    """A native call of a function without a result gives 0."""
    return None if result == 0 and function not in (csr_read, effective_csr) else result


@pytest.mark.parametrize("seed", range(3))
def test_translation(seed: int) -> None:
    """Random page tables, modes and accesses translate or fault alike, and leave the same memory."""
    random_ = random.Random(seed)
    reference, native = Board(), Board()
    NativeEngine().attach(native.hart)
    boards = (reference, native)
    g_levels, vs_levels = random_.choice([3, 4, 5]), random_.choice([3, 4, 5])
    g_root, root = reference.table(4), reference.table()
    assert (native.table(4), native.table()) == (g_root, root)
    for board in boards:
        for page in range(RAM, RAM + 0x20_0000, 4096):
            board.map(g_root, g_levels, page, page, USER_RWX, widened=True)
    vas = [random_.getrandbits(37) & ~0xFFF for _ in range(40)]
    for va in vas:
        flags = random_.choice(
            [RWX, USER_RWX, random_.getrandbits(8) | 1, RWX | 1 << 61, random_.getrandbits(64) & ~0x3F_FFFF_FFFF_FC00]
        )
        pa = RAM + random_.randrange(0, 0x20_0000, 4096)
        for board in boards:
            place = board.map(g_root, g_levels, pa, pa, random_gflags(flags), widened=True) if va & 0x3000 == 0 else 0
            assert place >= 0
            board.map(root, vs_levels, va, pa, flags)
    encoded = {3: 8, 4: 9, 5: 10}
    for _ in range(1500):
        setup = {
            "satp": encoded[vs_levels] << 60 | root >> 12,
            "vsatp": random_.choice([0, encoded[vs_levels] << 60 | root >> 12]),
            "hgatp": random_.choice([0, encoded[g_levels] << 60 | g_root >> 12]),
            "mstatus": random_.getrandbits(64) & 0xC0000,
            "vsstatus": random_.getrandbits(64) & 0xC0000,
            "menvcfg": random_.getrandbits(64),
            "henvcfg": random_.getrandbits(64),
        }
        virt, priv = random_.randrange(2), random_.randrange(2)
        va = random_.choice(vas) + random_.randrange(4096)
        args = (va, random_.randrange(4), priv, virt, int(virt and random_.randrange(4) == 0))
        results = []
        for board in boards:
            for csr, bits in setup.items():
                board.write(csr, bits)
            results.append((outcome(board, translate, args), int(board.hart.walk_page)))
        assert results[0] == results[1], (setup, args)
    assert reference.buffer_bytes() == native.buffer_bytes()


def random_gflags(flags: int) -> int:
    """G-stage flags that follow from VS-stage ones, so both boards agree."""
    return USER_RWX ^ (flags & 0xC0)


def test_native_csr_numbers() -> None:
    """A register number that no hart has raises in check_csr natively too."""
    board = Board()
    NativeEngine().attach(board.hart)
    with pytest.raises(Trap):
        board.hart.call(check_csr, U64(0x7C0), U64(0))
