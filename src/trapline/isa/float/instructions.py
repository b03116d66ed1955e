"""The instructions that F, D and Zfh have in common, declared for one format.

Guards come first, in Spike's order: FS on, then a valid rounding mode. An instruction that writes an f register marks
FS dirty; one that writes an x register does so only if it raises a flag.
"""

from __future__ import annotations

from trapline.isa.float.compare import soft_classify, soft_pick
from trapline.isa.float.formats import Format, Operation, conversion
from trapline.isa.float.rounding import rounding_mode
from trapline.lang.facts import Access, Kind
from trapline.lang.functions import instruction
from trapline.lang.state import Hart
from trapline.lang.values import U64, sext
from trapline.privilege.guards import mark_fp_dirty, require_fp
from trapline.privilege.memory import load, store

# Integer registers are words in the names of moves.
MOVE_LETTERS = {"h": "h", "s": "w", "d": "d"}


def declare(fmt: Format, extension: str, moves: str) -> None:
    """Declare them; `moves` is the extension that has loads, stores and moves of bits."""
    declare_moves(fmt, moves)
    for name, code, operation in (("add", "00000", fmt.add), ("mul", "00010", fmt.mul), ("div", "00011", fmt.div)):
        declare_arithmetic(fmt, extension, name, code, operation)
    declare_subtraction_and_root(fmt, extension)
    sign = fmt.sign
    for name, opcode, product, addend in (
        ("madd", "1000011", 0, 0),
        ("msub", "1000111", 0, sign),
        ("nmsub", "1001011", sign, 0),
        ("nmadd", "1001111", sign, sign),
    ):
        declare_fused(fmt, extension, name, opcode, product, addend)
    declare_signs(fmt, extension)
    declare_choice(fmt, extension, "min", "000", False)
    declare_choice(fmt, extension, "max", "001", True)
    for name, code, compare in (("eq", "010", fmt.eq), ("lt", "001", fmt.lt), ("le", "000", fmt.le)):
        declare_comparison(fmt, extension, name, code, compare)
    declare_class(fmt, extension)
    for number, name in enumerate(("w", "wu", "l", "lu")):
        declare_integer(fmt, extension, name, f"{number:05b}")


def declare_moves(fmt: Format, extension: str) -> None:
    """Loads, stores and moves of bits."""
    letter = MOVE_LETTERS[fmt.letter]
    width = f"{fmt.size.bit_length() - 1:03b}"
    loads, stores = Access(Kind.LOAD, fmt.size), Access(Kind.STORE, fmt.size)

    @instruction(f"fl{letter} frd, imm(rs1)", f"imm[11:0] rs1 {width} rd 0000111", extension=extension, access=loads)
    def load_float(hart: Hart, rd: U64, rs1: U64, imm: U64) -> None:
        require_fp(hart)
        value = load(hart, hart.x[rs1] + imm, U64(fmt.size))
        mark_fp_dirty(hart)
        hart.f[rd] = fmt.box | value

    @instruction(
        f"fs{letter} frs2, imm(rs1)", f"imm[11:5] rs2 rs1 {width} imm[4:0] 0100111", extension=extension, access=stores
    )
    def store_float(hart: Hart, rs1: U64, rs2: U64, imm: U64) -> None:
        require_fp(hart)
        store(hart, hart.x[rs1] + imm, U64(fmt.size), hart.f[rs2])

    @instruction(f"fmv.x.{letter} rd, frs1", f"11100{fmt.code} 00000 rs1 000 rd 1010011", extension=extension)
    def move_out(hart: Hart, rd: U64, rs1: U64) -> None:
        require_fp(hart)
        hart.x[rd] = sext(hart.f[rs1], fmt.bits)

    @instruction(f"fmv.{letter}.x frd, rs1", f"11110{fmt.code} 00000 rs1 000 rd 1010011", extension=extension)
    def move_in(hart: Hart, rd: U64, rs1: U64) -> None:
        require_fp(hart)
        mark_fp_dirty(hart)
        hart.f[rd] = fmt.box | hart.x[rs1]


def declare_arithmetic(fmt: Format, extension: str, name: str, code: str, operation: Operation) -> None:
    """An operation of two numbers."""

    @instruction(
        f"f{name}.{fmt.letter} frd, frs1, frs2, rm", f"{code}{fmt.code} rs2 rs1 rm rd 1010011", extension=extension
    )
    def arithmetic(hart: Hart, rd: U64, rs1: U64, rs2: U64, rm: U64) -> None:
        require_fp(hart)
        mode = rounding_mode(hart, rm)
        mark_fp_dirty(hart)
        hart.f[rd] = fmt.box | operation(hart, fmt.unbox(hart.f[rs1]), fmt.unbox(hart.f[rs2]), mode)


def declare_subtraction_and_root(fmt: Format, extension: str) -> None:
    """fsub, the sum with the sign of the second turned; fsqrt."""

    @instruction(
        f"fsub.{fmt.letter} frd, frs1, frs2, rm", f"00001{fmt.code} rs2 rs1 rm rd 1010011", extension=extension
    )
    def subtract(hart: Hart, rd: U64, rs1: U64, rs2: U64, rm: U64) -> None:
        require_fp(hart)
        mode = rounding_mode(hart, rm)
        mark_fp_dirty(hart)
        hart.f[rd] = fmt.box | fmt.add(hart, fmt.unbox(hart.f[rs1]), fmt.unbox(hart.f[rs2]) ^ fmt.sign, mode)

    @instruction(f"fsqrt.{fmt.letter} frd, frs1, rm", f"01011{fmt.code} 00000 rs1 rm rd 1010011", extension=extension)
    def root(hart: Hart, rd: U64, rs1: U64, rm: U64) -> None:
        require_fp(hart)
        mode = rounding_mode(hart, rm)
        mark_fp_dirty(hart)
        hart.f[rd] = fmt.box | fmt.sqrt(hart, fmt.unbox(hart.f[rs1]), mode)


def declare_fused(fmt: Format, extension: str, name: str, opcode: str, product: int, addend: int) -> None:
    """A fused multiply-add; `product` and `addend` are the sign bits that are turned."""

    @instruction(
        f"f{name}.{fmt.letter} frd, frs1, frs2, frs3, rm", f"rs3 {fmt.code} rs2 rs1 rm rd {opcode}", extension=extension
    )
    def fused(hart: Hart, rd: U64, rs1: U64, rs2: U64, rs3: U64, rm: U64) -> None:
        require_fp(hart)
        mode = rounding_mode(hart, rm)
        mark_fp_dirty(hart)
        a = fmt.unbox(hart.f[rs1]) ^ product
        c = fmt.unbox(hart.f[rs3]) ^ addend
        hart.f[rd] = fmt.box | fmt.fma(hart, a, fmt.unbox(hart.f[rs2]), c, mode)


def declare_signs(fmt: Format, extension: str) -> None:
    """Sign injection."""
    sign = fmt.sign

    @instruction(f"fsgnj.{fmt.letter} frd, frs1, frs2", f"00100{fmt.code} rs2 rs1 000 rd 1010011", extension=extension)
    def sign_of_second(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
        require_fp(hart)
        mark_fp_dirty(hart)
        a = fmt.unbox(hart.f[rs1])
        b = fmt.unbox(hart.f[rs2])
        hart.f[rd] = fmt.box | (a & (sign - 1)) | (b & sign)

    @instruction(f"fsgnjn.{fmt.letter} frd, frs1, frs2", f"00100{fmt.code} rs2 rs1 001 rd 1010011", extension=extension)
    def other_sign(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
        require_fp(hart)
        mark_fp_dirty(hart)
        a = fmt.unbox(hart.f[rs1])
        b = fmt.unbox(hart.f[rs2])
        hart.f[rd] = fmt.box | (a & (sign - 1)) | (~b & sign)

    @instruction(f"fsgnjx.{fmt.letter} frd, frs1, frs2", f"00100{fmt.code} rs2 rs1 010 rd 1010011", extension=extension)
    def sign_of_product(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
        require_fp(hart)
        mark_fp_dirty(hart)
        a = fmt.unbox(hart.f[rs1])
        b = fmt.unbox(hart.f[rs2])
        hart.f[rd] = fmt.box | (a ^ (b & sign))


def declare_choice(fmt: Format, extension: str, name: str, code: str, larger: bool) -> None:
    """The smaller or the larger of two numbers."""

    @instruction(
        f"f{name}.{fmt.letter} frd, frs1, frs2", f"00101{fmt.code} rs2 rs1 {code} rd 1010011", extension=extension
    )
    def choice(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
        require_fp(hart)
        mark_fp_dirty(hart)
        a = fmt.unbox(hart.f[rs1])
        b = fmt.unbox(hart.f[rs2])
        hart.f[rd] = fmt.box | soft_pick(hart, a, b, larger, U64(fmt.exponent), U64(fmt.fraction))


def declare_comparison(fmt: Format, extension: str, name: str, code: str, compare: Operation) -> None:
    """A comparison."""

    @instruction(
        f"f{name}.{fmt.letter} rd, frs1, frs2", f"10100{fmt.code} rs2 rs1 {code} rd 1010011", extension=extension
    )
    def comparison(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
        require_fp(hart)
        a = fmt.unbox(hart.f[rs1])
        b = fmt.unbox(hart.f[rs2])
        hart.x[rd] = compare(hart, a, b)


def declare_class(fmt: Format, extension: str) -> None:
    """Which kind of number it is."""

    @instruction(f"fclass.{fmt.letter} rd, frs1", f"11100{fmt.code} 00000 rs1 001 rd 1010011", extension=extension)
    def classify(hart: Hart, rd: U64, rs1: U64) -> None:
        require_fp(hart)
        hart.x[rd] = soft_classify(fmt.unbox(hart.f[rs1]), U64(fmt.exponent), U64(fmt.fraction))


def declare_integer(fmt: Format, extension: str, name: str, code: str) -> None:
    """The conversions to and from one kind of integer."""
    to, from_ = getattr(fmt, f"to_{name}"), getattr(fmt, f"from_{name}")

    @instruction(
        f"fcvt.{name}.{fmt.letter} rd, frs1, rm", f"11000{fmt.code} {code} rs1 rm rd 1010011", extension=extension
    )
    def to_integer(hart: Hart, rd: U64, rs1: U64, rm: U64) -> None:
        require_fp(hart)
        mode = rounding_mode(hart, rm)
        hart.x[rd] = to(hart, fmt.unbox(hart.f[rs1]), mode)

    @instruction(
        f"fcvt.{fmt.letter}.{name} frd, rs1, rm", f"11010{fmt.code} {code} rs1 rm rd 1010011", extension=extension
    )
    def from_integer(hart: Hart, rd: U64, rs1: U64, rm: U64) -> None:
        require_fp(hart)
        mode = rounding_mode(hart, rm)
        mark_fp_dirty(hart)
        hart.f[rd] = fmt.box | from_(hart, hart.x[rs1], mode)


def declare_conversion(source: Format, result: Format, extension: str) -> None:
    """The conversion from one format to another."""
    convert = conversion(source, result)

    @instruction(
        f"fcvt.{result.letter}.{source.letter} frd, frs1, rm",
        f"01000{result.code} 000{source.code} rs1 rm rd 1010011",
        extension=extension,
    )
    def change_format(hart: Hart, rd: U64, rs1: U64, rm: U64) -> None:
        require_fp(hart)
        mode = rounding_mode(hart, rm)
        mark_fp_dirty(hart)
        hart.f[rd] = result.box | convert(hart, source.unbox(hart.f[rs1]), mode)
