"""A policy's own actions in the Python subset, compiled and as they stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trapline.isa.assemble import assemble
from trapline.kvm.actions import REDIRECT, RESUME, action
from trapline.lang.values import U64
from trapline.policies import PolicyError
from trapline.session.terminal.console import Console
from trapline.vmm.guest import Guest

ENTRY = 0x8020_0000
FILE = '''
from trapline.kvm.actions import REDIRECT, RESUME, action
from trapline.lang.values import U64


@action
def answer(hart) -> U64:
    """Serve one reserved instruction as a call: a0 becomes 42; the guest gets all the others."""
    if hart.stval != 0xB:
        return REDIRECT
    hart.x[10] = U64(42)
    hart.guest_sepc = hart.guest_sepc + 4
    return RESUME


def plain(hart):
    return 1


@action
def greedy(hart, more) -> U64:
    return RESUME


@action
def outside(hart) -> U64:
    print(hart)
    return RESUME
'''
POLICY = """
extends = "linux-7.2"
default = "kill"
[cause.inst-illegal]
action = "redirect"
delegate = false
function = "own.py:{name}"
counters = ["instr_illegal_exits"]
source = "test"
"""
GUEST = """
    la t0, handler
    csrw stvec, t0
    li s0, 20
1:  li a0, 1
    .insn 0x0000000b
    add s1, s1, a0
    .insn 0x0000002b
    addi s0, s0, -1
    bnez s0, 1b
    li a7, 0x53525354
    li a6, 0
    li a0, 0
    li a1, 0
    ecall
.align 2
handler:
    addi s2, s2, 1
    csrr t0, sepc
    addi t0, t0, 4
    csrw sepc, t0
    sret
"""


def run(policy: Any, firmware: str, *, engine: str = "native", **actions: Any) -> Guest:
    made = Guest(policy, memory=4 << 20, firmware=firmware, engine=engine, console=Console(lambda data: None))
    for cause, function in actions.items():
        made.vm.set_action(int(cause.removeprefix("cause")), function)
    made.load_bytes(assemble(GUEST, ENTRY))
    assert made.run(max_instructions=10_000).reason == "exit"
    return made


def picture(made: Guest) -> tuple[Any, ...]:
    vm, x = made.vm, made.vm.vcpus[0].hart.x
    firmware = dict(vm.firmware.stats), vm.firmware.estimated_instructions
    return int(x[9]), int(x[18]), dict(vm.routes()), vm.stats(), list(vm.last_traps), made.position(), firmware


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A policy file beside its Python file."""
    (tmp_path / "own.py").write_text(FILE)
    path = tmp_path / "mine.toml"
    path.write_text(POLICY.format(name="answer"))
    return path


@pytest.mark.parametrize("firmware", ["delegates-all", "opensbi-1.6", "ignores-hedeleg"])
def test_an_action_is_the_same_everywhere(policy: Path, firmware: str) -> None:
    """Compiled, and under CPython on the reference engine, an action does the same."""
    native = run(policy, firmware)
    handled = sum(int(n) for n in native.vm.vcpus[0].hart.exit_count)
    expected = picture(native)
    assert expected[:2] == (20 * 42, 20)
    assert handled >= 40
    assert picture(run(policy, firmware, engine="reference")) == expected


@action
def all_are_calls(hart: Any) -> U64:
    """Step over whatever it was."""
    hart.x[10] = U64(2)
    hart.guest_sepc = hart.guest_sepc + 4
    return RESUME if hart.stval != 0 else REDIRECT


def test_an_action_from_python() -> None:
    """`Vm.set_action` takes a function and leaves the rest of the policy alone."""
    one, other = (run("holland-2", "delegates-all", engine=e, cause2=all_are_calls) for e in ("native", "reference"))
    assert picture(one) == picture(other)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent", "is not one that @action declares"),
        ("plain", "is not one that @action declares"),
        ("greedy", "takes hart, more: expected hart alone"),
    ],
)
def test_functions_that_are_no_actions(policy: Path, name: str, message: str) -> None:
    """What the file names must be an action of the hart alone."""
    policy.write_text(POLICY.format(name=name))
    with pytest.raises(PolicyError, match=message):
        run(policy, "delegates-all")


def test_an_action_outside_the_subset(policy: Path) -> None:
    """The compiler names what it cannot compile."""
    policy.write_text(POLICY.format(name="outside"))
    with pytest.raises(PolicyError, match=r"outside.*call of something that is not in the subset: print\(hart\)"):
        run(policy, "delegates-all")
