"""Numbers that the compiled handlers and the decoder of records must agree on."""

from __future__ import annotations

from functools import cache

import trapline.isa.all  # noqa: F401  (declares the instructions)
from trapline.lang.functions import INSTRUCTIONS

MARGIN = 2100  # more than the attempts between two looks at the budget
SAMPLE_PERIOD = 20_000  # attempts, on average
UNEVEN, UNEVEN_STEP = 1024, 389  # a power of two by which periods differ, and how far one is from the next

# The most frequent pairs of neighbours (first+second, each with its length in bytes), most frequent first.
FUSED = tuple(
    (pair.split("+")[0], pair.split("+")[1])
    for pair in """
    ld_2+ld_2 addi_4+addi_2 sd_4+sd_4 ld_4+ld_4 add_2+add_2 fmadd.d_4+bne_4 addi_2+addi_2 addi_2+fmadd.d_4
    fld_2+fld_2 fld_2+addi_4 add_2+bne_2 mul_4+add_2 lbu_4+addi_2 slli_4+add_2 add_2+bne_4 ld_2+addi_4 addi_2+add_2
    addi_2+mul_4 add_2+lw_2 addi_2+sb_4 add_2+ld_2 addiw_4+addiw_4 sd_2+add_2 ld_2+slli_4 ld_2+sd_2 srliw_4+slliw_4
    addi_4+bne_4 sd_4+addi_4 sd_2+sd_2 addi_4+sd_4 slli_2+add_2 ld_4+addi_4 lw_2+add_2 addi_4+beq_4 addiw_4+andi_4
    srai_4+andi_4 sb_4+bne_4 andi_4+srai_4 slliw_4+srliw_4 sb_4+bne_2 andi_4+bltu_4 addi_2+bne_4 lw_2+addiw_4
    add_2+addi_2 addi_2+addi_4 add_2+lbu_4 ld_2+bltu_4 or_4+or_4 lbu_4+beq_2 xor_4+xor_4 addw_4+addw_4 ld_2+beq_2
    ld_2+bne_4 addw_4+xor_4 slliw_4+slliw_4 slliw_4+or_4 srliw_4+srliw_4 or_4+addw_4 add_2+sd_4 addiw_4+bltu_4
    ld_2+addiw_4 xor_4+or_4 ld_4+addi_2 addiw_2+addiw_4 xor_4+addw_4 addiw_4+addiw_2 addw_2+xor_4 addw_4+srliw_4
    sd_2+addi_2 xor_4+srliw_4 xor_4+addw_2 or_4+srliw_4 ld_2+ld_4 lw_2+srliw_4 ld_4+add_2 ld_2+addi_2 srliw_4+or_4
    srli_4+xor_2 srliw_4+xor_4 xor_4+slliw_4 ld_4+sd_4 and_4+and_4 xor_4+xor_2 addi_2+beq_2 add_2+beq_4 and_4+xor_4
    lbu_4+lbu_4 add_2+ld_4 auipc_4+addi_4 lbu_4+andi_2 slli_4+xor_2 addiw_2+addi_2 xori_4+xor_4 or_4+xor_4
    addi_2+sd_2 add_4+lbu_4 xor_2+xor_4 xor_4+and_4 andi_2+bne_2 or_4+xori_4 addi_2+bltu_4 or_4+slliw_4 ld_2+slli_2
    addiw_2+addiw_2 sw_2+addi_2 sb_4+sb_4 or_4+and_4 srliw_4+addw_2 xor_2+addiw_2 andi_4+addi_2 slliw_4+xor_4
    addw_4+slliw_4 and_4+or_4 addiw_2+add_2 sd_4+sd_2 addiw_4+addi_2 addw_2+addiw_4 slliw_4+and_4 add_2+slliw_4
    slliw_4+lw_4 add_2+addw_2 and_4+addw_4 slli_2+addi_2 slli_4+srli_4 addiw_4+sw_2 lw_4+lw_2 xor_4+ld_4
    addw_4+addiw_2
    """.split()
)


@cache
def step_index() -> dict[tuple[str, int], int]:
    """Numbers, from 1, of the (name, length) whose records hold in-page branches."""
    names = [i.name for i in INSTRUCTIONS if i.expands is None and i.has_target]
    return {(name, length): 1 + 2 * at + (length == 2) for at, name in enumerate(names) for length in (2, 4)}


@cache
def plain_index() -> dict[str, int]:
    """Numbers, after those of step_index, of the handlers that stand for the first part of a pair when stepping."""
    base = len(step_index()) + 2
    return {name: base + at for at, name in enumerate(dict.fromkeys(first for first, _ in FUSED))}
