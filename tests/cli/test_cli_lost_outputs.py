"""Files beside a result: what cannot be written is found before the run, or costs neither result nor exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trapline.cli.main import main
from trapline.engine.api import open_engine
from trapline.isa.assemble import assemble
from trapline.lab import output

POWEROFF = "li t0, 0x100000; li t1, 0x5555; sw t1, 0(t0); 2: j 2b"
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True, scope="module")
def engine() -> None:
    """Native code is made before, which says so."""
    open_engine("native")


@pytest.fixture
def guest(tmp_path: Path) -> str:
    """A guest that powers off."""
    path = tmp_path / "guest.bin"
    path.write_bytes(assemble(POWEROFF, 0x8020_0000))
    return str(path)


@pytest.fixture
def program(tmp_path: Path) -> str:
    """A bare program that does."""
    path = tmp_path / "program.bin"
    path.write_bytes(assemble(POWEROFF, 0x8000_0000))
    return str(path)


def said(capsys: Capture, *words: str) -> tuple[int, str, str]:
    """Run a command line; return its exit code, output, and the one line that it complains with."""
    code = main(list(words))
    out, err = capsys.readouterr()
    assert err.count("\n") == (1 if err else 0), err
    return code, out, err


@pytest.mark.parametrize("place", ["missing/x", ".", "/dev/full"])
def test_frames_that_can_go_nowhere_are_refused(place: str, guest: str, tmp_path: Path, capsys: Capture) -> None:
    """A record of frames in a folder that is not there, that is a folder, or on a full disk is one line."""
    code, out, err = said(capsys, "run", guest, "--net", f"user,pcap={tmp_path / place}")
    assert (code, out) == (2, "")
    assert f"pcap={tmp_path / place}: cannot write" in err


def test_a_signature_that_is_none_is_refused_first(program: str, tmp_path: Path, capsys: Capture) -> None:
    """A program without the symbols of a signature is refused before it runs."""
    code, out, err = said(capsys, "boot", program, "--signature", str(tmp_path / "s"))
    assert (code, out) == (2, "")
    assert "no symbol begin_signature" in err


def test_a_picture_that_cannot_be_drawn_is_refused_first(guest: str, capsys: Capture) -> None:
    """A plot of no known format is one line that names those that there are, before anything runs."""
    code, out, err = said(capsys, "compare", "linux-6.12", "linux-7.2", "--plot", "/tmp/x.doc", "--", guest)
    assert (code, out) == (2, "")
    assert "end the name in .svg, .png, .pdf, .html, .json" in err


def test_a_picture_on_a_full_disk_keeps_the_comparison(guest: str, tmp_path: Path, capsys: Capture) -> None:
    """What was compared is shown although its picture could not be written."""
    pytest.importorskip("altair")
    pytest.importorskip("vl_convert")
    (tmp_path / "full.json").symlink_to("/dev/full")
    words = ("compare", "linux-6.12", "linux-7.2", "--plot", str(tmp_path / "full.json"), "--", guest)
    code, out, err = said(capsys, *words)
    assert (code, "--plot: cannot write" in err) == (2, True)
    assert "guest time, ticks" in out


@pytest.mark.parametrize("place", ["guest.bin", "guest.bin/x"])
def test_a_folder_that_is_a_file_is_refused_first(place: str, guest: str, capsys: Capture) -> None:
    """Counterexamples for a folder that is a file, or in one, are refused before the audit."""
    folder = str(Path(guest).parent / place)
    code, out, err = said(capsys, "audit", "linux-6.13", "--event", "fetch-hole", "--out", folder)
    assert (code, out) == (2, "")
    assert f"--out: cannot write to '{folder}': '{guest}' is no directory" in err


def test_counterexamples_that_cannot_be_written_keep_the_audit(tmp_path: Path, capsys: Capture) -> None:
    """An audit whose counterexamples find no room is shown, with its exit code."""
    (tmp_path / "replay.sh").mkdir()
    words = ("audit", "linux-6.13", "--event", "fetch-hole", "--firmware", "opensbi-1.6", "--workers", "1")
    code, out, err = said(capsys, *words, "--out", str(tmp_path))
    assert (code, "--out: cannot write to" in err) == (1, True)
    assert "linux-6.13 fails" in out


def test_a_console_that_cannot_be_written_is_told_at_the_end() -> None:
    """A host's console on a full disk is noted, not raised: the comparison is shown."""
    from trapline.cli.conform import _write

    output.failed.clear()
    _write("/dev/full", bytes(100_000))
    assert output.failed == ["--console: cannot write '/dev/full': No space left on device"]
    output.failed.clear()


@pytest.mark.parametrize("option", ["--observe", "--live", "-s", "--trace=t", "--snapshot=s"])
def test_compare_refuses_what_it_would_not_show(option: str, guest: str, capsys: Capture) -> None:
    """What no comparison shows, and files that each run would write anew, are refused with what to do instead."""
    code, out, err = said(capsys, "compare", "linux-6.12", "linux-7.2", "--", guest, option)
    assert (code, out) == (2, "")
    assert "trapline run GUEST --policy NAME" in err


def test_a_snapshot_of_what_has_ended_is_not_promised(guest: str, tmp_path: Path, capsys: Capture) -> None:
    """Where the guest ends by itself, the result says that there is no snapshot."""
    file, result = tmp_path / "s", tmp_path / "r.json"
    code, _, _ = said(capsys, "run", guest, "--snapshot", str(file), "--json", str(result))
    assert (code, file.exists()) == (0, False)
    assert json.loads(result.read_text())["message"].endswith("no snapshot: nothing is left to go on with")


@pytest.mark.parametrize("words", [("--json", "--trace"), ("--trace", "--log-file"), ("--coverage", "--json")])
def test_two_outputs_in_one_file_are_refused(
    words: tuple[str, str], guest: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two options that name one file, however they spell it, are refused: one would write over the other."""
    monkeypatch.chdir(tmp_path)
    one, other = words
    code, out, err = said(capsys, "run", guest, one, "t.csv", other, str(tmp_path / "t.csv"), "--log", "int")
    assert (code, out) == (2, "")
    assert "is written by --" in err and "too (name two files)" in err
    assert not (tmp_path / "t.csv").exists()


@pytest.mark.parametrize("command", ["run", "boot"])
def test_a_trace_of_no_known_format_is_refused(command: str, guest: str, tmp_path: Path, capsys: Capture) -> None:
    """A trace whose name ends in what is no format is one line that names those there are, before anything runs."""
    code, out, err = said(capsys, command, guest, "--trace", str(tmp_path / "t.parqet"))
    assert (code, out) == (2, "")
    assert "does not say in which format (its name ends in .jsonl, .csv, .parquet" in err
