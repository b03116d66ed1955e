"""The documentation as a site, its notebooks, and the commands of the page for newcomers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from doc_blocks import ROOT, documents, execute
from tests.small_elf import elf

from trapline.isa.assemble import assemble

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
_COMMAND = re.compile(r"`(trapline [^`]*)`")
_ANCHOR = re.compile(r"\]\(([^)#:]*)#([^)]+)\)")
CROSS = "riscv64-linux-gnu-"
ENDS = "; li t0, 0x100000; li t1, 0x5555; sw t1, 0(t0); 1: j 1b"


def newcomers_commands() -> list[str]:
    """The commands in the tables of docs/coming-from.md."""
    lines = (ROOT / "docs" / "coming-from.md").read_text(encoding="utf-8").splitlines()
    cells = [line.split("|")[-2] for line in lines if line.startswith("|")]
    return list(dict.fromkeys(found for cell in cells for found in _COMMAND.findall(cell)))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the page's commands name."""
    folder = tmp_path_factory.mktemp("newcomer")
    source = ".globl _start, begin_signature, end_signature\n_start:\nbegin_signature: nop; nop\nend_signature:\n"
    (folder / "prog.s").write_text(source + ENDS.replace(";", "\n") + "\n")
    command = [
        f"{CROSS}gcc",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-Wl,-Ttext=0x80000000,--build-id=none",
        "-o",
        "prog.elf",
        "prog.s",
    ]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    firmware = "la t0, 1f; csrw mtvec, t0; li t0, 0x80200000; jr t0; .align 2; 1: nop" + ENDS
    (folder / "fw.elf").write_bytes(elf(0x8000_0000, [(0x8000_0000, assemble(firmware, 0x8000_0000))]))
    calls = "li a7, 0x10; li a6, 0; ecall; li a7, 0x53525354; li a6, 0; li a0, 0; li a1, 0; ecall" + ENDS
    (folder / "guest.elf").write_bytes(elf(0x8020_0000, [(0x8020_0000, assemble(calls, 0x8020_0000))]))
    (folder / "System.map").write_text("0000000080200000 T _start\n")
    (folder / "initrd.img").write_bytes(bytes(512))
    (folder / "disk.img").write_bytes(bytes(4096))
    (folder / "share").mkdir()
    return folder


@pytest.mark.parametrize("command", newcomers_commands())
def test_commands_for_newcomers(command: str, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command of ours in docs/coming-from.md runs as it stands."""
    monkeypatch.chdir(files)
    output = execute(command)
    assert not re.search(r"^(trapline: |Usage:)|usage error", output, re.MULTILINE), output


def test_anchors() -> None:
    """A link to a heading of a page leads to a heading."""
    slugs: dict[Path, set[str]] = {}
    for page in documents():
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        slugs[page] = {re.sub(r"[^\w\- ]", "", t.replace("`", "").lower()).strip().replace(" ", "-") for t in titles}
    for page in documents():
        for target, anchor in _ANCHOR.findall(page.read_text(encoding="utf-8")):
            there = (page.parent / target).resolve() if target else page
            if there in slugs:
                assert anchor in slugs[there], f"{page.name}: {target}#{anchor}"


def test_the_nav_names_pages_that_exist() -> None:
    """Each page that mkdocs.yml names is there."""
    names = re.findall(r"^ +- (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(names) > 25
    for name in names:
        assert (ROOT / "docs" / name).exists(), name


def test_the_site_builds(tmp_path: Path) -> None:
    """mkdocs finds no broken link or anchor, in the pages and in what they take along."""
    pytest.importorskip("material", reason="pip install 'trapline[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "gdb" / "index.html").exists()
    assert "fonts.googleapis.com" not in (tmp_path / "site" / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks(path: Path) -> None:
    """Each notebook runs, and prints what stands in it."""
    nbformat = pytest.importorskip("nbformat", reason="pip install 'trapline[docs]'")
    client = pytest.importorskip("nbclient", reason="pip install 'trapline[docs]'")
    pytest.importorskip("ipykernel", reason="pip install 'trapline[docs]'")
    notebook = nbformat.read(path, as_version=4)
    documented = _printed(notebook)
    assert any(documented)
    client.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    assert _printed(notebook) == documented


def _printed(notebook: object) -> list[str]:
    """What each cell wrote to standard output."""
    return [
        "".join(o.text for o in cell.get("outputs", ()) if o.output_type == "stream" and o.name == "stdout")
        for cell in notebook.cells  # type: ignore[attr-defined]
    ]


def test_notebooks_are_small() -> None:
    """A notebook holds text, not pictures: less than 8 KiB."""
    assert len(NOTEBOOKS) >= 3
    assert all(path.stat().st_size < 8192 for path in NOTEBOOKS)
