"""What is declared beside an instruction is what its function does."""

from __future__ import annotations

from dataclasses import replace

import pytest

import trapline.isa.all  # noqa: F401  (declares the instructions)
from trapline.engine.compiler.facts import check
from trapline.engine.compiler.source import SubsetError
from trapline.isa.decode import Decoder, by_name
from trapline.isa.lookup import changes_mode, csr_written, destination, scalar_accesses, written_x
from trapline.lang.facts import Access, Flow, Kind
from trapline.lang.functions import INSTRUCTIONS, Instruction

REAL = [i for i in INSTRUCTIONS if i.function is not None]
ALL = Decoder({part for i in INSTRUCTIONS for word in i.extension.split("&") for part in word.split("|")})


@pytest.mark.parametrize("instruction", REAL, ids=lambda i: i.name)
def test_declarations_are_what_functions_do(instruction: Instruction) -> None:
    """Flow, access and register files that are declared are those that the AST shows."""
    check(instruction)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("lw", {"access": Access(Kind.LOAD, 8, signed=True)}),
        ("lw", {"access": Access(Kind.LOAD, 4)}),
        ("lw", {"access": None}),
        ("sd", {"access": Access(Kind.LOAD, 8)}),
        ("amoadd.w", {"access": Access(Kind.STORE, 4)}),
        ("hlv.w", {"access": Access(Kind.LOAD, 4, signed=True)}),
        ("add", {"access": Access(Kind.LOAD, 8)}),
        ("beq", {"flow": Flow.NEXT}),
        ("jalr", {"flow": Flow.BRANCH}),
        ("mret", {"flow": Flow.NEXT}),
        ("ecall", {"flow": Flow.NEXT}),
        ("add", {"flow": Flow.JUMP}),
        ("fadd.d", {"names": ("rd", "frs1", "frs2", "rm")}),
        ("fmv.x.d", {"names": ("frd", "frs1")}),
    ],
)
def test_wrong_declarations_are_refused(name: str, change: dict[str, object]) -> None:
    """A declaration that says something else than the function does is an error that names the instruction."""
    with pytest.raises(SubsetError, match=name):
        check(replace(by_name(name), **change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("bits", "register", "integer"),
    [
        (0x00A30293, ("x", 5), 5),  # addi t0, t1, 10
        (0x00A30013, None, None),  # addi x0, t1, 10
        (0x00053007, ("f", 0), None),  # fld ft0, 0(a0)
        (0xE2050553, ("x", 10), 10),  # fmv.x.d a0, fa0
        (0x00A53023, None, None),  # sd a0, 0(a0)
        (0x4501, ("x", 10), 10),  # c.li a0, 0
    ],
)
def test_destinations(bits: int, register: tuple[str, int] | None, integer: int | None) -> None:
    """The register that an instruction writes is found with its file; x0 is none."""
    found = ALL.decode(bits)
    assert found is not None
    assert (destination(found), written_x(found)) == (register, integer)


def test_csr_writes() -> None:
    """csrrw always writes; csrrs and csrrc do unless rs1 is x0 or the immediate is 0."""
    cases = {0x14051073: 0x140, 0x140023F3: None, 0x1400A073: 0x140, 0x14006073: None, 0x1400E073: 0x140}
    found = {bits: csr_written(decoded) for bits in cases if (decoded := ALL.decode(bits)) is not None}
    assert found == cases


def test_mode_changes_and_scalar_accesses() -> None:
    """Only trap returns and environment calls change the mode; plain accesses are the eleven of RV64I."""
    assert {i.name for i in REAL if changes_mode(i)} == {"ecall", "mret", "sret"}
    assert {i.name for i in scalar_accesses()} == set(
        "lb lbu lh lhu lw lwu ld sb sh sw sd flh fsh flw fsw fld fsd".split()
    )
