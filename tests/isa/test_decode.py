"""Which encodings are instructions: hints, reserved encodings, and extensions that are off."""

from __future__ import annotations

import time

import pytest

from tests.isa.table import DECODER, EVERYTHING, INSTRUCTIONS, random_encodings
from trapline.isa.assemble import encode_line
from trapline.isa.decode import Decoder, enabled_extensions, encode, expanded_bits
from trapline.lang.state import Hart


def name_of(bits: int, decoder: Decoder = DECODER) -> str | None:
    """Return the spelling's mnemonic, or None for an illegal encoding."""
    decoded = decoder.decode(bits)
    return decoded and decoded.spelling.name


@pytest.mark.parametrize(
    ("bits", "name"),
    [
        (0x0000, None),  # defined illegal
        (0x0001, "c.nop"),
        (0x0015, "c.nop"),  # hint: nonzero immediate
        (0x0081, "c.addi"),  # hint: c.addi ra, 0
        (0x4005, "c.li"),  # hint: rd=x0
        (0x6005, "c.lui"),  # hint: rd=x0
        (0x6001, None),  # c.lui zero, 0: reserved
        (0x6101, None),  # c.addi16sp sp, 0: reserved
        (0x6081, None),  # c.lui ra, 0: reserved without Zcmop
        (0x2001, None),  # c.addiw zero: reserved
        (0x0082, "c.slli"),  # hint: c.slli ra, 0
        (0x0006, "c.slli"),  # hint: rd=x0
        (0x8001, "c.srli"),  # hint: shamt=0
        (0x4002, None),  # c.lwsp zero: reserved
        (0x6002, None),  # c.ldsp zero: reserved
        (0x8002, None),  # c.jr zero: reserved
        (0x8006, "c.mv"),  # hint: rd=x0
        (0x9006, "c.add"),  # hint: rd=x0, Zihintntl's place
        (0x9002, "c.ebreak"),
        (0x8000, None),  # c.lbu of Zcb
        (0x9C41, None),  # c.mul of Zcb
        (0x9C61, None),  # c.zext.b of Zcb
    ],
)
def test_compressed_hints_and_reserved(bits: int, name: str | None) -> None:
    """C hints are legal instructions without effect, reserved encodings and Zcb are illegal."""
    assert name_of(bits) == name


def test_hints_write_nothing() -> None:
    """A compressed hint expands to an instruction whose destination is x0 or keeps its value."""
    assert DECODER.decode(0x4005).operands == {"rd": 0, "rs1": 0, "imm": 1}
    assert DECODER.decode(0x6005).operands == {"rd": 0, "imm": 0x1000}
    assert DECODER.decode(0x0081).operands == {"rd": 1, "rs1": 1, "imm": 0}


@pytest.mark.parametrize(
    ("bits", "name"),
    [
        (0x0000000F, "fence"),  # empty sets
        (0xF33F8F8F, "fence"),  # reserved fm, rs1 and rd are ignored
        (0x8330000F, "fence.tso"),
        (0x0100000F, "pause"),
        (0xFFFF9F8F, "fence.i"),  # reserved fields are ignored
        (0x00006013, "prefetch.i"),  # ori x0, x0, 0 with Zicbop
        (0x00106013, "prefetch.r"),
        (0x00206013, "ori"),
        (0x00306013, "prefetch.w"),
        (0x02001013, "slli"),  # shamt[5] of RV64
        (0x0200101B, None),  # slliw has five bits
        (0x00000073, "ecall"),
        (0x00000173, None),  # ecall with rd
        (0x00100073, "ebreak"),
        (0x10500073, "wfi"),
        (0x00D00073, "wrs.nto"),
        (0x01D00073, "wrs.sto"),
        (0x00200073, None),  # uret
        (0x30200073, "mret"),
        (0x70200073, None),  # mnret
        (0x7B200073, None),  # dret
        (0x120000F3, None),  # sfence.vma with rd
        (0x1000302F, "lr.d"),
        (0x1010302F, None),  # lr with rs2
        (0x1000102F, None),  # lr.h
        (0x0000001F, None),  # 48-bit encodings
        (0x0000003F, None),  # 64-bit encodings
        (0xFFFFFFFF, None),
        (0x00003063, None),  # branch funct3 3
        (0x00007003, None),  # load funct3 7
        (0x00004023, None),  # store funct3 4
        (0x00001067, None),  # jalr funct3 1
        (0x00004073, None),  # funct3 4 without a hypervisor encoding
    ],
)
def test_32_bit_encodings(bits: int, name: str | None) -> None:
    """Reserved fields that the specification ignores are ignored, other reserved encodings are illegal."""
    assert name_of(bits) == name


def test_upper_bits_of_a_compressed_fetch_do_not_matter() -> None:
    """A 16-bit instruction decodes alike whatever follows it in memory."""
    assert DECODER.decode(0xFFFF0001) is DECODER.decode(0x0001)


@pytest.mark.parametrize("extension", sorted(EVERYTHING - {"I"}))
def test_extension_off(extension: str) -> None:
    """Without an extension none of its own instructions decodes to itself, and all others do."""
    decoder = Decoder(EVERYTHING - {extension})
    for instruction in INSTRUCTIONS:
        gone = any(extension in part and part == extension for part in instruction.extension.split("&"))
        for bits in random_encodings(instruction, 2):
            assert (name_of(bits, decoder) == instruction.name) == (not gone), instruction.name


def test_hints_without_their_extension() -> None:
    """Without Zicbop a prefetch is the ori hint; without Zbb zext.h is Zbkb's packw."""
    bits = encode_line("prefetch.r 64(a0)")
    assert name_of(bits, Decoder(EVERYTHING - {"Zicbop"})) == "ori"
    assert name_of(encode_line("zext.h a0, a1"), Decoder(EVERYTHING - {"Zbb"})) == "packw"


def test_shared_instructions() -> None:
    """What Zbb and Zbkb share needs one of them; compressed double loads need C and D."""
    ror = encode("ror", rd=1, rs1=2, rs2=3)
    assert name_of(ror, Decoder({"I", "Zbkb"})) == "ror"
    assert name_of(ror, Decoder({"I", "Zbb"})) == "ror"
    assert name_of(ror, Decoder({"I"})) is None
    c_fld = encode_line("c.fld fa0, 8(a0)")
    assert name_of(c_fld, Decoder({"I", "C", "F", "D"})) == "c.fld"
    assert name_of(c_fld, Decoder({"I", "C", "F"})) is None
    assert name_of(c_fld, Decoder({"I", "D", "F"})) is None


def test_extensions_of_a_hart() -> None:
    """A decoder for a hart takes the switches from its state."""
    hart = Hart()
    hart.has_m = 1
    hart.has_zba = 1
    assert enabled_extensions(hart) == {"I", "M", "Zba"}
    assert name_of(encode("mul", rd=1), Decoder(hart)) == "mul"
    assert name_of(encode("lr.w", rd=1), Decoder(hart)) is None


def test_every_extension_has_a_switch() -> None:
    """Every extension that gates an instruction is a switch of the hart's state."""
    hart = Hart()
    for name in EVERYTHING - {"I"}:
        setattr(hart, f"has_{name.lower()}", 1)
    assert enabled_extensions(hart) >= EVERYTHING


def test_expanded_bits_decode_alike() -> None:
    """The 32-bit encoding of an expansion decodes to the same instruction and operands."""
    for instruction in INSTRUCTIONS:
        if instruction.expands:
            for bits in random_encodings(instruction, 4):
                compressed = DECODER.decode(bits)
                wide = DECODER.decode(expanded_bits(compressed))
                assert wide.instruction is compressed.instruction
                assert wide.operands == compressed.operands


def test_parameters_are_fields() -> None:
    """Every parameter of an instruction's function is a field of its pattern."""
    for instruction in INSTRUCTIONS:
        if instruction.function:
            for bits in random_encodings(instruction, 1):
                assert set(instruction.operands) <= DECODER.decode(bits).operands.keys(), instruction.name


def test_decoding_is_fast() -> None:
    """A first decode costs microseconds: far below what interpreting it once in Python does."""
    codes = [bits for i in INSTRUCTIONS for bits in random_encodings(i, 20)]
    decoder = Decoder(EVERYTHING)
    for bits in codes[::20]:
        decoder.decode(bits)
    start = time.process_time()
    for bits in codes:
        decoder.decode(bits)
    assert (time.process_time() - start) / len(codes) < 50e-6
