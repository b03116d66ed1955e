"""`--profile`: samples by instructions, by level and function."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from trapline.isa.assemble import assemble
from trapline.lab.boot import BootOptions, boot
from trapline.lab.debugging import DebugOptions
from trapline.lab.errors import UsageError
from trapline.lab.guest_run import RunOptions, run_guest
from trapline.lab.observe import ObserveOptions
from trapline.lab.replay.elf_file import Part, write_elf
from trapline.lab.settings import settings
from trapline.lab.symbols import read_symbols, symbols_of

# Two loops, the second three times as long as the first, then the end.
LOOPS = "li t0, 20000; 1: addi t0, t0, -1; bnez t0, 1b; li t0, 60000; 2: addi t0, t0, -1; bnez t0, 2b; {end}"
POWER_OFF = "li t0, 0x100000; li t1, 0x5555; sw t1, 0(t0); 3: j 3b"


def options(folder: Path, name: str, engine: str = "native", **more: object) -> BootOptions:
    """A board that runs the loops, with a profile and names for both."""
    image, symbols = folder / "loops.bin", folder / "System.map"
    image.write_bytes(assemble(LOOPS.format(end=POWER_OFF), 0x8000_0000))
    symbols.write_text(f"{0x8000_0000:016x} T short\n{0x8000_0010:016x} T long\n")
    made = BootOptions(
        image=str(image), memory="16M", engine=engine, profile=str(folder / name), profile_every=1001,
        observe=ObserveOptions(symbols=(f"M={symbols}",)),
    )  # fmt: skip
    return replace(made, **more)  # type: ignore[arg-type]


def counts(text: str) -> dict[str, int]:
    """Collapsed stacks by stack."""
    return {stack: int(count) for stack, count in (line.rsplit(" ", 1) for line in text.splitlines())}


@pytest.mark.parametrize("engine", ["native", pytest.param("reference", marks=pytest.mark.slow)])
def test_collapsed_stacks_have_levels_and_functions(engine: str, tmp_path: Path) -> None:
    """Each sample counts for its hart, level and function: three times as many where three times as much was done."""
    report = boot(options(tmp_path, "p.folded", engine, observe=options(tmp_path, "x").observe))
    found = counts((tmp_path / "p.folded").read_text())
    assert set(found) == {"hart 0;M;short", "hart 0;M;long"}
    assert sum(found.values()) == report.result.instructions // 1001
    assert 2.8 < found["hart 0;M;long"] / found["hart 0;M;short"] < 3.2


def test_speedscope_has_a_profile_for_each_hart(tmp_path: Path) -> None:
    """Speedscope's file has the same samples, with weights in instructions."""
    boot(options(tmp_path, "p.json", smp=2))
    data = json.loads((tmp_path / "p.json").read_text())
    assert [p["name"] for p in data["profiles"]] == ["hart 0", "hart 1"]
    for profile in data["profiles"]:
        assert profile["endValue"] == sum(profile["weights"]) and profile["endValue"] % 1001 == 0
        names = [data["shared"]["frames"][at]["name"] for at in profile["samples"][0]]
        assert names[0] == "M" and names[1] in ("short", "long")


@pytest.mark.parametrize("harts", [1, 2])
def test_a_run_with_a_profile_is_the_same_run(harts: int, tmp_path: Path) -> None:
    """Samples change nothing of what the machine does, and each hart has its own after each so many instructions."""
    plain = boot(options(tmp_path, "x.txt", smp=harts, profile=None, profile_every=None))
    sampled = boot(options(tmp_path, "p.txt", smp=harts))
    assert sampled.result == plain.result
    found = counts((tmp_path / "p.txt").read_text())
    for hart in range(harts):
        own = sum(n for stack, n in found.items() if stack.startswith(f"hart {hart};"))
        assert abs(own - plain.result.instructions / harts / 1001) < 2


@pytest.mark.parametrize("vcpus", [1, 2])
def test_a_guest(vcpus: int, tmp_path: Path) -> None:
    """`run --profile` samples the guest's own instructions, in VS-mode."""
    end = "li a7, 0x53525354; li a6, 0; li a0, 0; li a1, 0; ecall"
    image, file = tmp_path / "guest.bin", tmp_path / "p.txt"
    image.write_bytes(assemble(LOOPS.format(end=end), 0x8020_0000))
    made = RunOptions(str(image), settings("linux-7.2"), memory="16M", smp=vcpus, profile=str(file), profile_every=1001)
    report = run_guest(made)
    found = counts(file.read_text())
    assert report.result.reason == "exit"
    assert set(found) == {"hart 0;VS;0x80200000"}
    assert abs(sum(found.values()) - report.result.instructions // 1001) <= 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"profile": "p.svg"}, r"does not say in which format \(its name ends in .txt or .folded"),
        ({"profile": None}, "--profile-every: needs a file"),
        ({"profile": "/nowhere/p.txt"}, "there is no directory"),
        ({"debug": DebugOptions("1234")}, "goes without a debugger"),
    ],
)
def test_what_cannot_be_is_said(more: dict[str, object], said: str, tmp_path: Path) -> None:
    """An ending without a format, a number without a file, a folder that is not there, a debugger."""
    with pytest.raises(UsageError, match=said):
        boot(options(tmp_path, "p.txt", **more))


def test_numbers_are_no_names_of_code(tmp_path: Path) -> None:
    """A constant of an assembler is a symbol that lies in no segment: it names no pc."""
    path = tmp_path / "program.elf"
    path.write_bytes(write_elf([Part(0x8000_0000, bytes(64))], {"SIZE": 0x1000, "_start": 0x8000_0000}, 0x8000_0000))
    for symbols in (read_symbols([str(path)]), symbols_of(str(path))):
        assert symbols.name("VS", 0x1004) is None
        assert symbols.name("VS", 0x8000_0004) == "_start+0x4"
