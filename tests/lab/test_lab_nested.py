"""Events of nested guests: their ways through the levels, and what the audit finds by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trapline.cli import main
from trapline.lab.errors import UsageError
from trapline.lab.guest_run import RunOptions, run_guest
from trapline.lab.nested.audit import NestedAudit, every_l1, nested_audit
from trapline.lab.nested.image import hypervisor
from trapline.lab.nested.replay import write_nested
from trapline.lab.nested.route import NestedRoute, nested_route
from trapline.lab.probe import image
from trapline.lab.settings import settings
from trapline.policies import load_policy, policy_names

L1_EXIT = "HS > vHS > HS"
# By event: the way from vVS with an L1 that is linux-7.2, the causes that L1 saw, and those that L2 saw.
WAYS = {
    "ebreak": ("vVS > vVS", [], [3]),
    "ecall-base": (f"vVS > {L1_EXIT} > vVS", [10], []),
    "csr-hypervisor": (f"vVS > {L1_EXIT} > vVS", [22], [2]),
    "illegal": ("vVS > M > vVS", [], [2]),
    "misaligned-lr": (f"vVS > M > {L1_EXIT} > vVS", [4], [4]),
    "mmio-lw": (f"vVS > {L1_EXIT} > vVS", [21], []),
    "load-first": (f"vVS > {L1_EXIT} > vVS > HS > vVS > HS > vVS", [21], []),
    "load-hole": (f"vVS > {L1_EXIT} > vVS", [5], [5]),
}


def routes(event: str, l1: str = "linux-7.2", policy: str = "linux-7.2") -> dict[str, NestedRoute]:
    """The rows of one event, by the mode that raised it."""
    found = nested_route(policy, l1, event=f"^{event}$")
    return {r.from_: r for r in found.routes}


@pytest.mark.parametrize("event", WAYS)
def test_way(event: str) -> None:
    """An event of L2 goes to L1 and back, through firmware where L1's hedeleg has no say, or nowhere."""
    way, l1_sees, l2_sees = WAYS[event]
    row = routes(event)["vVS"]
    assert row.arrow() == way
    assert [s.cause for s in row.l1_sees] == l1_sees
    assert [s.cause for s in row.l2_sees] == l2_sees


def test_levels_of_one_event() -> None:
    """The instructions of L1's handler are L1's, and each access of H in it is an exit of L0."""
    row = routes("ecall-base")["vVS"]
    assert row.exits == 5  # the call, three CSRs, SRET
    assert row.instructions["vHS"] > 50
    assert row.instructions["vVS"] == row.instructions["vU"] == 0
    assert row.instructions["HS"] > 1_000


def test_l1_itself() -> None:
    """What HS-mode may do is emulated for vHS, and illegal in vU."""
    rows = routes("csr-hypervisor")
    assert rows["vHS"].arrow() == "vHS > HS > vHS"
    assert rows["vHS"].l2_sees == ()
    assert rows["vU"].l2_sees[0].cause == 2


def test_l1_is_a_policy() -> None:
    """An L1 that delegates nothing sees every cause."""
    assert [s.cause for s in routes("ebreak", "none")["vVS"].l1_sees] == [3]
    assert routes("ebreak", "none")["vVS"].end == "l2-killed"


def audit(policy: str, event: str, l1: str = "linux-7.2") -> NestedAudit:
    """The audit of a few events on one firmware."""
    return nested_audit(policy, [l1], firmware=["opensbi-1.6"], host_fwft=(False,), event=event)


@pytest.mark.parametrize("l1", ["linux-7.2", "none"])
def test_ideal_passes(l1: str) -> None:
    """Under ideal each level sees what hardware shows, whatever L1 delegates."""
    found = nested_audit("linux-7.2", [l1], firmware=["opensbi-1.6"], host_fwft=(False,))
    assert not found.failures
    assert found.executed > 400


FINDS = {
    ("xvisor-nested", "rdcycle", "linux-7.2"): ("c", "hardware gives cause 22"),
    ("xvisor-nested", "nested-after-interrupt", "linux-7.2"): ("d", "cause 0x8000000000000002, hardware gives cause 2"),
    ("xvisor-nested", "nested-sip", "linux-7.2"): ("d", "L2 sees cause 3"),
    ("xvisor-nested", "^ebreak$", "none"): ("c", "gva 0x0 of cause 3"),
    ("kvm-nested-v1", "ecall-user", "none"): ("a", "killed with -14"),
    ("kvm-nested-v1", "^mmio-lw$", "linux-7.2"): ("a", "L1 gets a trap of its own"),
    ("kvm-nested-v1", "nested-timer", "linux-7.2"): ("a", "never comes back"),
    ("kvm-nested-v1", "^hlv$", "linux-7.2"): ("c", "L1 sees cause 2"),
    ("kvm-nested-v1", "rdcycle", "none"): ("c", "hardware gives cause 22"),
}


@pytest.mark.parametrize("case", FINDS)
def test_finds(case: tuple[str, str, str]) -> None:
    """The audit finds a known bug by its property and words, and ideal does not have it."""
    policy, event, l1 = case
    prop, what = FINDS[case]
    assert any(f.prop == prop and what in f.what for f in audit(policy, event, l1).failures)
    assert not audit("linux-7.2", event, l1).failures


@pytest.mark.parametrize(
    ("case", "reason", "output"),
    [
        (("xvisor-nested", "rdcycle", "linux-7.2"), "exit", "what L1 noted, word 0x0000000000000000"),
        (("kvm-nested-v1", "ecall-user", "none"), "killed", ""),
        (("kvm-nested-v1", "^mmio-lw$", "linux-7.2"), "exit", ""),
        (("kvm-nested-v1", "nested-timer", "linux-7.2"), "limit", ""),
    ],
)
def test_counterexample_replays(tmp_path: Path, case: tuple[str, str, str], reason: str, output: str) -> None:
    """The ELF of a finding shows it again, and ends well under ideal."""
    policy, event, l1 = case
    replay = write_nested(audit(policy, event, l1).failures, tmp_path, {})[0]
    slots = (f"{image.HOLE:#x}:{image.HOLE_SIZE:#x}:hole", f"{image.READ_ONLY:#x}:{image.READ_ONLY_SIZE:#x}:ro")
    for name in (policy, "linux-7.2"):
        options = RunOptions(
            str(replay.path), settings(name), memory="16M", memslot=slots, max_instructions=200_000, nested=True
        )
        report = run_guest(options)
        wrong = name == policy
        assert report.result.reason == (reason if wrong else "exit")
        assert (report.result.exit_status != 0) is wrong
        assert (output in report.output.decode()) if wrong else not report.output
        assert report.balance == ()


def test_unknown_event() -> None:
    """An event that does not exist is refused."""
    with pytest.raises(UsageError, match="no event fits"):
        nested_route(event="no such event")


PRESETS = tuple(policy_names())
SEVERAL = "^(ecall-base|illegal|mmio-lw|load-first|ebreak|load-unmapped)$"


def test_every_preset_is_an_l1() -> None:
    """Whichever preset L1's data is of, its guest's events end, and none of them ends the VM."""
    for name in {hypervisor(load_policy(name)).data: name for name in PRESETS}.values():
        found = nested_route("linux-7.2", name, event=SEVERAL).routes
        assert found
        assert {r.end for r in found} <= {"guest", "resumed", "no-trap", "l2-killed"}, name


@pytest.mark.parametrize("l1", ["linux-5.16", "xvisor", "axvisor"])
def test_counters_that_l0_keeps(l1: str) -> None:
    """Where L1 opens counters that L0 gives to no guest, the audit says so, and it is no failure."""
    found = audit("linux-7.2", "^(rdcycle|rdinstret|hpmcounter)$", l1)
    assert not found.failures
    assert any("L0 gives this counter to no guest" in f.what for f in found.findings)


def test_workers_find_what_one_finds() -> None:
    """Several processes give the findings of one, in its order."""
    given: dict[str, Any] = {"firmware": ["opensbi-1.1", "opensbi-1.6"], "event": "^(wfi|rdcycle|ecall-user|hlv)$"}
    found = [
        nested_audit(["xvisor-nested", "kvm-nested-v1"], ["linux-7.2", "none"], workers=n, **given) for n in (1, 2)
    ]
    assert found[0].failures
    assert found[0].as_data() == found[1].as_data()


def test_every_hypervisor(capsys: pytest.CaptureFixture[str]) -> None:
    """--l1 all audits each different hypervisor that the presets make."""
    programs = {hypervisor(load_policy(name)).data for name in every_l1()}
    assert len(programs) == len(every_l1())
    assert programs == {hypervisor(load_policy(name)).data for name in PRESETS}
    chosen = ("--l1", "all", "--firmware", "opensbi-1.6", "--host-fwft", "off", "--event", "^ebreak$")
    assert main(["audit", "--nested", *chosen, "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["l1"] == every_l1()
