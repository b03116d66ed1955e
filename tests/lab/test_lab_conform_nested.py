"""Conformance of a guest's guest: a hosted L0 boots L1 with the port, bugs of L0 explain what differs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from real_host import real_host

from trapline.conform.board import Host
from trapline.conform.compare import compare, load_accepted, load_nested
from trapline.conform.conform import ISA
from trapline.conform.nested import OF_L1, NestedSession
from trapline.conform.nested_events import conform_nested
from trapline.conform.port import END, MARK, PORT
from trapline.conform.seen import Seen
from trapline.isa.assemble import assemble
from trapline.lab.errors import UsageError
from trapline.lab.settings import settings
from trapline.policies import load_policy

BASE = 0x8020_0000
HELLO = b'{"release": "bare"}\n'
SAYS = "".join(f"  li t0, {byte}; sb t0, 0(s1);" for byte in HELLO)
# Marks the port, delegates a cause to its guests in between, hands over its memory and says who it is.
L1 = f"""
  li s0, {PORT:#x}
  li t0, {MARK}
  sw t0, 0(s0)
  li t0, 0x100
  csrw hedeleg, t0
  li t0, {END}
  sw t0, 0(s0)
  li t0, {BASE:#x}
  sw t0, 8(s0)
  sw zero, 12(s0)
  li t0, 4
  sw t0, 16(s0)
  li s1, 0x10000000
{SAYS}
  li a7, 0x53525354
  li a6, 0
  li a0, 0
  li a1, 0
  ecall
"""
COUNTER = "nested-counter-illegal"
VSCAUSE = "nested-vscause-loses-interrupt-bit"


def bare_host(place: Path) -> Host:
    """A host whose kernel is the program above."""
    code, empty = place / "l1.bin", place / "empty"
    code.write_bytes(assemble(L1, BASE))
    empty.write_bytes(b"")
    return Host(empty, code, (), empty, ISA, memory=64 << 20)


@pytest.mark.parametrize("policy", ["linux-7.2", "xvisor-nested"])
def test_l1_has_the_port(tmp_path: Path, policy: str) -> None:
    """L1's stores to the port take snapshots with the H registers that it sees; what it says and hands over is read."""
    host = bare_host(tmp_path)
    run = NestedSession(host, {}, "", settings=settings(policy)).go()
    assert run.release == "bare"
    assert run.handed_over == [host.kernel.read_bytes()[:4]]
    (window,) = run.windows
    assert set(window.csrs) == set(OF_L1)
    assert window.csrs["hedeleg"] == 0
    assert sum(n for (cause, _, to), n in window.traps.items() if (cause, to) == (22, "HS")) == 1


def differing(events: tuple[str, str], **fields: tuple[object, object]) -> bool:
    """Whether two sides may not differ so under a host with both bugs."""
    event, mode = events
    flat, nested = (Seen(event, mode, "reached", **{k: v[n] for k, v in fields.items()}) for n in (0, 1))  # type: ignore[arg-type]
    return compare(flat, nested, load_nested({COUNTER, VSCAUSE})).failed


def test_bugs_of_the_host_explain_what_they_do() -> None:
    """A counter may be illegal, and scause may have an interrupt's bit 63, where L0 has these bugs; nothing else."""
    closed = [(2, 0x1000, 0xC0002573, 0x100)]
    assert not differing(("rdcycle", "VS"), log=([], closed), csrs=({"scause": 0}, {"scause": 2}))
    assert differing(("mmio-lw", "VS"), log=([], closed))
    kept = [(1 << 63 | 2, *closed[0][1:])]
    assert not differing(("illegal", "VU"), log=(closed, kept), csrs=({"scause": 2}, {"scause": 1 << 63 | 2}))
    assert differing(("illegal", "VU"), csrs=({"scause": 2}, {"scause": 1 << 63 | 3}))
    assert differing(("illegal", "VU"), csrs=({"stval": 2}, {"stval": 1 << 63 | 2}))
    assert {a.bug for a in load_nested({COUNTER})} == {COUNTER}
    assert not {a.bug for a in load_accepted()} - {""}


def test_each_explanation_is_of_a_bug_that_exists() -> None:
    """The list names bugs of xvisor-nested only."""
    known = {b.name for b in load_policy("xvisor-nested").bugs}
    everything = load_nested({b.name for p in ("xvisor-nested", "kvm-nested-v1") for b in load_policy(p).bugs})
    assert {a.bug for a in everything} == {COUNTER, VSCAUSE} <= known


def test_an_unknown_feature_is_one_clear_line(tmp_path: Path) -> None:
    """A word that is no feature of NACL is refused before anything boots."""
    with pytest.raises(UsageError, match="'fast' is none of csr"):
        conform_nested([bare_host(tmp_path)], nacl="csr,fast")


# --- a real kernel (slow): TRAPLINE_TEST_IMAGE, TRAPLINE_TEST_KVM ---
@pytest.mark.slow
@pytest.mark.parametrize(("policy", "nacl"), [("linux-7.2", ""), ("linux-7.2", "csr,hfence"), ("xvisor-nested", "off")])
def test_a_real_kernel_as_l1_conforms(policy: str, nacl: str) -> None:
    """Every event in a guest of a real kernel that is a guest itself ends as in a guest of that kernel on the board."""
    result = conform_nested([real_host()], [policy], nacl=nacl)
    assert result.passed, [d for c in result.comparisons for d in c.differences if d.accepted is None][:5]
    assert len(result.comparisons[0].rows) > 200
    explained = {d.accepted.bug for c in result.comparisons for d in c.differences if d.accepted and d.accepted.bug}
    assert explained == ({COUNTER, VSCAUSE} if policy == "xvisor-nested" else set())


@pytest.mark.slow
def test_without_its_bugs_a_host_explains_nothing() -> None:
    """The differences under xvisor-nested are those of its two bugs: without them there are none."""
    policy = load_policy("xvisor-nested")
    mended = dataclasses.replace(policy, bugs=tuple(b for b in policy.bugs if b.name not in (COUNTER, VSCAUSE)))
    result = conform_nested([real_host()], [mended], nacl="off")
    assert result.passed
    assert not [d for c in result.comparisons for d in c.differences if d.accepted and d.accepted.bug]
