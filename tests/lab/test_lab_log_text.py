"""`--log`: what harts do as text, with the names of QEMU's -d."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from trapline.isa.assemble import assemble
from trapline.lab.boot import BootOptions, boot
from trapline.lab.errors import UsageError
from trapline.lab.guest_run import RunOptions, run_guest
from trapline.lab.observe import ObserveOptions
from trapline.lab.settings import settings

# A loop of three passes, a load from nowhere that the handler steps over, then the end.
PROGRAM = (
    "la t0, 3f; csrw mtvec, t0; li s0, 3; 1: addi s0, s0, -1; bnez s0, 1b; lui s1, 0x20; ld s1, 0(s1); "
    "li t0, 0x100000; li t1, 0x5555; sw t1, 0(t0); 2: j 2b; "
    ".align 2; 3: csrr t0, mepc; addi t0, t0, 4; csrw mepc, t0; mret"
)
# A guest that probes for the TIME extension, makes a call that nobody knows, and ends.
GUEST = (
    "li a7, 0x10; li a6, 3; li a0, 0x54494d45; ecall; li a7, 0x0a000099; li a6, 7; li a0, 5; ecall; "
    "li a7, 0x53525354; li a6, 0; li a0, 0; li a1, 0; ecall"
)


def logged(folder: Path, log: str, engine: str = "native", **more: object) -> list[str]:
    """The lines of a board's log."""
    image, file = folder / "program.bin", folder / "log.txt"
    image.write_bytes(assemble(PROGRAM, 0x8000_0000))
    report = boot(
        BootOptions(str(image), memory="16M", engine=engine, log=log, log_file=str(file), **more)  # type: ignore[arg-type]
    )
    assert report.result.reason == "exit"
    return file.read_text().splitlines()


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_traps_and_faults(engine: str, tmp_path: Path) -> None:
    """`int` has a line for each trap with QEMU's fields, `mmu` one for each address that could not be accessed."""
    lines = logged(tmp_path, "int,mmu", engine)
    assert [line.split(":")[0] for line in lines] == ["int", "mmu"]
    assert "async:0, cause:0000000000000005, epc:0x00000000800000" in lines[0]
    assert "tval:0x0000000000020000, desc=load-access, to=M, from=M" in lines[0]
    assert "load-access, va:0x0000000000020000, from=M" in lines[1]


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_blocks_that_are_entered(engine: str, tmp_path: Path) -> None:
    """`exec` has a line each time that code does not go on behind what was before, in order with the traps."""
    symbols = tmp_path / "System.map"
    symbols.write_text(f"{0x8000_0000:016x} T start\n")
    lines = logged(tmp_path, "exec,int", engine, observe=ObserveOptions(symbols=(f"M={symbols}",)))
    lines = [line for line in lines if "pc:0x0000000080" in line]
    assert Counter(line.split(" ")[0] for line in lines) == {"exec:": 5, "int:": 1}  # entry, loop, fault, return, end
    assert lines[0] == "exec: hart:0, M, pc:0x0000000080000000 start"
    assert lines[1] == lines[2] and "start+0x" in lines[1]
    assert lines[3].startswith("int:") and lines[4].startswith("exec:")


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_calls_have_names_and_answers(engine: str, tmp_path: Path) -> None:
    """`sbi` has a line for each call: extension, function, a0, and what came back, if anything did."""
    image, file = tmp_path / "guest.bin", tmp_path / "log.txt"
    image.write_bytes(assemble(GUEST, 0x8020_0000))
    made = RunOptions(
        str(image), settings("linux-7.2"), memory="16M", engine=engine, log="sbi", log_file=str(file),
    )  # fmt: skip
    assert run_guest(made).result.reason == "exit"
    lines = [line for line in file.read_text().splitlines() if ", VS, " in line]
    assert lines == [
        "sbi: hart:0, VS, BASE.probe_extension(0x54494d45) = SUCCESS, 0x1",
        "sbi: hart:0, VS, 0xa000099.7(0x5) = NOT_SUPPORTED, 0x0",
        "sbi: hart:0, VS, SRST.system_reset(0x0) = ?",
    ]


def test_a_log_and_the_last_of_a_trace(tmp_path: Path) -> None:
    """A log has everything, beside a trace that has the end alone."""
    trace = tmp_path / "t.jsonl"
    assert len(logged(tmp_path, "int", trace=str(trace), trace_last=1)) == 1
    assert trace.read_text().count("\n") == 1 and '"return"' in trace.read_text()


def test_without_a_file_it_is_on_standard_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Standard error has the lines where no file is named."""
    image = tmp_path / "program.bin"
    image.write_bytes(assemble(PROGRAM, 0x8000_0000))
    boot(BootOptions(str(image), memory="16M", log="int"))
    assert "int: hart:0, async:0" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["log.txt", "a:b,c.txt"])
def test_a_colon_names_the_file(name: str, tmp_path: Path) -> None:
    """`--log ITEMS:FILE` writes what `--log ITEMS --log-file FILE` does; the first colon splits."""
    expected, file = logged(tmp_path, "int"), tmp_path / name
    boot(BootOptions(str(tmp_path / "program.bin"), memory="16M", log=f"int:{file}"))
    assert file.read_text().splitlines() == expected


@pytest.mark.parametrize(
    ("log", "file", "said"),
    [
        ("exce", None, r"no item is called 'exce': did you mean exec"),
        ("int,", None, r"no item is called '' \(exec, int, mmu, sbi\)"),
        (None, "x", "--log-file: needs to know what"),
        ("int", "/nowhere/x", "cannot write"),
        ("int:/nowhere/x", None, "cannot write"),
        ("int:", None, "'int:' names no file behind the colon"),
        ("int:a", "b", r"two files: 'a' and 'b' \(--log-file\)"),
        ("itn:x", None, r"no item is called 'itn'"),
        (":x", None, r"no item is called ''"),
    ],
)
def test_what_cannot_be_is_said(log: str | None, file: str | None, said: str, tmp_path: Path) -> None:
    """A wrong name brings the nearest; a file without items and a folder that is not there are refused."""
    image = tmp_path / "program.bin"
    image.write_bytes(assemble(PROGRAM, 0x8000_0000))
    with pytest.raises(UsageError, match=said):
        boot(BootOptions(str(image), memory="16M", engine="reference", log=log, log_file=file))
