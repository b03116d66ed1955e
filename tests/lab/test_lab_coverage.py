"""`--coverage`: exactly the instructions that were executed, as often as they were, and lines where there is DWARF."""

from __future__ import annotations

import csv
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from trapline.isa.assemble import assemble
from trapline.lab.boot import BootOptions, boot
from trapline.lab.debugging import DebugOptions
from trapline.lab.errors import UsageError
from trapline.lab.guest_run import RunOptions, run_guest
from trapline.lab.settings import settings

# Loops, compressed and not; what is never reached; a page's end; traps, one of which is begun again; U-mode.
PROGRAM = """
    la t0, handler; csrw mtvec, t0; li s1, 0; li s0, 300
1:  addi s0, s0, -1; c.addi s2, 1; bnez s0, 1b
    beqz s0, 2f
    nop; nop
2:  la t0, far; jalr ra, 0(t0)
    la t0, user; csrw mepc, t0; li t1, 0x1800; csrc mstatus, t1; li t1, -1; csrw pmpaddr0, t1
    li t1, 31; csrw pmpcfg0, t1; mret
user: li a0, 3
3:  addi a0, a0, -1; bnez a0, 3b
    c.ebreak
    nop
.align 4
handler: addi s1, s1, 1; li t2, 2; bne s1, t2, 4f
    csrr t1, mepc; addi t1, t1, 2; csrw mepc, t1; li t0, 0x100000; li t1, 0x5555; sw t1, 0(t0); 5: j 5b
4:  mret
.align 12
nop
.align 12
far: addi s3, s3, 1; ret
"""


def options(folder: Path, name: str, **more: object) -> BootOptions:
    """A board that runs the program."""
    image = folder / "program.bin"
    image.write_bytes(assemble(PROGRAM, 0x8000_0000))
    made = BootOptions(image=str(image), memory="16M", coverage=str(folder / name), max_instructions=100_000)
    return replace(made, **more)  # type: ignore[arg-type]


def counts(path: Path) -> dict[tuple[str, int], int]:
    """A list by mode and address."""
    with path.open() as file:
        return {(row["mode"], int(row["address"], 0)): int(row["count"]) for row in csv.DictReader(file)}


def test_counts_are_those_of_the_commit_log(tmp_path: Path) -> None:
    """Every instruction that the commit log has counts as often as it has it; what trapped counts besides."""
    boot(options(tmp_path, "a.csv"))
    boot(options(tmp_path, "x.csv", coverage=None, log_commits=str(tmp_path / "commits")))
    seen = counts(tmp_path / "a.csv")
    committed = Counter[tuple[str, int]]()
    for line in (tmp_path / "commits").read_text().splitlines():
        words = line.split()
        committed["M" if words[2] == "3" else "U", int(words[3], 0)] += 1
    assert {k: n for k, n in seen.items() if committed[k] == n} == dict(committed)
    trapped = {k: n for k, n in seen.items() if committed[k] != n}
    assert list(trapped.values()) == [2] and [mode for mode, _ in trapped] == ["U"]


@pytest.mark.parametrize("jit", ["on", "force", "off"])
def test_engines_agree(jit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The native engine, whatever it compiles, has the counts of the reference engine."""
    monkeypatch.setenv("TRAPLINE_JIT", jit)
    boot(options(tmp_path, "a.csv"))
    boot(options(tmp_path, "b.csv", engine="reference"))
    assert counts(tmp_path / "a.csv") == counts(tmp_path / "b.csv")


def test_harts_are_counted_together(tmp_path: Path) -> None:
    """Two harts that run the same loop count twice there."""
    image = tmp_path / "loop.bin"
    loop = "li t0, 50; 1: addi t0, t0, -1; bnez t0, 1b; 2: wfi; j 2b"
    image.write_bytes(assemble(loop, 0x8000_0000))
    boot(options(tmp_path, "a.csv", image=str(image), smp=2))
    assert counts(tmp_path / "a.csv")["M", 0x8000_0004] == 100


def test_guest_is_counted_by_its_modes(tmp_path: Path) -> None:
    """Of a guest, VS and VU are counted, with both engines alike; what hosted levels do is not."""
    source = """
        la t0, user; csrw sepc, t0; li t1, 0x100; csrc sstatus, t1; la t2, handler; csrw stvec, t2; sret
        user: li a0, 5
        1: addi a0, a0, -1; bnez a0, 1b
        ecall
        .align 4
        handler: li t0, 0x100000; li t1, 0x5555; sw t1, 0(t0); 2: j 2b
    """
    guest = tmp_path / "guest.bin"
    guest.write_bytes(assemble(source, 0x8020_0000))
    found = []
    for engine in ("native", "reference"):
        made = RunOptions(
            guest=str(guest), settings=settings(), memory="16M", engine=engine, coverage=str(tmp_path / "g.csv")
        )
        assert run_guest(made).result.exit_status == 0
        found.append(counts(tmp_path / "g.csv"))
    assert found[0] == found[1]
    assert {mode for mode, _ in found[0]} == {"VS", "VU"}
    assert sorted(found[0].values())[-2:] == [5, 5]


def test_list_for_people(tmp_path: Path) -> None:
    """A .txt has mode, address and count in columns."""
    boot(options(tmp_path, "a.txt"))
    lines = (tmp_path / "a.txt").read_text().splitlines()
    assert "M  0x0000000080000000            1" in lines
    assert len(lines) == len({tuple(line.split()[:2]) for line in lines})


C = """\
int twice(int n)
{
    return 2 * n;
}

int never(int n)
{
    return n + 1;
}

void _start(void)
{
    int sum = 0;
    for (int i = 0; i < 10; i++) {
        sum += twice(i);
    }
    if (sum == 3) {
        sum = never(sum);
    }
    *(volatile int *)0x100000 = 0x5555;
    for (;;) ;
}

void __attribute__((naked)) first(void) { asm("li sp, 0x80100000; j _start"); }
"""


@pytest.mark.skipif(shutil.which("riscv64-linux-gnu-gcc") is None, reason="needs Debian's gcc-riscv64-linux-gnu")
@pytest.mark.parametrize("version", [4, 5])
def test_lines_by_dwarf(version: int, tmp_path: Path) -> None:
    """lcov's file has every line with code, those never executed with 0, and the functions."""
    (tmp_path / "p.c").write_text(C)
    words = "-O0 -nostdlib -static -no-pie -ffreestanding -mcmodel=medany -march=rv64imac -mabi=lp64"
    words += " -Wl,-Ttext=0x80000000 -Wl,--build-id=none -Wl,-e,first p.c -o p.elf"
    command = ["riscv64-linux-gnu-gcc", f"-gdwarf-{version}", *words.split()]
    (tmp_path / "p.c").write_text(C)
    subprocess.run(command, check=True, cwd=tmp_path)
    boot(options(tmp_path, "p.info", image=str(tmp_path / "p.elf")))
    lines = (tmp_path / "p.info").read_text().splitlines()
    assert f"SF:{tmp_path / 'p.c'}" in lines
    found = dict(line[3:].split(",") for line in lines if line.startswith("DA:"))
    assert {n: int(found[n]) for n in "2 3 8 12 14 15 17 18 20".split()} == {
        "2": 10, "3": 10, "8": 0, "12": 1, "14": 11, "15": 10, "17": 1, "18": 0, "20": 1,
    }  # fmt: skip
    assert {"FNDA:10,twice", "FNDA:0,never", "FNDA:1,_start", "end_of_record"} <= set(lines)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coverage": "x.dat"}, "does not say in which format"),
        ({"coverage": "x.info"}, "has no DWARF line table"),
        ({"coverage": "/nowhere/x.txt"}, "there is no directory"),
        ({"debug": DebugOptions("127.0.0.1:0")}, "goes without a debugger"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_refused(change: dict[str, object], message: str, tmp_path: Path) -> None:
    """A file without a known ending or a place, a program without lines, and a debugger are refused beforehand."""
    with pytest.raises(UsageError, match=message):
        boot(options(tmp_path, "x.csv", **change))
