"""A rule may move as many counters as a policy has."""

from __future__ import annotations

from pathlib import Path

import pytest

from trapline.isa.assemble import assemble
from trapline.policies.load import load_policy
from trapline.session.terminal.console import Console
from trapline.vmm.guest import Guest

NAMES = tuple(f"counted_{n}" for n in range(12))
POLICY = f"""
extends = "linux-7.2"
default = "kill"
{"".join(f'[[counter]]{chr(10)}name = "{name}"{chr(10)}' for name in NAMES)}
[cause.inst-illegal]
action = "redirect"
delegate = false
counters = [{", ".join(f'"{name}"' for name in NAMES)}]
source = "test"
"""
PROGRAM = """
    la t0, after
    csrw stvec, t0
    .insn 0x0000000b
after:
    li a7, 8
    ecall
"""


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_a_rule_moves_all_its_counters(tmp_path: Path, engine: str) -> None:
    """Twelve counters of one rule are each moved once by one trap."""
    path = tmp_path / "twelve.toml"
    path.write_text(POLICY)
    made = Guest(load_policy(str(path)), memory=4 << 20, console=Console(lambda data: None), engine=engine)
    made.load_bytes(assemble(PROGRAM, 0x8020_0000))
    made.run(max_instructions=10_000)
    assert [made.vm.stats()[name] for name in NAMES] == [1] * len(NAMES)
