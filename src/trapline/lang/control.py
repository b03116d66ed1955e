"""Primitives that steer the engine: jumps, leaving native code, forgetting translations and code.

Under CPython they act on the same state words that native code uses, so hosted software may call
them while native code is not running.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from enum import IntEnum
from typing import Any

from trapline.lang.functions import Trap, primitive
from trapline.lang.state import Hart
from trapline.lang.values import U64

ATTENTION_RESUME = 1  # the next pc, the context or an interrupt must be looked at again
ATTENTION_LEAVE = 2  # native code returns to its caller before the next instruction


class Exit(IntEnum):
    """Why a run of a hart came back."""

    LIMIT = 1  # the instruction limit of this run was reached
    HOSTED_M = 2  # a trap was delivered to a hosted M-mode
    HOSTED_HS = 3  # a trap was delivered to a hosted HS-mode
    WFI = 4  # wfi, wrs.nto or wrs.sto stalls; pc is already past it
    TIMER = 5  # a CSR write moved a timer deadline; run again
    STOP = 6  # a device or hook asked to stop
    OBSERVE = 7  # the trap that an observer has waited for was taken
    BREAK = 8  # a stop was hit (engine.observe.stops)


EXIT_LIMIT, EXIT_HOSTED_M, EXIT_HOSTED_HS, EXIT_WFI, EXIT_TIMER, EXIT_STOP, EXIT_OBSERVE, EXIT_BREAK = map(int, Exit)
SERVE_CODE, SERVE_EXIT = 0, 1  # what the native engine does in Python (serve_run)


@primitive
def jump(hart: Hart, target: U64) -> None:
    """Continue at `target` after this instruction."""
    hart.next_pc = target


@primitive
def attempt(hart: Hart, function: Callable[..., Any], *args: Any) -> bool:
    """Call `function(hart, *args)` for hosted software, which expects that it may trap; True if it did.

    The trap is then in hart.trap_cause, trap_tval, trap_tval2, trap_tinst and trap_gva, which stay as they are if
    it did not, and nothing is delivered. What the function returns is in hart.attempted.
    """
    try:
        value = function(hart, *args)
    except Trap as trap:
        trap.note(hart)
        return True
    if value is not None:
        hart.attempted = value
    return False


@primitive
def leave(hart: Hart, reason: int) -> None:
    """Leave native code after this instruction with one of the EXIT_ reasons."""
    hart.exit_reason = reason
    hart.attention = hart.attention | ATTENTION_LEAVE


@primitive
def flush_translations(hart: Hart) -> None:
    """Forget every cached translation of this hart."""
    hart.on_flush_translations()


@primitive
def flush_page(hart: Hart, va: U64) -> None:
    """Forget the cached translations of the page (of any size) that holds `va`, in every context."""
    hart.on_flush_page(int(va))


@primitive
def cache_translation(hart: Hart, va: U64, pa: U64, access: int, region: U64, priv: U64) -> None:
    """Remember that `va` translates to `pa` for this kind of access in the current context.

    Nothing under CPython: the reference engine has no TLB.
    """


@primitive
def note_store(hart: Hart, pa: U64, region: U64, size: U64) -> None:
    """`size` bytes at `pa`, in one page, are written without a cached translation: code decoded from them is forgotten.

    Under CPython an engine that keeps code is told (Hart.on_store); the reference engine decodes what it fetches.
    """
    if hart.stored_log != 0:
        hart.on_log_store(int(pa))
    hart.on_store(int(hart.region_host[region] + (pa - hart.region_base[region])), int(size))


@primitive
def note_trap(hart: Hart, to: U64, cause: U64, epc: U64) -> None:
    """A trap was taken to a level (modes.TO_M and others): whoever looks on hears of it."""
    hart.on_note("note_trap", to, cause, epc)


@primitive
def note_return(hart: Hart, left: U64) -> None:
    """A mode (modes.mode_index) was left by a return."""
    hart.on_note("note_return", left)


@primitive
def note_access(hart: Hart, va: U64, pa: U64, size: U64, access: int) -> None:
    """An access is about to be made, and nothing can refuse it any more."""
    hart.on_note("note_access", va, pa, size, U64(access))


@primitive
def note_split(hart: Hart, va: U64, size: U64, pa: U64, first: U64, rest: U64, access: int) -> None:
    """The same, of which only the first bytes lie at `pa`, and the others at `rest`."""
    hart.on_note("note_split", va, size, pa, first, rest, U64(access))


@primitive
def note_atomic(hart: Hart, va: U64, pa: U64, size: U64) -> None:
    """The same of an AMO, which reads now; its store is noted, too."""
    hart.on_note("note_atomic", va, pa, size)


@primitive
def forget_code(hart: Hart, table: U64, offset: U64, size: U64) -> None:
    """Have the native engine forget code of a page, by its records' address, where compiled regions are part of it."""
    raise LookupError("only native code keeps regions")


@primitive
def arm_code(hart: Hart, table: U64, va: U64) -> None:
    """Have the native engine put stops into the records of a page, which is at `va` now (all ones: where it was)."""
    raise LookupError("only native code has records")


@primitive
def user_mmio(hart: Hart, gpa: U64, how: U64, data: U64) -> U64:
    """The VMM's answer to an access to one of its devices; `how` is the size, plus 256 for a store."""
    return U64(hart.on_mmio(int(gpa), int(how), int(data)))


@primitive
def call_action(hart: Hart, function: U64) -> U64:
    """Call a policy's own action: the compiled one at a host address, under CPython the one of that number."""
    return U64(hart.on_action(int(function)))


@primitive
def transformed_instruction(hart: Hart) -> U64:
    """The transformed form of hart.insn for xtinst, or 0 (Hypervisor chapter, Transformed Instruction)."""
    return U64(hart.on_transform())


@primitive
def instruction_bits(hart: Hart) -> U64:
    """The bits of the instruction at hart.pc, 16 or 32 of them."""
    return U64(hart.insn)


@primitive
def fill_ones(address: U64, size: U64) -> None:
    """Set `size` bytes at a host address to 0xff."""
    ctypes.memset(int(address), 0xFF, int(size))


@primitive
def run_engine(hart: Hart, limit: U64) -> U64:
    """Run a hart until `limit` more attempts or another reason to leave (EXIT_*), for a schedule."""
    return U64(hart.on_run(int(limit)))


@primitive
def enter_code(hart: Hart, attempts: U64) -> None:
    """Go on in the hart's compiled code; it comes back with hart.native_exit."""
    raise LookupError("only the native engine has compiled code")


@primitive
def serve_run(hart: Hart, what: int) -> U64:
    """Have the native engine's Python look after compiled code, or serve the reason why the hart came back.

    0: go on; else the reason to leave (EXIT_*).
    """
    raise LookupError("only the native engine serves native code")
