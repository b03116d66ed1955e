"""The commands as a user types them: exit codes, one-line errors, JSON, plain text."""

from __future__ import annotations

import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tests.small_elf import elf

from trapline.cli import main
from trapline.engine.native import NativeEngine
from trapline.isa.assemble import assemble, assemble_program

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "machine"))
from machine_fakes import make_elf

GOOD = "li t0, 0x100000; li t1, 0x5555; sw t1, 0(t0); 1: j 1b"
BAD = "li t0, 0x100000; li t1, 0x73333; sw t1, 0(t0); 1: j 1b"
LOOP = "1: j 1b"
NOWHERE = "li t0, 0x40000000; jr t0"
TRAPS = """
    la t0, handler; csrw stvec, t0
    li s0, 5
1:  .insn 0x0000000b
    addi s0, s0, -1
    bnez s0, 1b
    li t0, 0x100000; li t1, 0x5555; sw t1, 0(t0)
2:  j 2b
    .align 2
handler:
    csrr t0, sepc; addi t0, t0, 4; csrw sepc, t0; sret
"""
BASE = 0x8020_0000
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def guest(tmp_path: Path) -> Any:
    """A function that writes a guest and returns its path."""

    def write(source: str, name: str = "guest.elf") -> str:
        path = tmp_path / name
        path.write_bytes(elf(BASE, [(BASE, assemble(source, BASE))]))
        return str(path)

    return write


def run(capsys: Capture, *words: str) -> tuple[int, str, str]:
    """Run a command line; return its exit code, standard output and standard error."""
    native_engine()  # it says so when it has to be compiled first
    capsys.readouterr()
    code = main(list(words))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@cache
def native_engine() -> None:
    """Compile the native engine where that has not been done."""
    NativeEngine()


def one_line(text: str) -> bool:
    """Whether an error is one line that names the program."""
    return text.count("\n") == 1 and text.startswith("trapline: ") and "Traceback" not in text


def test_run_of_a_good_guest(capsys: Capture, guest: Any) -> None:
    """A guest that powers off gives 0 and a table headed by the settings."""
    code, out, err = run(capsys, "run", guest(GOOD))
    assert (code, err) == (0, "")
    assert "policy linux-7.2   firmware opensbi-1.6   host-fwft off" in out
    assert "store-guest-page-fault" in out


def test_run_of_a_failing_guest(capsys: Capture, guest: Any) -> None:
    """A guest that reports a failure gives 1 and the code is printed."""
    code, out, _ = run(capsys, "run", guest(BAD))
    assert code == 1
    assert "failed with code 7" in out


def test_run_counts_every_trap(capsys: Capture, guest: Any) -> None:
    """The JSON holds each route with its count, and instructions of every level."""
    code, out, _ = run(capsys, "run", guest(TRAPS), "--policy", "linux-6.12", "--json", "-")
    data = json.loads(out)
    assert code == 0
    assert (data["policy"], data["firmware"], data["host_fwft"]) == ("linux-6.12", "opensbi-1.6", False)
    illegal = [t for t in data["traps"] if t["cause"] == 2]
    assert [(t["count"], t["path"], t["end"]) for t in illegal] == [(5, ["VS", "M", "HS", "VS"], "guest")]
    assert data["instructions"]["VS"] == 2 + 1 + 10 + 4 + 20
    assert data["exit_status"] == 0


def test_run_writes_json_and_trace(capsys: Capture, guest: Any, tmp_path: Path) -> None:
    """JSON to a file leaves the table; a trace has a line for each trap that left the guest."""
    result, trace = tmp_path / "r.json", tmp_path / "t.jsonl"
    code, out, _ = run(capsys, "run", guest(TRAPS), "--json", str(result), "--trace", str(trace))
    assert code == 0
    assert "inst-illegal" in out
    data = json.loads(result.read_text())
    lines = [json.loads(line) for line in trace.read_text().splitlines()]
    left = sum(t["count"] for t in data["traps"] if t["path"][1:] != ["VS"] or len(t["how"]) > 1)
    assert len(lines) == left
    assert {"instret", "vcpu", "cause", "from", "path", "how", "end", "epc", "tval"} <= set(lines[0])


def test_killed_guest(capsys: Capture, guest: Any) -> None:
    """A kill gives 1, KVM's three log lines and the dump."""
    slot = "0x40000000:0x1000:hole"
    code, out, _ = run(capsys, "run", guest(NOWHERE), "--policy", "linux-6.13", "--memslot", slot)
    assert code == 1
    for text in ("killed", "kvm: VCPU exit error -14", "SCAUSE=0x1 STVAL=0x40000000", "hedeleg", "G-stage walk", "s11"):
        assert text in out
    survived, out, _ = run(
        capsys, "run", guest(NOWHERE), "--policy", "linux-7.2", "--memslot", slot, "--max-instructions", "9000"
    )
    assert survived == 3


@pytest.mark.parametrize("option", [("--max-instructions", "100000"), ("--max-seconds", "0.2")])
def test_endless_loop_reaches_a_limit(capsys: Capture, guest: Any, option: tuple[str, str]) -> None:
    """A limit gives 3, with the result so far."""
    code, out, _ = run(capsys, "run", guest(LOOP), *option)
    assert code == 3
    assert "limit" in out
    assert "guest instructions" in out


def test_ctrl_c(guest: Any) -> None:
    """Ctrl-C gives 130, with the result so far."""
    words = [sys.executable, "-m", "trapline", "run", guest(f"li a7, 1\n li a0, 33\n ecall\n {LOOP}")]
    source = str(Path(__file__).resolve().parents[2] / "src")
    child = subprocess.Popen(
        words, env={**os.environ, "PYTHONPATH": source}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout is not None
    try:
        assert child.stdout.read(1) == "!"  # the guest runs
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 130, err
    assert "interrupted" in out
    assert "Traceback" not in err


def truncated(data: bytes) -> bytes:
    """An ELF that ends within its segment."""
    return data[:4100]


def thirty_two_bit(data: bytes) -> bytes:
    """An ELF of class 32."""
    return data[:4] + b"\x01" + data[5:]


def foreign(data: bytes) -> bytes:
    """An ELF for another machine."""
    return data[:18] + struct.pack("<H", 62) + data[20:]


@pytest.mark.parametrize("spoil", [truncated, thirty_two_bit, foreign])
def test_bad_images(capsys: Capture, guest: Any, spoil: Any) -> None:
    """An image that is no RV64 program is one clear line and 2."""
    path = Path(guest("\n".join(["nop"] * 2000)))
    path.write_bytes(spoil(path.read_bytes()))
    code, _, err = run(capsys, "run", str(path))
    assert code == 2
    assert one_line(err)
    assert path.name in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("run", "no-such-file"), "no-such-file"),
        (("run", "GUEST", "--memory", "1"), "memory"),
        (("run", "GUEST", "--memory", "lots"), "lots"),
        (("run", "GUEST", "--policy", "linux-9.9"), "9.9"),
        (("run", "GUEST", "--policy", "POLICY"), "default"),
        (("run", "GUEST", "--firmware", "coreboot"), "coreboot"),
        (("run", "GUEST", "--host-fwft", "maybe"), "maybe"),
        (("run", "GUEST", "--misaligned", "sometimes"), "sometimes"),
        (("run", "GUEST", "--isa", "rv64gcx"), "rv64gcx"),
        (("run", "GUEST", "--isa", "rv64gc"), "H extension"),
        (("run", "GUEST", "--smp", "0"), "0"),
        (("run", "GUEST", "--smp", "many"), "many"),
        (("run", "GUEST", "--max-instructions", "0"), "max-instructions"),
        (("run", "GUEST", "--memslot", "1:2"), "1:2"),
        (("run", "GUEST", "--memslot", "0x40000000:0x1000:hole", "--memslot", "0x40000000:4K:ram"), "overlap"),
        (("run", "GUEST", "--initrd", "nothing-here"), "nothing-here"),
        (("run", "GUEST", "--trace", "/no/such/place"), "--trace"),
        (("run", "GUEST", "--json", "/no/such/place"), "/no/such/place"),
        (("run",), "GUEST"),
        (("walk",), "walk"),
        (("run", "GUEST", "--speed", "9"), "speed"),
        (("boot",), "IMAGE"),
        (("boot", "GUEST", "--kernel", "GUEST"), "--bios"),
        (("boot", "GUEST", "--signature-granularity", "3", "--signature", "OUT", "--max-instructions", "9"), "3"),
        (("compare", "linux-7.2"), "two policies"),
        (("compare", "linux-7.1", "linux-7.2"), "guest"),
        (("compare", "linux-7.1", "linux-7.2", "--", "GUEST", "--json", "x"), "--json"),
        (("compare", "linux-7.1", "linux-7.2", "--", "GUEST", "--nonsense"), "nonsense"),
        (("policies", "show", "linux-4.0"), "4.0"),
        (("policies", "diff", "linux-7.2"), "RIGHT"),
        (("route", "--event", "nonsense"), "nonsense"),
        (("audit", "linux-1.0"), "1.0"),
        (("audit", "--firmware", "coreboot"), "coreboot"),
        (("conform", "--kernel", "nowhere"), "nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_usage(capsys: Capture, guest: Any, tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    """Bad input is one clear line that names it, and exit code 2."""
    policy = tmp_path / "bad.toml"
    policy.write_text("hedeleg = 1\n")
    names = {"GUEST": guest(GOOD), "POLICY": str(policy), "OUT": str(tmp_path / "out")}
    code, _, err = run(capsys, *(names.get(w, w) for w in words))
    assert code == 2
    assert one_line(err)
    assert says.lower() in err.lower()


def test_image_larger_than_memory(capsys: Capture, tmp_path: Path) -> None:
    """An image that does not fit names its size."""
    path = tmp_path / "large.elf"
    path.write_bytes(elf(BASE, [(BASE, bytes(2 << 20))]))
    code, _, err = run(capsys, "run", str(path), "--memory", "3M")
    assert code == 2
    assert one_line(err)


def test_own_policy(capsys: Capture, guest: Any, tmp_path: Path) -> None:
    """A TOML file that extends a preset is a policy like any other."""
    policy = tmp_path / "mine.toml"
    policy.write_text('extends = "linux-6.12"\ndefault = "kill"\n[cause.inst-access]\naction = "redirect"\n')
    code, out, _ = run(capsys, "route", "--policy", str(policy), "--event", "fetch-hole", "--json", "-")
    assert code == 0
    assert [r["end"] for r in json.loads(out)["routes"]] == ["guest", "guest"]


def test_boot(capsys: Capture, guest: Any, tmp_path: Path) -> None:
    """A bare program boots in M-mode, logs its commits, and its exit code counts."""
    log = tmp_path / "commits"
    code, out, _ = run(capsys, "boot", guest(GOOD), "--log-commits", str(log), "--json", "-")
    assert code == 0
    assert json.loads(out)["reason"] == "exit"
    assert log.read_text().startswith("core   0: 3 ")
    code, out, _ = run(capsys, "boot", guest(BAD))
    assert code == 1


def test_compare(capsys: Capture, guest: Any) -> None:
    """Two policies that differ show the difference first; what follows -- is a run command line."""
    words = ("compare", "linux-6.16", "linux-6.17", "--json", "-", "--", guest(TRAPS), "--memory", "64M")
    code, out, _ = run(capsys, *words)
    data = json.loads(out)
    assert code == 0
    assert data["differing"] == [{"cause": 2, "name": "inst-illegal", "from": "VS"}]
    assert [r["policy"] for r in data["runs"]] == ["linux-6.16", "linux-6.17"]
    assert data["runs"][0]["instructions"]["HS"] > data["runs"][1]["instructions"]["HS"]
    code, out, _ = run(capsys, "compare", "linux-6.16", "linux-6.17", "--", guest(TRAPS))
    assert out.index("routes that differ") < out.index("the same routes")


def test_compare_plots(capsys: Capture, guest: Any, tmp_path: Path) -> None:
    """--plot draws a picture, or names the extra that it needs."""
    picture = tmp_path / "p.svg"
    code, _, err = run(capsys, "compare", "linux-7.1", "linux-7.2", "--plot", str(picture), "--", guest(TRAPS))
    try:
        import altair  # noqa: F401
    except ImportError:
        assert code == 2
        assert "trapline[plot]" in err
    else:
        assert code == 0
        assert "<svg" in picture.read_text()


def test_policies(capsys: Capture) -> None:
    """The presets are listed, shown and compared."""
    code, out, _ = run(capsys, "policies", "--json", "-")
    names = [p["name"] for p in json.loads(out)]
    assert code == 0
    assert {"linux-5.16", "linux-7.3", "xvisor", "bao", "hvisor", "salus", "zhou", "patel", "holland-1"} <= set(names)
    code, out, _ = run(capsys, "policies", "show", "linux-7.2")
    assert "hedeleg 0xb10d" in out
    code, out, _ = run(capsys, "policies", "diff", "linux-6.13", "linux-6.14")
    assert "cause inst-access" in out


def test_audit(capsys: Capture, tmp_path: Path) -> None:
    """An audit that fails gives 1, shows the code, and writes guests that replay."""
    words = ("audit", "linux-6.13", "--event", "fetch-hole", "--out", str(tmp_path / "x"), "--workers", "1")
    code, out, _ = run(capsys, *words)
    assert code == 1
    assert "(a, b) 1 inst-access: the VM is killed with -14" in out
    assert "kvm: SCAUSE=0x1" in out
    assert sorted(p.name for p in (tmp_path / "x").iterdir()) == ["fetch-hole-vs.elf", "fetch-hole-vu.elf", "replay.sh"]
    code, out, _ = run(capsys, "audit", "linux-6.14", "--event", "fetch-hole", "--workers", "1")
    assert code == 0
    assert "passes" in out


def test_demo(capsys: Capture) -> None:
    """The demo shows a kill, a survival and three costs that fall."""
    started = time.monotonic()
    code, out, _ = run(capsys, "demo", "--json", "-")
    data = json.loads(out)
    assert code == 0
    assert time.monotonic() - started < 10
    assert [s["end"] for s in data["scenes"]] == ["killed", "guest"]
    costs = [sum(c["instructions"].values()) for c in data["costs"]]
    assert costs == sorted(costs, reverse=True)
    code, out, _ = run(capsys, "demo", "--short")
    assert "linux-6.12   VU > M > HS > VMM   killed -14" in out


@pytest.mark.parametrize("columns", ["80", "100"])
def test_tables_fit(capsys: Capture, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    """No line of a table is wider than the terminal, and plain output has no escape codes."""
    monkeypatch.setenv("COLUMNS", columns)
    for words in (("route",), ("policies", "show", "linux-7.2"), ("audit", "linux-7.2", "--firmware", "opensbi-1.6")):
        _, out, _ = run(capsys, *words)
        assert max(len(line) for line in out.splitlines()) <= int(columns)
        assert "\x1b" not in out


def test_help_is_fast_and_light() -> None:
    """Help imports neither the engine nor the lab."""
    code = (
        "import sys; from trapline.cli.application import app; import trapline.cli; app.parse_args(['policies']); "
        "print([m for m in sys.modules if m.startswith(('trapline.', 'rich.table', 'llvmlite')) "
        "and not m.startswith(('trapline.cli', 'trapline.defaults', 'trapline.dataclass'))])"
    )
    source = str(Path(__file__).resolve().parents[2] / "src")
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": source}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"


def test_a_boot_imports_no_compiler_and_nothing_for_text() -> None:
    """What `boot` imports brings in neither LLVM nor modules of Python that a start has no use for."""
    code = (
        "import sys; import trapline.lab.boot, trapline.engine.native; "
        "print([m for m in ('shutil', 'lzma', 'bz2', 'textwrap', 'inspect', 'ast', 'llvmlite') if m in sys.modules])"
    )
    source = str(Path(__file__).resolve().parents[2] / "src")
    command = [sys.executable, "-S", "-c", f"import sys; sys.path += {sys.path!r}; {code}"]
    environment = {**os.environ, "PYTHONPATH": source}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names() -> None:
    """The typed API is there, and importing the package imports nothing else."""
    import trapline

    for name in ("Machine", "Vm", "Vcpu", "Policy", "route", "compare", "audit"):
        assert name in trapline.__all__
        assert getattr(trapline, name).__name__ == name
    with pytest.raises(AttributeError, match="nonsense"):
        _ = trapline.nonsense


def test_policies_says_what_each_release_changed(capsys: Capture) -> None:
    """--changes lists releases with what they changed; a policy that stands on no other has no changes."""
    code, out, _ = run(capsys, "policies", "--changes", "--json", "-")
    found = {c["policy"]: c for c in json.loads(out)}
    assert code == 0
    assert "linux-5.16" not in found
    changed = {c["what"]: c for c in found["linux-6.14"]["changes"]}
    assert changed["cause inst-access"] == {
        "what": "cause inst-access",
        "before": "kill -14",
        "now": "redirect",
        "source": "51c58956732b (Quan Zhou); no counter",
    }
    assert run(capsys, "policies", "--changes", "linux-5.16")[0] == 2
    assert "changed since linux-6.13" in run(capsys, "policies", "linux-6.14")[1]


DIES = """
    li s0, 0x10000000
    li s1, 37
1:  lbu t1, 5(s0)
    addi s1, s1, -1
    bnez s1, 1b
    jal ra, jump
jump:
    li t0, 0x40000000
    jr t0
"""


def named(tmp_path: Path) -> str:
    """A guest with symbols, which reads the serial port 37 times and then jumps into a hole."""
    program = assemble_program(DIES, BASE)
    path = tmp_path / "guest.elf"
    names = {"start": BASE, "jump": program.symbols["jump"]}
    path.write_bytes(make_elf(program.code, address=BASE, entry=BASE, symbols=names))
    return str(path)


def test_a_death_has_names_and_says_who_survives(tmp_path: Path, capsys: Capture) -> None:
    """A kill shows the guest's own symbols, equal traps once, and the release that mended it."""
    words = ["run", named(tmp_path), "--memory", "8M", "--policy", "linux-6.12", "--memslot", "0x40000000:64K:hole"]
    code, out, _ = run(capsys, *words)
    assert code == 1
    assert "mended in linux-6.14: the guest gets cause 1 (inst-access)" in out
    assert "<start+" in out.split("ra 0x")[1].split("\n")[0]
    assert "x 37" in out
    assert "<start+0x" in out.split("last traps")[1]
    code, out, _ = run(capsys, *words, "--json", "-")
    data = json.loads(out)
    assert data["death"]["ra_symbol"].startswith("start+")
    assert data["survival"]["mended"] == "linux-6.14"
    assert data["places"] == []


def test_a_guest_that_is_cut_short_says_where_it_is(tmp_path: Path, capsys: Capture) -> None:
    """At a limit the result names the function, and what the loop looks at."""
    program = assemble_program("start: li t0, 0x10000005\nwait: lbu t1, 0(t0)\n beqz t1, wait\n j wait", BASE)
    path = tmp_path / "guest.elf"
    path.write_bytes(make_elf(program.code, address=BASE, entry=BASE, symbols=dict(program.symbols)))
    words = ["run", str(path), "--memory", "8M", "--max-instructions", "1000"]
    code, out, _ = run(capsys, *words)
    assert code == 3
    assert re.search(r"vCPU 0 in VS at 0x80200\w+ <wait(\+0x\w+)?>\n  goes round in a loop of \d instructions", out)
    assert "reads the serial port at 0x10000005" in " ".join(out.split())
    assert json.loads(run(capsys, *words, "--json", "-")[1])["places"][0]["symbol"].startswith("wait")


def test_an_exit_that_nobody_serves_says_who_would(tmp_path: Path, capsys: Capture) -> None:
    """A trap that leaves to the VMM as KVM_EXIT_DEBUG or UNKNOWN ends the run with its place and who survives it."""
    path = tmp_path / "guest.elf"
    path.write_bytes(elf(BASE, [(BASE, assemble("la t0, h; csrw stvec, t0; ebreak\n.align 2\nh: j h", BASE))]))
    words = ["run", str(path), "--memory", "8M", "--firmware", "ignores-hedeleg+hard-wired", "--max-instructions", "99"]
    code, out, _ = run(capsys, *words)
    assert code == 1
    assert "ends as KVM_EXIT_DEBUG: linux-6.10 to linux-7.3" in out
    assert "the guest gets cause 3 (breakpoint): salus, holland-2, proposed" in out
    data = json.loads(run(capsys, *words, "--json", "-")[1])
    assert data["reason"] == "debug"
    assert data["places"][0]["pc"] == BASE + 12
