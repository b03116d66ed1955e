"""`--observe` and `--symbols`: names from every kind of file, kernels that have moved, files that are no good."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from trapline.isa.assemble import assemble
from trapline.lab.boot import BootOptions, boot
from trapline.lab.errors import UsageError
from trapline.lab.guest_run import RunOptions, run_guest
from trapline.lab.observe import Live, ObserveOptions
from trapline.lab.settings import settings
from trapline.lab.symbols import read_symbols
from trapline.session.observe.observer import Kind, Observer
from trapline.views.observe import show_observation
from trapline.views.terminal import number

KALLSYMS = """\
ffffffff80000000 T _start
ffffffff80001000 T handle_exception
ffffffff80001100 t do_page_fault
ffffffff80002000 D some_data
ffffffff02000000 t kvm_riscv_vcpu_exit\t[kvm]
"""


@pytest.fixture
def kallsyms(tmp_path: Path) -> Path:
    """A small kallsyms."""
    path = tmp_path / "kallsyms"
    path.write_text(KALLSYMS)
    return path


def test_names_of_functions_and_modules(kallsyms: Path) -> None:
    """A pc gets the function before it, and its module."""
    symbols = read_symbols([str(kallsyms)])
    assert symbols.name("HS", 0xFFFF_FFFF_8000_1000) == "handle_exception"
    assert symbols.name("HS", 0xFFFF_FFFF_8000_1104) == "do_page_fault+0x4"
    assert symbols.name("HS", 0xFFFF_FFFF_0200_0010, exact=False) == "kvm_riscv_vcpu_exit [kvm]"
    assert symbols.name("HS", 0x1000) is None
    assert symbols.name("U", 0xFFFF_FFFF_8000_1000) is None


def test_a_level_may_have_its_own_file(kallsyms: Path, tmp_path: Path) -> None:
    """LEVEL=FILE names that level's code only, and goes before files without a level."""
    other = tmp_path / "guest"
    other.write_text("ffffffff80000000 T guest_start\n")
    symbols = read_symbols([str(kallsyms), f"VS={other}"])
    assert symbols.name("VS", 0xFFFF_FFFF_8000_1000) == "guest_start+0x1000"
    assert symbols.name("HS", 0xFFFF_FFFF_8000_1000) == "handle_exception"


def test_a_kernel_that_has_moved_is_recognised(kallsyms: Path) -> None:
    """Where traps are handled tells how far the kernel has moved (KASLR)."""
    symbols = read_symbols([str(kallsyms)])
    moved = 0x1240_0000
    symbols.settle({"HS": [0xFFFF_FFFF_8000_1000 + moved]})
    assert symbols.tables[0].offset == moved
    assert symbols.name("HS", 0xFFFF_FFFF_8000_1100 + moved) == "do_page_fault"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("ffffffffffffffff B The real System.map is in the linux-image-<version>-dbg package\n", "placeholder"),
        ("0000000000000000 T _start\n0000000000000000 T other\n", "all addresses are zero"),
        ("hello\n", "no symbol of a function"),
        ("", "no symbol of a function"),
    ],
)
def test_files_without_names_are_refused(tmp_path: Path, content: str, words: str) -> None:
    """The message names the file, what is wrong with it, and what to take instead."""
    path = tmp_path / "System.map"
    path.write_text(content)
    with pytest.raises(UsageError, match=words) as caught:
        read_symbols([str(path)])
    assert str(path) in str(caught.value)
    with pytest.raises(UsageError, match="No such file"):
        read_symbols([str(tmp_path / "none")])


def test_an_observed_boot_names_its_code(tmp_path: Path) -> None:
    """The report has handler, places and functions by name, from an ELF's own symbols."""
    from machine_program import program

    path = program(tmp_path)
    report = boot(BootOptions(str(path), max_instructions=3000, observe=ObserveOptions(symbols=(f"M={path}",))))
    assert report.seen is not None
    data = report.as_data()["observed"]
    (trap,) = data["traps"]
    assert (trap["name"], trap["from"], trap["to"]) == ("machine-syscall", "M", "M")
    assert trap["handler"]["symbol"] == "handler"
    assert trap["raised_at"][0]["symbol"].startswith("main")
    assert [f["name"] for f in trap["functions"]] == ["handler", "inner"]
    assert trap["round_trips"][0]["instructions"]["mean"] == 6.0


def test_the_live_view_writes_rates() -> None:
    """Each line has the time, the instructions so far, and the busiest kinds by the second."""

    class Fake(Observer):
        def __init__(self) -> None:
            self.n = 0

        def counts(self) -> Counter[Kind]:
            self.n += 1000
            return Counter({Kind(8, "U", "HS"): self.n})

    lines: list[str] = []
    live = Live(Fake(), lambda: 5_000_000, lines.append, every=0.0)
    live()
    live()
    assert "syscall U>HS" in lines[0]
    assert "/s" in lines[1]
    assert "5 M" in lines[1]


def test_a_hosted_level_retires_nothing(tmp_path: Path) -> None:
    """Under `run` the guest's own handlers are measured; a hosted level shows what it is estimated to execute."""
    path = tmp_path / "guest.bin"
    source = """
        la t0, handler
        csrw stvec, t0
    1:  ebreak
        li t0, 0x10000000
        lbu t0, 5(t0)
        j 1b
    .align 2
    handler:
        csrr t1, sepc
        addi t1, t1, 4
        csrw sepc, t1
        sret
    """
    path.write_bytes(assemble(source, 0x8020_0000))
    options = RunOptions(str(path), settings(), max_instructions=2000, observe=ObserveOptions(on=True))
    seen = run_guest(options).seen
    assert seen is not None
    assert seen.hosted == ("M", "HS")
    by_name = {k.kind.name: k for k in seen.kinds}
    assert by_name["breakpoint"].trips[0].path == ("VS", "VS")
    assert by_name["breakpoint"].trips[0].mean == 4.0
    assert by_name["load-guest-page-fault"].trips[0].most == 0
    shown = io.StringIO()
    show_observation(Console(file=shown, width=110), seen)
    line = next(row for row in shown.getvalue().splitlines() if row.startswith("load-guest-page-fault"))
    (cost,) = by_name["load-guest-page-fault"].hosted.values()
    assert line.count(f"~{number(cost.hs)}") == 4
