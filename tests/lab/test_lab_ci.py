"""Audits in CI: the same result twice, what is new since an earlier one, and JUnit's XML."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest

from trapline.cli.main import main
from trapline.lab.audit.audit import Audit, audit
from trapline.lab.audit.baseline import read, since
from trapline.lab.errors import UsageError
from trapline.views.junit import Case, Suite, audit_suites, write_junit

FEW = {"event": "fetch-|misaligned-load", "firmware": ["opensbi-1.6", "ignores-hedeleg"], "workers": 1}
POLICIES = ["linux-6.13", "linux-7.2", "patel"]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def together() -> Audit:
    """Some events under three policies."""
    return audit(POLICIES, **FEW)  # type: ignore[arg-type]


def test_an_audit_twice_is_the_same_bit_for_bit(together: Audit) -> None:
    """Two audits of the same policies are the same JSON, byte for byte."""
    again = audit(POLICIES, **FEW)  # type: ignore[arg-type]
    assert json.dumps(again.as_data()) == json.dumps(together.as_data())


def test_an_audit_of_several_is_its_parts(together: Audit) -> None:
    """What several policies are found to do together is what each is found to do alone."""
    parts = [audit([name], **FEW) for name in POLICIES]  # type: ignore[arg-type]
    assert [f.as_data() for part in parts for f in part.findings] == [f.as_data() for f in together.findings]
    assert sum(part.executed for part in parts) == together.executed
    for cause, conditions in together.raises.items():
        assert set().union(*(part.raises.get(cause, set()) for part in parts)) == conditions


def test_what_is_new_and_what_is_gone(together: Audit, tmp_path: Path) -> None:
    """A failure that the baseline lacks is new; one that only it has is gone, unless it was not asked for."""
    file = tmp_path / "before.json"
    before = replace(together, findings=together.findings[1:])
    file.write_text(json.dumps(before.as_data()))
    new = since(str(file), read(str(file)), together.failures, {"policy": together.policies}, None)
    assert [f.as_data() for f in new.new] == [together.failures[0].as_data()]
    assert new.gone == ()
    file.write_text(json.dumps(together.as_data()))
    gone = since(str(file), read(str(file)), before.failures, {"policy": together.policies}, None)
    assert (gone.new, len(gone.gone)) == ((), 1)
    assert since(str(file), read(str(file)), before.failures, {"policy": ["linux-7.1"]}, None).gone == ()
    assert since(str(file), read(str(file)), before.failures, {"policy": together.policies}, {"rdtime"}).gone == ()


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"findings": [1]}', '{"findings": [{"severity": "fail"}]}', "[" * 9999]
)
def test_a_baseline_that_is_none(text: str, tmp_path: Path) -> None:
    """A file that is no audit is one line that says what makes one."""
    (tmp_path / "b").write_text(text)
    with pytest.raises(UsageError, match="is no result of an audit"):
        read(str(tmp_path / "b"))


def test_an_audit_fails_for_what_is_new_alone(tmp_path: Path, capsys: Capture) -> None:
    """With a baseline of the same policy the exit code is 0, with that of another 1; JUnit's file has what is new."""
    words = ["audit", "linux-6.13", "--event", "fetch-hole", "--firmware", "opensbi-1.6", "--workers", "1"]
    file, report = str(tmp_path / "b.json"), tmp_path / "r.xml"
    assert main([*words, "--json", file]) == 1
    assert main([*words, "--baseline", file, "--junit", str(report)]) == 0
    assert f"since {file}: 0 new failures, 0 gone" in " ".join(capsys.readouterr().out.split())
    assert Xml.parse(report).getroot().get("failures") == "0"
    data = json.loads(Path(file).read_text())
    Path(file).write_text(json.dumps({**data, "findings": []}))
    assert main([*words, "--baseline", file, "--junit", str(report)]) == 1
    assert "new: linux-6.13 (a) fetch from a slot's hole from VU" in " ".join(capsys.readouterr().out.split())
    failed = [c for c in Xml.parse(report).iter("testcase") if c.find("failure") is not None]
    assert len(failed) == int(Xml.parse(report).getroot().get("failures", "0")) > 0
    assert any("SCAUSE=0x1" in (c.findtext("failure") or "") for c in failed)


def test_every_property_is_a_case(together: Audit) -> None:
    """Each policy is a suite; a property that holds is a case that passes, each failure a case that does not."""
    suites = audit_suites(together)
    assert [s.name for s in suites] == [f"audit {name}" for name in together.policies]
    assert sum(bool(c.failure) for s in suites for c in s.cases) == len(together.failures)
    for suite in suites:
        assert {c.group.rsplit(".", 1)[1] for c in suite.cases} == set("abcde")


def test_xml_holds_no_character_that_it_may_not(tmp_path: Path) -> None:
    """Control characters, surrogates and markup in names do not break the file."""
    file = tmp_path / "r.xml"
    write_junit(str(file), [Suite("s", (Case("g", "a\x00<b>&\udcff", "f\x1b", "text\x08"),))])
    case = next(Xml.parse(file).iter("testcase"))
    assert case.get("name") == "a\ufffd<b>&\ufffd"
    assert case.findtext("failure") == "text\ufffd"


def test_a_report_that_cannot_be_written_keeps_the_audit(capsys: Capture) -> None:
    """A full disk under --junit is one line behind the result, whose exit code it leaves alone."""
    words = ["audit", "linux-6.13", "--event", "fetch-hole", "--firmware", "opensbi-1.6", "--workers", "1"]
    assert main([*words, "--junit", "/dev/full"]) == 1
    out, err = capsys.readouterr()
    assert "linux-6.13 fails" in out
    assert err == "trapline: --junit: cannot write '/dev/full': No space left on device\n"


def test_a_nested_audit_fails_for_what_is_new_alone(tmp_path: Path, capsys: Capture) -> None:
    """With --nested too the exit code goes by what the baseline lacks, and JUnit's cases name the guest hypervisor."""
    before, xml = str(tmp_path / "before.json"), str(tmp_path / "a.xml")
    few = ["audit", "--nested", "--firmware", "opensbi-1.6", "--host-fwft", "off", "--event", "rdcycle"]
    assert main([*few, "kvm-nested-v1", "--json", before]) == 1
    assert main([*few, "kvm-nested-v1", "--baseline", before, "--junit", xml]) == 0
    assert "0 new failures" in capsys.readouterr().out
    assert Xml.parse(xml).getroot().get("failures") == "0"
    (tmp_path / "none.json").write_text('{"l1": [], "findings": []}')
    assert main([*few, "kvm-nested-v1", "--baseline", str(tmp_path / "none.json"), "--junit", xml]) == 1
    assert any("L1 linux-7.2" in case.get("name", "") for case in Xml.parse(xml).iter("testcase"))


def test_a_baseline_of_the_other_kind(tmp_path: Path) -> None:
    """An audit with --nested is no baseline of one without, nor the other way round."""
    (tmp_path / "nested").write_text('{"l1": [], "findings": []}')
    (tmp_path / "flat").write_text('{"findings": [{"severity": "fail"}]}')
    with pytest.raises(UsageError, match="is the result of an audit with --nested"):
        read(str(tmp_path / "nested"))
    with pytest.raises(UsageError, match="is the result of an audit without --nested"):
        read(str(tmp_path / "flat"), nested=True)
