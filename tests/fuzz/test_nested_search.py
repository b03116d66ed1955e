"""Searches whose programs are L2's, under a guest hypervisor."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from trapline.fuzz.findings import Group
from trapline.fuzz.image import CODE, FCSR, PROGRAMS, REGISTERS, STRIDE
from trapline.fuzz.judge import World
from trapline.fuzz.replay import write_all
from trapline.fuzz.search import News, Plan, Search
from trapline.fuzz.target import End
from trapline.isa.assemble import assemble
from trapline.lab.settings import settings
from trapline.policies import load_policy


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
