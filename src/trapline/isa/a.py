"""A extension for atomic instructions. One hart runs at a time, so acquire and release need nothing."""

from __future__ import annotations

from collections.abc import Callable

from trapline.lang.facts import Access, Kind
from trapline.lang.functions import inline, instruction
from trapline.lang.state import Hart
from trapline.lang.values import U64, sext, signed
from trapline.privilege.memory import amo_load, load_reserved, store, store_conditional

# What an AMO stores, of the loaded value and the operand. Words come sign-extended, which keeps both orders.


@inline
def swap(old: U64, operand: U64) -> U64:
    """The operand."""
    return operand


@inline
def add(old: U64, operand: U64) -> U64:
    """The sum."""
    return old + operand


@inline
def xor(old: U64, operand: U64) -> U64:
    """Exclusive or."""
    return old ^ operand


@inline
def both(old: U64, operand: U64) -> U64:
    """And."""
    return old & operand


@inline
def either(old: U64, operand: U64) -> U64:
    """Or."""
    return old | operand


@inline
def least(old: U64, operand: U64) -> U64:
    """The smaller, as signed numbers."""
    return old if signed(old) < signed(operand) else operand


@inline
def most(old: U64, operand: U64) -> U64:
    """The larger, as signed numbers."""
    return old if signed(old) > signed(operand) else operand


@inline
def least_unsigned(old: U64, operand: U64) -> U64:
    """The smaller, as unsigned numbers."""
    return old if old < operand else operand


@inline
def most_unsigned(old: U64, operand: U64) -> U64:
    """The larger, as unsigned numbers."""
    return old if old > operand else operand


def declare_reservations(letter: str, width: str, size: int) -> None:
    """LR and SC of one size."""
    bits = size * 8
    reserve, conditional = Access(Kind.RESERVE, size, signed=True), Access(Kind.CONDITIONAL, size)

    @instruction(
        f"lr.{letter} rd, (rs1)",
        f"00010 aq rl 00000 rs1 {width} rd 0101111",
        extension="A",
        partial=True,
        access=reserve,
    )
    def lr(hart: Hart, rd: U64, rs1: U64) -> None:
        hart.x[rd] = sext(load_reserved(hart, hart.x[rs1], U64(size)), bits)

    @instruction(
        f"sc.{letter} rd, rs2, (rs1)",
        f"00011 aq rl rs2 rs1 {width} rd 0101111",
        extension="A",
        partial=True,
        access=conditional,
    )
    def sc(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
        hart.x[rd] = store_conditional(hart, hart.x[rs1], U64(size), hart.x[rs2])


def declare_amo(name: str, code: str, operation: Callable[[U64, U64], U64], letter: str, width: str, size: int) -> None:
    """An AMO of one size. Memory and rd get the loaded value as it was before; a word is sign-extended in rd."""
    bits = size * 8
    access = Access(Kind.AMO, size, signed=True)

    @instruction(
        f"amo{name}.{letter} rd, rs2, (rs1)", f"{code} aq rl rs2 rs1 {width} rd 0101111", extension="A", access=access
    )
    def amo(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
        address = hart.x[rs1]
        operand = sext(hart.x[rs2], bits)
        old = sext(amo_load(hart, address, U64(size)), bits)
        store(hart, address, U64(size), operation(old, operand))
        hart.x[rd] = old


for letter, width, size in (("w", "010", 4), ("d", "011", 8)):
    declare_reservations(letter, width, size)
    declare_amo("swap", "00001", swap, letter, width, size)
    declare_amo("add", "00000", add, letter, width, size)
    declare_amo("xor", "00100", xor, letter, width, size)
    declare_amo("and", "01100", both, letter, width, size)
    declare_amo("or", "01000", either, letter, width, size)
    declare_amo("min", "10000", least, letter, width, size)
    declare_amo("max", "10100", most, letter, width, size)
    declare_amo("minu", "11000", least_unsigned, letter, width, size)
    declare_amo("maxu", "11100", most_unsigned, letter, width, size)
