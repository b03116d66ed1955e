"""Exits of L0 for an exit of L2: records are cut into rounds, each exit has a name, options are checked."""

from __future__ import annotations

import pytest

from trapline.conform.exit_costs import STEPS, rounds_of, what
from trapline.isa.assemble import assemble
from trapline.kvm.report.trace import TrapRecord
from trapline.policies.names import NaclFeature
from trapline.privilege.causes import INTERRUPT
from trapline.vmm.arguments import parse_nacl

LEAVE = TrapRecord(100, 0, 10, "vVS", ("vVS", "HS", "vHS"), ("hardware", "nested-leave"), "guest", hs_instructions=5)
ENTER = TrapRecord(160, 0, 22, "vHS", ("vHS", "HS", "vVS"), ("hardware", "nested-enter"), "resumed", tval=0x1020_0073)
FILL = TrapRecord(165, 0, 23, "vVS", ("vVS", "HS", "vVS"), ("hardware", "nested-map"), "resumed", hs_instructions=3)


def own(text: str, **more: int) -> TrapRecord:
    """An exit of L1's for an instruction."""
    bits = int.from_bytes(assemble(text, 0)[:4], "little")
    return TrapRecord(
        120, 0, 22, "vHS", ("vHS", "HS", "vHS"), ("hardware", "nested-emulate"), "emulated", tval=bits, **more
    )


def test_a_round_is_from_a_trap_of_l2_to_what_it_needs_behind_its_entry() -> None:
    """L1's own exits and L0's fill of its shadow are part of a round; what was before the first trap is none."""
    (only,) = rounds_of([own("csrr a0, hvip"), ENTER, LEAVE, own("csrr a0, htval"), ENTER, FILL])
    assert only.exits == ("supervisor-syscall from vVS", "read htval", "sret", "store-guest-page-fault from vVS")
    assert (only.l1, only.l0) == (60, 8)


def test_a_round_that_does_not_end_or_was_interrupted_is_left_out() -> None:
    """Rounds without an entry, and those with an interrupt, say nothing of the event."""
    tick = TrapRecord(130, 0, INTERRUPT | 5, "vHS", ("vHS", "HS", "vHS"), ("hardware", "resumed"), "resumed")
    assert rounds_of([LEAVE, own("csrr a0, htval")]) == []
    assert rounds_of([LEAVE, tick, ENTER]) == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("csrr a0, hstatus", "read hstatus"), ("csrw hvip, a0", "write hvip"),
        ("csrrw a0, hstatus, a1", "swap hstatus"),
        ("hfence.gvma", "hfence"), ("hlv.d a0, (a1)", "hlv or hsv"), ("sret", "sret"),
    ],
)  # fmt: skip
def test_an_exit_has_a_name(text: str, name: str) -> None:
    """An exit of L1 is named by its instruction."""
    assert what(own(text)) == name


def test_the_steps_add_one_feature_at_a_time() -> None:
    """Without --nacl each step has one feature of NACL more."""
    features: list[tuple[NaclFeature, ...]] = [parse_nacl(step) or () for step in STEPS]
    assert [len(f) for f in features] == [0, 1, 2, 3, 4]
