"""Programs of VS that start a second vCPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from trapline.fuzz.findings import KILLED
from trapline.fuzz.image import CODE, SECOND
from trapline.fuzz.judge import World
from trapline.fuzz.make import Maker
from trapline.fuzz.replay import write_all
from trapline.fuzz.search import News, Plan, Search
from trapline.isa.assemble import assemble
from trapline.lab.settings import settings
from trapline.sbi.numbers import Eid

HOLE = "li a1, 0x20000000\n"  # no slot


def starts(where: str) -> bytes:
    """A program that starts vCPU 1 at `a1`, which `where` loads."""
    return assemble(f"{where} li a0, 1\n li a2, 0\n li a6, 0\n li a7, {int(Eid.HSM):#x}\n ecall", CODE)


@pytest.mark.parametrize(("policy", "dies"), [("linux-6.12", True), ("proposed", False)])
def test_what_another_vcpu_dies_of_is_found(policy: str, dies: bool, tmp_path: Path) -> None:
    """A vCPU started where no slot is kills a VM of 6.12; its program is picked out of the batch, and its ELF dies."""
    plan = Plan(settings(policy), "VS")
    search = Search(plan)
    nothing, news = assemble("nop\nnop", CODE), News()
    search._batch(search.world(plan.isas[0]), [nothing, starts(HOLE), nothing, nothing], 0, news)
    assert [g.key.kind for g in news.groups] == [KILLED] * dies
    for group in news.groups:
        assert assemble("ecall", CODE) in group.case.program
        write_all(news.groups, plan, policy, tmp_path)
        words = [sys.executable, "-m", *group.command.split()]
        ran = subprocess.run(words, capture_output=True, text=True, check=False)
        assert ran.returncode == 1 and "VCPU exit error" in ran.stdout + ran.stderr


def test_the_other_vcpu_runs_a_program() -> None:
    """Started at its entry, the second vCPU runs the code that a2 names, and stops at the end of it."""
    plan = Plan(settings("proposed"), "VS")
    world = World(plan.settings, "VS", plan.isas[0])
    program = assemble(
        f"li a0, 1\n li a1, {SECOND:#x}\n mv a2, ra\n addi a2, a2, 128\n li a6, 0\n li a7, {int(Eid.HSM):#x}\n ecall",
        CODE,
    )
    world.target.run([program, assemble("nop", CODE)])
    other = world.target.vm.vcpus[1]
    assert int(other.hart.instret) > 20 and other.mp_state.name == "STOPPED"


def test_programs_of_vs_start_the_other_vcpu() -> None:
    """What is made for VS starts, interrupts and fences vCPU 1."""
    plan = Plan(settings("proposed"), "VS")
    maker = Maker(plan.isas[0], "VS", Random(1))
    made = b"".join(maker._other() for _ in range(200))
    for eid in (Eid.HSM, Eid.IPI, Eid.RFENCE):
        assert maker.load_immediate(17, int(eid)) in made


def test_what_ends_the_guest_is_not_made_into_others() -> None:
    """A program that reaches something new joins the corpus, but not if it powers the guest off."""
    plan = Plan(settings("proposed"), "VS")
    search = Search(plan)
    off = assemble(f"li a0, 0\n li a1, 0\n li a6, 0\n li a7, {int(Eid.SRST):#x}\n ecall", CODE)
    version = assemble("li a6, 0\n li a7, 0x10\n ecall", CODE)
    for program, corpus in ((off, []), (version, [version])):
        search.covered.clear()
        search._batch(search.world(plan.isas[0]), [program], 0, News())
        assert search.corpus == corpus
