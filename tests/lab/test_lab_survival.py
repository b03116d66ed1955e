"""Who survives what killed a guest: the same instruction of the same guest, executed under every preset."""

from __future__ import annotations

import pytest
from tests.small_elf import elf

from trapline.isa.assemble import assemble
from trapline.lab.route import route
from trapline.lab.survival import Survival, describe, survival
from trapline.policies import policy_names
from trapline.vmm.arguments import parse_slot
from trapline.vmm.guest import Guest

BASE = 0x8020_0000


def killed(policy: str, source: str, **options: object) -> Survival:
    """Run a guest to its death; say who survives that."""
    guest = Guest(policy, memory=8 << 20, memslots=[parse_slot("0x40000000:64K:hole")], **options)  # type: ignore[arg-type]
    guest.load_bytes(elf(BASE, [(BASE, assemble(source, BASE))]), "guest")
    result = guest.run(10_000)
    assert result.death is not None
    return survival(guest.vm, result.death.vcpu)


FETCH_HOLE = "la t0, h; csrw stvec, t0; li t0, 0x40000000; jr t0\n.align 2\nh: j h"
DEATHS = [
    ("linux-6.12", FETCH_HOLE, "linux-6.14", "guest 1"),
    ("linux-7.1", "la t0, h; csrw stvec, t0; li t0, 0x50000000; jr t0\n.align 2\nh: j h", "linux-7.2", "guest 1"),
    ("linux-6.12.107", FETCH_HOLE, "linux-6.14", "guest 1"),
    ("linux-5.19", ".insn 0x0000000b", "linux-6.3", "guest 2"),
    ("linux-6.10", "li t0, 0x40000000; ld a0, 0(t0)", "linux-6.11", "guest 5"),
    ("linux-6.4", "li t0, 0x80000004; lr.d a0, (t0)", "linux-6.5", "guest 4"),
    ("linux-7.2", "li t0, 0x50000000; amoadd.d a0, a1, (t0)", None, ""),
    ("xvisor-2025", ".insn 0x0000000b", "xvisor", "guest 2"),
    ("bao-2025", "ebreak", "bao", "guest 3"),
    ("axvisor", "csrr a0, hstatus", None, ""),
]


@pytest.mark.parametrize(("policy", "source", "mended", "outcome"), DEATHS)
def test_mended_in(policy: str, source: str, mended: str | None, outcome: str) -> None:
    """The version that mended a death is the first from which on all survive, and what the guest gets is said."""
    found = killed(policy, source).mended()
    assert (found.policy if found else None, found.outcome if found else "") == (mended, outcome)


def test_fates_are_those_of_routes() -> None:
    """What the survey says of a preset is what trapline route finds for the same event under it."""
    fates = {f.policy: f.outcome for f in killed("linux-6.12", FETCH_HOLE).fates}
    for name in ("linux-5.16", "linux-6.13", "linux-6.14", "linux-7.2", "zhou", "holland-1", "bao", "proposed", "none"):
        row = next(r for r in route(name, event="^fetch-hole$").routes if r.from_ == "VS")
        assert fates[name] == row.outcome(), name


def test_the_killer_is_among_the_dead() -> None:
    """Under the policy that killed the guest it dies again, with the same errno."""
    for policy, source, _, _ in DEATHS:
        if policy not in policy_names():
            continue  # a point release
        fate = next(f for f in killed(policy, source).fates if f.policy == policy)
        assert not fate.survives
        assert fate.outcome.startswith("killed -")


def test_firmware_counts() -> None:
    """Where firmware ignores hedeleg, a delegated cause without a case behind it kills there too."""
    honest = {f.policy: f.survives for f in killed("linux-6.12", FETCH_HOLE).fates}
    ignoring = {f.policy: f.survives for f in killed("linux-6.12", FETCH_HOLE, firmware="ignores-hedeleg").fates}
    assert honest["holland-1"]
    assert not ignoring["holland-1"]
    assert ignoring["holland-2"]


def test_it_is_told_in_short() -> None:
    """Releases that follow one another are one word, and the first line says what mended it."""
    lines = describe(killed("linux-6.12", FETCH_HOLE))
    assert lines[0] == "mended in linux-6.14: the guest gets cause 1 (inst-access)"
    assert any(line.startswith("killed -14: linux-5.16 to linux-6.13, ") for line in lines)
    assert describe(killed("linux-7.2", "li t0, 0x50000000; lr.w a0, (t0)"))[0] == "not mended up to linux-7.3"
