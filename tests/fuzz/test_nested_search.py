"""Searches whose programs are L2's, under a guest hypervisor."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from trapline.fuzz.findings import Group
from trapline.fuzz.image import CODE, FCSR, PROGRAMS, RAM, REGISTERS, SLOT, STRIDE, TABLE
from trapline.fuzz.judge import World
from trapline.fuzz.replay import write_all
from trapline.fuzz.search import News, Plan, Search
from trapline.fuzz.target import End
from trapline.isa.assemble import assemble
from trapline.lab.probe import image as probe
from trapline.lab.settings import settings
from trapline.policies import load_policy
from trapline.privilege.pte import PTE_A, PTE_D, PTE_R, PTE_V, PTE_W, PTE_X


def nested_plan(policy: str = "proposed") -> Plan:
    """Programs of VU under the bare hypervisor, which has `proposed` as its policy."""
    return Plan(settings(policy), nested=load_policy("proposed"))


def test_a_guest_hypervisor_notes_no_more_than_it_has_room_for() -> None:
    """However many exceptions of L2 a batch makes, L1 lives, and L2's registers are those of its program alone."""
    plan = nested_plan()
    world = World(plan.settings, "VU", plan.isas[0], nested=plan.nested)
    program = assemble("lw zero, 0(sp)\n" * 28, CODE)
    alone = world.target.run([program])
    outcome = world.target.run([program] * PROGRAMS)
    assert alone.end is outcome.end is End.DONE
    registers = {outcome.log[n * STRIDE + REGISTERS : n * STRIDE + FCSR] for n in range(PROGRAMS)}
    assert registers == {alone.log[REGISTERS:FCSR]}


@pytest.mark.parametrize("nested", [False, True])
def test_what_needs_several_programs_keeps_them(nested: bool, tmp_path: Path) -> None:
    """A kill that no program shows alone keeps the few of its batch that it takes, and its line shows it as written."""
    policy = "proposed" if nested else "linux-6.12"
    plan = Plan(settings(policy), nested=load_policy("linux-6.12") if nested else None)
    search, news = Search(plan), News()
    nothing, leaves = assemble("nop\nnop", CODE), assemble("sd a2, 64(s0)", CODE)
    jumps = assemble("ld t0, 64(s0)\n jr t0", CODE)  # to a slot's hole, if `leaves` ran
    search._batch(search.world(plan.isas[0]), [nothing, leaves, nothing, nothing, jumps, nothing], 0, news)
    (group,) = news.groups
    assert (group.case.ahead, group.case.program) == ((leaves,), jumps)
    assert Group.from_data(group.as_data()) == group
    assert repeats(news.groups, plan, policy, tmp_path) == [True]


def test_lines_of_a_nested_search_repeat_as_written(tmp_path: Path) -> None:
    """What ends the hypervisor in the middle under kvm-nested-v1 ends it when its line is run."""
    plan = nested_plan("kvm-nested-v1")
    search = Search(plan)
    groups = [g for g in search.step(64).groups if g.key.rule == "l1-dead"][:2]
    assert repeats(groups, plan, "kvm-nested-v1", tmp_path) == [True, True]


_SAID = {"l1-dead": "failed with code 2", "l2-killed": "failed with code 1"}


def repeats(groups: list[Group], plan: Plan, policy: str, path: Path) -> list[bool]:
    """Run the line of each group; say whether the guest is killed, or L1 ends it, as was found."""
    write_all(groups, plan, policy, path)
    shown = []
    for group in groups:
        words = [sys.executable, "-m", *group.command.split()]
        ran = subprocess.run(words, capture_output=True, text=True, check=False)
        what = _SAID.get(group.key.rule, "VCPU exit error")
        shown.append(ran.returncode == 1 and what in ran.stdout + ran.stderr)
    return shown


def test_what_ends_the_guest_hypervisor_is_named() -> None:
    """The group of an L1 that dies names the access of L2's that it died of, not how it says that it is dead."""
    plan = nested_plan("kvm-nested-v1")
    judged = World(plan.settings, "VU", plan.isas[0], nested=plan.nested).judge(assemble("lw zero, 0(sp)", CODE), 0)
    assert judged is not None
    assert judged.key.line() == "killed: 21 load-guest-page-fault from vVU, load: l1-dead"


def test_code_outside_of_its_program_is_named() -> None:
    """An access that a program has written where it jumps to is that access, not a fetch."""
    plan = Plan(settings("linux-6.12"))
    world = World(plan.settings, "VU", plan.isas[0])
    load = int.from_bytes(assemble("flw fa0, 0(sp)", CODE), "little")
    judged = world.judge(assemble(f"li t0, {load:#x}\n sw t0, 64(s0)\n fence.i\n addi t0, s0, 64\n jr t0", CODE), 0)
    assert judged is not None and judged.key.what == "float load"


# The last of several programs runs from a page whose entry they have changed, which no fence followed, and reaches a
# device: L1, which gets no instruction in htinst, cannot read it.
_OWN_ENTRY = {
    "amomax on the entry, c.ldsp": (0, 3, (
        "07bb80ffda15e7037a00", "8261b7d31700b3834301afa583a3", "b703e0ffb3839301a791d301f3730797e7032a00538008f0",
    )),
    "sw on the entry, a store": (1, 12, (
        "af2dea05", "b7030000b3834301e780030003242b00", "b7731d00b383430123a22300", "f3730797e7032a00f3a2b132",
    )),
}  # fmt: skip


@pytest.mark.parametrize("name", _OWN_ENTRY)
def test_a_program_may_change_the_entry_it_runs_from(name: str) -> None:
    """L1 lives when it cannot read L2's instruction, since U-mode code changed the entry of its own page."""
    isa, zoo, programs = _OWN_ENTRY[name]
    plan = nested_plan()
    target = World(plan.settings, "VU", plan.isas[isa], nested=plan.nested).target
    assert target.run([bytes.fromhex(program) for program in programs], zoo).end is End.DONE


_ALIAS = 3 << 30  # an address that has no entry at first
_GONE = {
    "nothing": (0, 12),
    "not executable": (RAM >> 2 & ~0xFFFFFFF | PTE_V | PTE_R | PTE_A | PTE_D, 12),
    "a table in a hole": (probe.HOLE >> 2 | PTE_V, 1),
    "a table nowhere": (probe.NO_SLOT_TABLE >> 2 | PTE_V, 1),
    "a table in no memory": (1 << 45 >> 2 | PTE_V, 1),
}  # the new entry, and the cause that L2 gets
_ACCESSES = (
    "ld a0, 0(s1)", "sd a0, 0(s1)", "c.lw a0, 0(s1)", "c.sw a0, 0(s1)", "amoadd.w a0, a1, (s1)", "lr.w a0, (s1)",
    "fld fa0, 0(s1)",
)  # fmt: skip


@pytest.mark.parametrize("gone", _GONE)
def test_l2_may_change_the_entry_its_supervisor_runs_from(gone: str) -> None:
    """L2's next fetch has the exception of the new entry, whatever access L1 could not read the instruction of."""
    entry, cause = _GONE[gone]
    plan = nested_plan()
    target = World(plan.settings, "VS", plan.isas[0], nested=plan.nested).target
    programs = [_leaving(entry, access, CODE + SLOT * n) for n, access in enumerate(_ACCESSES)]
    outcome = target.run(programs)
    assert outcome.end is End.DONE
    for n, program in enumerate(programs):
        found = memoryview(outcome.log)[n * STRIDE :][:24].cast("Q").tolist()
        at = _ALIAS - (2 << 30) + CODE + SLOT * n + program.index(assemble(_ACCESSES[n], 0))
        assert found == [cause, at, at], _ACCESSES[n]


def _leaving(entry: int, access: str, at: int) -> bytes:
    """Code of VS that goes on at an alias of itself, takes the alias's entry away and makes one access."""
    return assemble(
        f"""
  li t1, {TABLE + 8 * 3:#x}
  li t2, {2 << 28 | PTE_V | PTE_R | PTE_W | PTE_X | PTE_A | PTE_D:#x}
  sd t2, 0(t1)
  sfence.vma
  li t2, {entry:#x}
  auipc t0, 0
  li a2, {1 << 30:#x}
  add t0, t0, a2
  jalr zero, 16(t0)
  sd t2, 0(t1)
  {access}
""",
        at,
    )


def test_no_hardware_is_asked_what_l2_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    """What L1 maps is its own: no machine is made, and no program runs alone for what its guest has noted."""
    judged = list[bytes]()
    monkeypatch.setattr(World, "judge", lambda self, program, *more: judged.append(program))
    search = Search(nested_plan())
    world = search.world(search.plan.isas[0])
    search._batch(world, [assemble("lw a0, 0(s2)", CODE)] * 8, 0, News())  # s2: where nothing is
    assert not judged
    assert not world.machines
