"""Instructions that hosted software knows by their bits are those of the specification's table."""

from __future__ import annotations

import pytest

from trapline.isa import system
from trapline.isa.assemble import assemble
from trapline.lang.values import U64


@pytest.mark.parametrize(
    ("text", "bits"),
    [("sret", system.SRET), ("wfi", system.WFI), ("wrs.nto", system.WRS_NTO), ("wrs.sto", system.WRS_STO)],
)
def test_bits_are_those_of_the_instruction(text: str, bits: int) -> None:
    """A constant has the bits that the instruction's own declaration gives."""
    assert assemble(text, 0) == bits.to_bytes(4, "little")


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("csrrw a0, sscratch, a1", {"csr"}),
        ("csrrsi a0, 0xc1f, 1", {"csr", "counter"}),
        ("csrr a0, 0xc20", {"csr"}),
        ("csrr a0, cycle", {"csr", "counter"}),
        ("hlv.d a0, (a1)", {"guest access"}),
        ("hsv.w a0, (a1)", {"guest access"}),
        ("hfence.gvma", set()),
        ("ecall", set()),
        ("lw a0, 0(a1)", set()),
    ],
)
def test_kinds_are_told_apart(text: str, kinds: set[str]) -> None:
    """A CSR instruction, one of a counter and an access as the guest are recognised, and nothing else is."""
    bits = U64(int.from_bytes(assemble(text, 0), "little"))
    tests = {"csr": system.is_csr, "counter": system.is_counter, "guest access": system.is_guest_access}
    assert {name for name, test in tests.items() if test(bits)} == kinds
