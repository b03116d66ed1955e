"""What people see of nested routes and audits."""

from __future__ import annotations

import pytest

from trapline.cli import main


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """The lines of a command."""
    main(list(words))
    return capsys.readouterr().out.splitlines()


def test_seen_of_a_load(capsys: pytest.CaptureFixture[str]) -> None:
    """--seen gives what each level on the way of a load from L1's device saw: cause, registers, and the bits set."""
    lines = printed(capsys, "route", "--nested", "--seen", "--event", "^mmio-lw$")
    start = lines.index("lw from an MMIO page, from vVU")
    rows = [line.split() for line in lines[start + 4 : start + 7]]
    assert [r[:2] for r in rows] == [["HS", "21"], ["vHS", "21"], ["HS", "22"]]
    assert rows[0][2:] == rows[1][2:]
    stval, htval, htinst, *bits = rows[1][3:]
    assert (stval, htval, htinst, bits) == ("0x1010000000", hex(0x1000_0000 >> 2), "0x0", ["SPV", "GVA"])
    assert rows[2][3] == hex(0x1020_0073)
    assert lines[start + 7 : start + 9] == [
        "  and 4 exits of L1's handler before the last",
        "  6 exits of L0; instructions: vHS 130, HS ~6 525",
    ]


def test_seen_of_firmware(capsys: pytest.CaptureFixture[str]) -> None:
    """--seen shows the trap of an illegal instruction in M-mode, and then in the guest."""
    lines = printed(capsys, "route", "--nested", "--seen", "--event", "^illegal$")
    rows = [line.split() for line in lines if line.startswith(("M ", "vVS ", "vHS "))]
    assert [(r[0], r[1], r[3]) for r in rows[:2]] == [("M", "2", "0xb"), ("vVS", "2", "0xb")]
    assert (rows[0][6:], rows[1][4:]) == (["MPP=1", "MPV"], ["SPP"])
    assert [r[0] for r in rows] == ["M", "vVS", "M", "vVS", "M", "vHS", "M", "vHS"]


def test_seen_asks_for_nested(capsys: pytest.CaptureFixture[str]) -> None:
    """--seen without --nested is a usage error."""
    assert main(["route", "--seen"]) == 2
    assert "--nested" in capsys.readouterr().err


def test_modes_with_the_same_way_share_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    """A trap whose way is the same from both modes of a level has one row."""
    lines = printed(capsys, "route", "--nested", "--event", "^illegal$")
    assert ["vVS vVU" in line for line in lines if "reserved instruction" in line] == [True, False]
    assert sum("vHS vU" in line for line in lines) == 1


def test_audit_says_where(capsys: pytest.CaptureFixture[str]) -> None:
    """A nested audit names the firmware, the L1 and the events of each finding, and puts remarks below their policy."""
    where = ("--firmware", "opensbi-1.0", "--firmware", "opensbi-1.6", "--host-fwft", "off")
    l1 = ("--l1", "linux-7.2", "--l1", "bao")
    policies = ("linux-7.2", "xvisor-nested")
    lines = printed(capsys, "audit", *policies, "--nested", *l1, "--event", "^(wfi|stimecmp)$", *where)
    passed, failed = (next(n for n, line in enumerate(lines) if line.startswith(p)) for p in policies)
    assert "      every firmware; L1 bao" in lines[failed:]
    sstc = "    (c) illegal instruction: this firmware does not switch sstc on"
    assert sstc in lines[passed:failed]
    assert lines[lines.index(sstc) + 1] == "      read of stimecmp (from vVS and vVU); opensbi-1.0; every L1"
