"""docs/ci.md: the policy and the commands that it shows, run as they stand but for fewer events."""

from __future__ import annotations

import contextlib
import re
import shlex
from pathlib import Path

import pytest

from trapline.cli.main import main
from trapline.isa.assemble import assemble

PAGE = Path(__file__).resolve().parents[2] / "docs" / "ci.md"
OPENSBI = Path("/usr/lib/riscv64-linux-gnu/opensbi/generic/fw_dynamic.bin")
# One guest, which makes one call; then SRST, with the reason "failure" if it was not a call of VS-mode.
HYPERVISOR = """
    la t0, back; csrw stvec, t0
    li t0, 1 << 7 | 1 << 8; csrs hstatus, t0
    li t0, 1 << 8; csrs sstatus, t0
    la t0, guest; csrw sepc, t0
    sret
guest:
    ecall
    .align 2
back:
    csrr t0, scause
    li a1, 0
    li t1, 10
    beq t0, t1, 1f
    li a1, 1
1:  li a7, 0x53525354
    li a6, 0
    li a0, 0
    ecall
"""


def test_the_commands_of_the_page_do_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The three commands pass on an unchanged project; a system call without a handler is a new failure."""
    if not OPENSBI.exists():
        pytest.skip("Debian's opensbi is not installed")
    text = PAGE.read_text()
    (policy,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (commands,) = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    with contextlib.chdir(tmp_path):
        Path("policy.toml").write_text(policy)
        Path("fw_dynamic.bin").write_bytes(OPENSBI.read_bytes())
        Path("hypervisor.bin").write_bytes(assemble(HYPERVISOR, 0x8020_0000))
        assert main(["audit", "policy.toml", "--event", "syscall", "--json", "baseline.json"]) == 1
        for line in commands.splitlines():
            words = shlex.split(line)[1:]
            words = [re.sub(r"^illegal\|.*", "^illegal$", word) for word in words]
            assert main([*words, *(["--event", "syscall"] if words[0] == "audit" else [])]) == 0, line
        assert {"boot.json", "firmware.xml", "audit.xml", "found"} <= {p.name for p in tmp_path.iterdir()}
        Path("policy.toml").write_text(policy.replace('"syscall", ', "").replace('"kill"', '"exit"'))
        capsys.readouterr()
        assert main([*words, "--event", "syscall"]) == 1
        assert "12 new failures" in capsys.readouterr().out
