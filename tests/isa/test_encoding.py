"""Patterns: parsing, extraction and insertion of fields."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import trapline.isa.all  # noqa: F401  (declares every instruction)
from trapline.isa.encoding import EncodingError, parse
from trapline.lang.functions import INSTRUCTIONS


@given(st.sampled_from(range(len(INSTRUCTIONS))), st.integers(0, (1 << 32) - 1))
def test_extract_then_encode(index: int, bits: int) -> None:
    """Encoding the extracted fields gives the instruction back."""
    encoding = parse(INSTRUCTIONS[index].pattern)
    bits = encoding.match | bits & ~encoding.mask & ((1 << 8 * encoding.length) - 1)
    assert encoding.encode(encoding.extractor()(bits)) == bits


def test_branch_offset() -> None:
    """The scattered immediate of a branch is put together and sign-extended."""
    encoding = parse("imm[12|10:5] rs2 rs1 000 imm[4:1|11] 1100011")
    assert encoding.extractor()(0xFE000EE3)["imm"] == -4
    assert encoding.encode({"imm": -4, "rs1": 0, "rs2": 0}) == 0xFE000EE3


@pytest.mark.parametrize("operands", [{"imm": 4096}, {"imm": -4098}, {"imm": 3}, {"rs1": 32}, {"nothing": 1}])
def test_operands_that_do_not_fit(operands: dict[str, int]) -> None:
    """Values out of range, odd offsets and unknown fields are refused by name."""
    with pytest.raises(EncodingError):
        parse("imm[12|10:5] rs2 rs1 000 imm[4:1|11] 1100011").encode(operands)


def test_three_bit_registers() -> None:
    """A primed register stands for x8..x15."""
    encoding = parse("100 0 11 rd' 00 rs2' 01")
    assert encoding.encode({"rd": 8, "rs2": 15}) == 0x8C1D
    with pytest.raises(EncodingError, match="rd cannot be 7"):
        encoding.encode({"rd": 7, "rs2": 15})


@pytest.mark.parametrize("pattern", ["0101", "rx rs1 000 rd 0000011", "imm[11:0] rs1 000 rd 00000110"])
def test_bad_patterns(pattern: str) -> None:
    """A pattern of the wrong width or with an unknown field is an error when it is parsed."""
    with pytest.raises(ValueError, match=r"pattern|field"):
        parse(pattern)
