"""The audit finds what is known to be wrong, and nothing in policies that are sound."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trapline.lab.audit.audit import Audit, audit
from trapline.lab.guest_run import RunOptions, run_guest
from trapline.lab.probe.events import MMIO, READ_ONLY, TAKEN
from trapline.lab.replay.replay import write_all
from trapline.lab.settings import settings


@pytest.fixture(scope="module")
def audits() -> dict[str, Audit]:
    """Audits of the versions around each known fact."""
    names = ("linux-6.2", "linux-6.3", "linux-6.13", "linux-6.14", "linux-7.1", "linux-7.2", "holland-2")
    return {name: audit(name, workers=1) for name in names}


def failing(result: Audit, prop: str = "abcde", firmware: str | None = None) -> set[tuple[str, str, int | None]]:
    """(event, mode, errno) of all failures of some properties."""
    return {
        (f.event_id, f.from_, f.errno)
        for f in result.failures
        if f.prop in prop and (firmware is None or f.firmware == firmware)
    }


def test_inst_access_kills_up_to_6_13(audits: dict[str, Audit]) -> None:
    """Cause 1 kills with -14 up to 6.13, from VU too, under every firmware; 6.14 has mended it."""
    for mode in ("VS", "VU"):
        assert ("fetch-hole", mode, 14) in failing(audits["linux-6.13"])
        assert ("fetch-hole", mode, 14) not in failing(audits["linux-6.14"])
    found = [f for f in audits["linux-6.13"].failures if f.event_id == "fetch-hole"]
    assert {f.firmware for f in found} == set(audits["linux-6.13"].firmware)


def test_fetch_without_slot_kills_up_to_7_1(audits: dict[str, Audit]) -> None:
    """A fetch from an address without a slot kills with -95 up to 7.1; 7.2 gives the guest cause 1."""
    for mode in ("VS", "VU"):
        assert ("fetch-mmio", mode, 95) in failing(audits["linux-7.1"])
        assert ("fetch-mmio", mode, 95) not in failing(audits["linux-7.2"])


def test_what_is_left_on_7_2(audits: dict[str, Audit]) -> None:
    """On 7.2 VU can kill the VM through an MMIO page: misaligned, AMO, LR/SC, FP, Zcb and cache-block accesses.

    And through a read-only slot: by what stores there and is not decoded, and with a page table there, for ever.
    """
    left = {(event, errno) for event, mode, errno in failing(audits["linux-7.2"], "a") if mode == "VU"}
    misaligned = {("misaligned-load-mmio", 5), ("misaligned-store-mmio", 5)}
    names = "amoadd-w amoadd-d lr-w lr-d sc-w sc-d flh flw fld c-fld fsh fsw fsd c-fsd c-lbu c-lhu c-lh c-sb c-sh"
    unsupported = {(f"mmio-{n}", 95) for n in f"{names} cbo-zero cbo-clean c-sdsp-0".split()}
    read_only = {(f"{n}-read-only-slot", 95) for n in ("amo", "sc", "cbo-zero")}
    read_only |= {("misaligned-store-read-only-slot", 5), ("table-aged-read-only-slot", None)}
    assert left == misaligned | unsupported | read_only
    conditions = {f.condition for f in audits["linux-7.2"].failures if f.prop == "a"}
    assert conditions == {MMIO, READ_ONLY}


def test_memory_that_the_vmm_took_away(audits: dict[str, Audit]) -> None:
    """A guest page fault on a PROT_NONE slot is KVM_RUN's EFAULT: a note, for the VMM did it."""
    for name, result in audits.items():
        found = [f for f in result.findings if f.condition == TAKEN]
        assert found and {f.severity for f in found} == {"note"}, name


def test_delegated_causes_without_fallback(audits: dict[str, Audit]) -> None:
    """Under firmware that ignores hedeleg on a hart that delegates nothing, only policies with fallbacks survive."""
    worst = "ignores-hedeleg+hard-wired"
    causes = {f.cause for f in audits["linux-7.2"].failures if f.prop == "c" and f.firmware == worst}
    assert causes >= {0, 3, 8, 12, 13, 15}
    assert 2 not in causes
    assert not failing(audits["holland-2"], "c")


def test_privilege_bug_before_6_3(audits: dict[str, Audit]) -> None:
    """Before 6.3 the guest's handler is entered in VU: the guest sees another trap than hardware gives."""
    assert ("csr-hypervisor", "VU", None) in failing(audits["linux-6.2"], "e")
    assert {event for event, _, _ in failing(audits["linux-6.3"], "e")} <= {
        "wrs-nto",
        "mmio-cbo-zero",
        "cbo-zero-read-only-slot",
    }


def test_statistics(audits: dict[str, Audit]) -> None:
    """No counter moves for cause 1, and that is said; no policy's counters are wrong."""
    for name, result in audits.items():
        if name not in ("linux-6.2",):
            assert not failing(result, "d"), name
    notes = [f for f in audits["linux-7.2"].findings if f.prop == "d" and f.cause == 1]
    assert notes
    assert all(f.severity == "note" and "no counter" in f.what for f in notes)


def test_old_firmware_leaves_gva(audits: dict[str, Audit]) -> None:
    """OpenSBI 1.0 and 1.1 leave hstatus.GVA as it was; later ones write it."""
    stale = {f.firmware for f in audits["linux-6.14"].findings if "GVA" in f.what}
    assert stale <= {"opensbi-1.0", "opensbi-1.1"}
    assert "opensbi-1.0" in stale


def test_vu_alone(audits: dict[str, Audit]) -> None:
    """For every cause there is an answer to whether VU alone can raise it."""
    answers = audits["linux-7.2"].vu_alone()
    assert {answers[n] for n in (2, 3, 4, 6, 8, 12, 13, 15, 22)} == {"yes"}
    assert answers[1].startswith("if a slot has a hole")
    assert all(answers[n].startswith("no:") for n in (9, 10, 11, 16, 18, 19))


def test_json_form(audits: dict[str, Audit]) -> None:
    """The JSON names policies, firmware, findings with their code, and whether the audit passed."""
    data = json.loads(json.dumps(audits["linux-7.1"].as_data()))
    assert data["policies"] == ["linux-7.1"]
    assert data["passed"] is False
    found = next(f for f in data["findings"] if f["event_id"] == "fetch-mmio" and f["from"] == "VU")
    assert found["property"] == "a"
    assert found["errno"] == 95
    assert "jalr" in found["code"][0]
    assert found["log"][0] == "VCPU exit error -95"


@pytest.mark.parametrize(
    ("policy", "event", "status"), [("linux-6.13", "fetch-hole", 1), ("linux-6.14", "fetch-hole", 0)]
)
def test_counterexample_replays(tmp_path: Path, policy: str, event: str, status: int) -> None:
    """A written counterexample kills when it is run under the policy of the finding, and lives under a mended one."""
    found = audit("linux-6.13", firmware=["opensbi-1.6"], host_fwft=(False,), event=f"^{event}$", workers=1).failures
    replays = write_all(found, tmp_path, {"linux-6.13": "linux-6.13"})
    assert len(replays) == 2
    slots = ("0x18000000:0x10000:hole", "0x44000000:0x10000:ro")
    for replay in replays:
        assert replay.command.startswith(f"trapline run {replay.path} --policy linux-6.13 --firmware opensbi-1.6")
        options = RunOptions(str(replay.path), settings(policy), memory="16M", memslot=slots, max_instructions=100_000)
        report = run_guest(options)
        assert report.result.exit_status == status
        assert report.balance == ()
    assert (tmp_path / "replay.sh").read_text().count("trapline run") == 2


def test_workers_tell_before_their_part_is_done(audits: dict[str, Audit]) -> None:
    """Worker processes show what they have done at once, and Ctrl-C at that word keeps what it told."""
    told: list[int] = []

    def stop(done: int, every: int, name: str) -> None:
        assert (every, name) == (16, "linux-6.13")
        told.append(done)
        raise KeyboardInterrupt

    result = audit("linux-6.13", workers=2, progress=stop)
    assert result.interrupted
    assert told[0] < 16
    assert 0 < result.executed < audits["linux-6.13"].executed


def test_workers_change_nothing() -> None:
    """The JSON is the same, byte for byte, from one process and from three."""
    alone, together = (audit(["linux-6.13", "bao"], event="fetch", workers=n) for n in (1, 3))
    assert json.dumps(alone.as_data()) == json.dumps(together.as_data())


def test_all_is_the_sum_of_its_parts() -> None:
    """What is found of several policies at once, with several firmware models, is what each alone shows."""
    names, firmware = ["linux-6.2", "xvisor", "ostd-kvm"], ["opensbi-1.1", "opensbi-1.6"]
    together = audit(names, firmware=firmware, event="fetch", workers=1)
    parts = [audit(name, firmware=firmware, event="fetch", workers=1) for name in names]
    assert together.executed == sum(part.executed for part in parts)
    assert [f.as_data() for f in together.findings] == [f.as_data() for part in parts for f in part.findings]
    assert len(together.findings) > 3
