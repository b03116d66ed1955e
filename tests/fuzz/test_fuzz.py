"""The search beyond what audit enumerates."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.fuzz.crashing_legs import crashes_first

from trapline.fuzz.findings import HOST, KILLED, Group
from trapline.fuzz.fuzz import fuzz
from trapline.fuzz.image import REGISTERS, STRIDE
from trapline.fuzz.judge import World
from trapline.fuzz.make import Maker, units
from trapline.fuzz.minimise import minimise
from trapline.fuzz.replay import write_all
from trapline.fuzz.search import Plan, Search
from trapline.fuzz.target import End
from trapline.isa.assemble import assemble
from trapline.lab.errors import UsageError
from trapline.lab.settings import settings
from trapline.policies import load_policy
from trapline.privilege.isa_string import DEFAULT_ISA


def searched(plan: Plan, batches: int) -> dict[str, Group]:
    """What a search of so many batches finds, by its line."""
    search, found = Search(plan), {}
    for _ in range(batches):
        for group in search.step(64).groups:
            found[group.key.line()] = group
    return found


def test_the_kills_of_6_12_are_found() -> None:
    """A fixed seed finds within a few batches that user code kills a VM of 6.12 by fetches and undecoded accesses."""
    found = searched(Plan(settings("linux-6.12"), seed=1), 6)
    lines = "\n".join(found)
    assert "killed -14: 1 inst-access from VU, fetch: kill -14" in lines
    assert "killed -95: 20 inst-guest-page-fault from VU, fetch" in lines
    assert "from VU, float load: map, without slot mmio" in lines


def test_zcb_and_float_accesses_kill_7_2_and_fetches_do_not() -> None:
    """Under 7.2 a load of Zcb and one of floating point from a device's page kill; no fetch does."""
    keys = [g.key for g in searched(Plan(settings("linux-7.2"), seed=1), 14).values() if g.key.kind == KILLED]
    assert {"Zcb load", "float load"} <= {k.what for k in keys}
    assert "fetch" not in {k.what for k in keys}


@pytest.mark.parametrize(("policy", "dies"), [("linux-6.12", True), ("proposed", False)])
def test_a_program_is_judged_alone(policy: str, dies: bool) -> None:
    """A jump into a slot's hole kills a VM of 6.12, and under the proposed policy is what it is on hardware."""
    plan = Plan(settings(policy))
    world = World(plan.settings, "VU", plan.isas[0])
    jump = Maker(plan.isas[0], "VU", Search(plan).rng).encode("jalr", rd=0, rs1=12, imm=0)
    judged = world.judge(jump, 0)
    assert (judged is not None and judged.key.cause == 1) == dies


def test_the_smallest_program_that_still_shows_it() -> None:
    """Instructions that a finding does not need go, and operands become plain."""
    needed = (0xFFC00303).to_bytes(4, "little")  # lb t1, -4(zero)
    program = b"\x01\0" * 5 + needed + b"\x13\0\0\0" * 3
    small = minimise(program, lambda p: any(u[0] == 3 for u in units(p)))
    assert small == (0x00000003).to_bytes(4, "little")


def test_the_same_seed_makes_the_same_search() -> None:
    """What is found, and how often, depends on the seed alone."""
    plan = Plan(settings("linux-7.2"), seed=5)
    first, second = (searched(plan, 2) for _ in range(2))
    assert {line: g.case for line, g in first.items()} == {line: g.case for line, g in second.items()}


def test_a_search_goes_on_where_it_was_left(tmp_path: Path) -> None:
    """A second search in the same folder adds to the first; a search of something else is refused."""
    plan = Plan(settings("linux-6.12"), seed=2)
    first = fuzz(plan, "linux-6.12", tmp_path, max_runs=256)
    second = fuzz(plan, "linux-6.12", tmp_path, max_runs=128, workers=2)
    assert (first.runs, second.runs) == (256, 384)
    assert {g.key for g in first.groups} <= {g.key for g in second.groups}
    assert second.corpus >= first.corpus > 0
    with pytest.raises(UsageError, match=r"holds a search with policy 'linux-6.12', not 'proposed'"):
        fuzz(Plan(settings("proposed"), seed=2), "proposed", tmp_path, max_runs=1)


def test_every_line_of_replay_reproduces_its_finding(tmp_path: Path) -> None:
    """The ELF of each finding dies under `trapline run` as the search says."""
    plan = Plan(settings("linux-6.12"), seed=1)
    groups = list(searched(plan, 1).values())
    write_all(groups, plan, "linux-6.12", tmp_path)
    lines = [line for line in (tmp_path / "replay.sh").read_text().splitlines() if line.startswith("trapline run")]
    assert len(lines) == len(groups) > 1
    for group in groups[:2]:
        command = [sys.executable, "-m", *group.command.split()]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert f"SCAUSE={group.key.cause:#x}" in done.stdout + done.stderr


def test_a_crash_is_a_finding_and_the_search_goes_on(tmp_path: Path) -> None:
    """A process that dies of a signal leaves a finding with its program, and another one takes its place."""
    plan = Plan(settings("proposed"), seed=3)
    result = fuzz(plan, "proposed", tmp_path, max_runs=64, run=crashes_first)
    (group,) = [g for g in result.groups if g.key.kind == HOST]
    assert group.key.rule == "the worker was killed by signal 11"
    assert group.case.program
    assert result.runs == 64
    assert not list(tmp_path.glob("running-*"))


def test_an_exception_is_a_finding_with_its_program() -> None:
    """Python's own error in a run is reported with the program that raises it, and the search goes on."""
    search = Search(Plan(settings("proposed"), seed=4))
    world = search.world(search.plan.isas[0])
    world.target.limit = "no number"  # type: ignore[assignment]
    (group,) = search.step(4).groups
    assert group.key.kind == HOST and group.key.rule.startswith("TypeError")
    assert search.step(4).groups == []


def test_a_nested_search_finds_what_v1_breaks() -> None:
    """Under kvm-nested-v1 an access of L2's to a device ends the hypervisor in the middle."""
    plan = Plan(settings("kvm-nested-v1"), seed=1, nested=load_policy("proposed"))
    found = searched(plan, 1)
    assert any("l1-dead" in line for line in found)


@pytest.mark.parametrize(
    "code",
    [
        "cbo.clean (a3)",  # a page of a read-only slot that nobody touched
        "cbo.inval (a3)",
        "sd a0, 0(t4)",  # its translation walks through such a page
        "amoadd.d a0, a1, (t4)",
        "cbo.zero (t4)",
    ],
)
def test_proposed_reads_read_only_slots_for_what_only_reads(code: str) -> None:
    """What raises a store's fault and reads, of a walk or a cache block, finds the page of a read-only slot."""
    plan = Plan(settings("proposed"))
    world = World(plan.settings, "VU", plan.isas[0])
    assert world.judge(assemble(code, 0), 0) is None


def test_proposed_walks_tables_nobody_touched_for_a_call() -> None:
    """A hart mask whose translation walks through an untouched page of a slot faults as the guest's own load does."""
    plan = Plan(settings("proposed"), "VS")
    world = World(plan.settings, "VS", plan.isas[0])
    assert world.judge(assemble("li a7, 4; mv a0, t4; ecall", 0), 0) is None


def test_what_lies_behind_a_call_is_not_compared() -> None:
    """A jump to what an SBI call has left in a register goes wherever, and is no difference."""
    plan = Plan(settings("proposed"), "VS")
    world = World(plan.settings, "VS", plan.isas[0])
    assert world.judge(assemble("li a7, 2; addiw a1, a1, 0; ecall; jalr zero, 4(a1)", 0), 0) is None


def test_ctrl_c_shows_what_was_found_so_far(tmp_path: Path) -> None:
    """The first Ctrl-C ends a search behind the batch under way, with exit code 130 and no finding of its own."""
    command = [sys.executable, "-m", "trapline", "fuzz", "--policy", "proposed", "--seed", "3", "--max-seconds", "60"]
    running = subprocess.Popen([*command, "--out", str(tmp_path)], stdout=subprocess.PIPE, text=True)
    while not list(tmp_path.glob("corpus/*.bin")):
        time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    output, _ = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "interrupted" in output and "exception" not in output


def test_a_log_that_a_program_wrote_into_is_judged() -> None:
    """A pc in the log where the guest has no memory is no instruction, and no error."""
    plan = Plan(settings("proposed"))
    world = World(plan.settings, "VU", plan.isas[0])
    log = bytearray(world.target.run([b""]).log)
    log[:24] = b"".join(word.to_bytes(8, "little") for word in (4, 0x1000, 3))
    assert world.odd([b""], bytes(log), [bytes(len(log))], [0]) == [0]


def test_a_handler_that_cannot_be_fetched_is_left_to_compiled_firmware() -> None:
    """A kernel that faults for ever at its own handler ends by its limit, and no fault of it enters Python."""
    world = World(settings("proposed"), "VS", DEFAULT_ISA)
    lost = assemble("csrrw zero, stvec, s2; jalr zero, 0(s2)", 0)  # s2 points to where nothing is
    machine = world.machines[2]
    before = machine.hart.instret
    assert machine.run([lost] * 200)[0] is False
    assert int(machine.hart.instret) - int(before) > 100_000
    assert sum(machine.firmware.stats.values()) == 0


def test_behind_a_refused_call_nothing_is_compared() -> None:
    """A call whose hart mask lies on a device may be refused; what the program does from there on is no difference."""
    world = World(settings("proposed"), "VS", DEFAULT_ISA)
    program = assemble("lui a2, 0x80000; li a7, 5; mv a0, sp; ecall; sret", 0)  # sp: a device
    assert world.judge(program, 0) is None


@pytest.mark.parametrize("call", ["li a7, 8", "li a7, 0x48534d; li a6, 1"])
def test_a_machine_that_is_off_runs_no_further(call: str) -> None:
    """A program that powers off the machine it is compared with, or stops its hart, ends its run."""
    machine = World(settings("proposed"), "VS", DEFAULT_ISA).machines[2]
    assert machine.run([assemble(f"{call}; ecall", 0)])[0] is False


@pytest.mark.parametrize("many", [2, 23])
@pytest.mark.parametrize("code", ["addi a0, a0, 1", "lw a0, 0(s1)"])  # s1: a device
def test_a_kernel_that_begins_again_for_ever_is_stopped(code: str, many: int) -> None:
    """A program that has its kernel run the batch anew, with exits or without, ends it by a limit."""
    target = World(settings("proposed"), "VS", DEFAULT_ISA).target
    plain, again = assemble(code, 0), assemble("sd zero, 56(tp)", 0)  # tp: the kernel's own page
    outcome = target.run([*[plain] * many, again, plain])
    assert outcome.end is End.LIMIT
    assert outcome.at <= many


def test_a_store_done_in_part_beside_an_access_of_another_kind_is_no_difference() -> None:
    """A misaligned store may leave its first half, as firmware does, while another access traps as on hardware."""
    world = World(settings("proposed"), "VU", DEFAULT_ISA)
    # s6: four bytes before a page of the other mode; s9: three before the end of a device.
    program = assemble("sd zero, 0(s6); lw zero, 0(s9); amoand.w a7, s5, (s6)", 0)
    assert world.judge(program, 0) is None


def test_a_register_that_no_machine_gives_is_a_difference() -> None:
    """Where traps are as on some machine, each register must be as on some machine."""
    world = World(settings("proposed"), "VU", DEFAULT_ISA)
    program = assemble("li a7, 4", 0)
    log = bytearray(world.target.run([program]).log)
    at = REGISTERS + 8 * 16
    assert log[at] == 4 and world.difference(program, bytes(log), 0) is None
    log[at] = 5
    found = world.difference(program, bytes(log), 0)
    assert found is not None and found.text == ("the guest sees x17 0x5", "hardware gives x17 0x4")


def test_a_guest_and_the_machine_that_it_is_compared_with_begin_alike() -> None:
    """But for counters, every CSR that a kernel can read says the same in a guest of VS as on hardware."""
    world, counters = World(settings("proposed"), "VS", DEFAULT_ISA), (0xC00, 0xC01, 0xC02)
    for first in range(0, 4096, 256):
        numbers = [n for n in range(first, first + 256) if n not in counters]
        programs = [(n << 20 | 2 << 12 | 5 << 7 | 0x73).to_bytes(4, "little") for n in numbers]  # csrrs t0, n, zero
        logs = [world.target.run(programs).log, world.machines[0].run(programs)[1]]
        for k, number in enumerate(numbers):
            at = k * STRIDE + REGISTERS + 8 * 4
            assert logs[0][at : at + 8] == logs[1][at : at + 8], hex(number)
