"""The plugin for riscof, run by riscof itself where it is installed, on a suite of two tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import trapline.verify.riscof as plugin

HERE = Path(plugin.__path__[0])
HEADER = """
#define RVTEST_ISA(_STR)
#define RVTEST_CASE(_N, _COND, ...)
#define RVTEST_CODE_BEGIN .section .text.init; .globl rvtest_entry_point; rvtest_entry_point: RVMODEL_BOOT
"""
TEST = """
#include "model_test.h"
#include "arch_test.h"
RVTEST_ISA("RV64I")
RVTEST_CODE_BEGIN
#ifdef TEST_CASE_1
RVTEST_CASE(0,"//check ISA:=regex(.*64.*);check ISA:=regex(.*I.*);def TEST_CASE_1=True;",{name})
  la s0, begin_signature
  li a0, 0x123456789abcdef0
  li a1, -77
  {name} a2, a0, a1
  sd a2, 0(s0)
#endif
  RVMODEL_HALT
.data
RVMODEL_DATA_BEGIN
.fill 4, 4, 0xdeadbeef
RVMODEL_DATA_END
"""


@pytest.mark.slow
def test_riscof_passes_with_trapline_as_both_models(tmp_path: Path) -> None:
    """riscof accepts the plugin and its YAML, builds the tests, and finds the signatures of both roles equal."""
    riscof = shutil.which("riscof")
    if riscof is None or shutil.which("riscv64-linux-gnu-gcc") is None:
        pytest.skip("riscof and riscv64-linux-gnu-gcc are not installed")
    tests, env = tmp_path / "suite" / "rv64i_m" / "I" / "src", tmp_path / "env"
    tests.mkdir(parents=True)
    env.mkdir()
    (env / "arch_test.h").write_text(HEADER)
    for name in ("add", "xor"):
        (tests / f"{name}-01.S").write_text(TEST.format(name=name))
    (tmp_path / "config.ini").write_text(
        f"[RISCOF]\nReferencePlugin=trapline\nReferencePluginPath={HERE}\nDUTPlugin=trapline\nDUTPluginPath={HERE}\n\n"
        f"[trapline]\npluginpath={HERE}\nispec={HERE}/trapline_isa.yaml\npspec={HERE}/trapline_platform.yaml\n"
        f"PATH={Path(sys.executable).parent}\ncompiler=riscv64-linux-gnu-gcc\n"
    )
    command = [riscof, "run", "--config", "config.ini", "--suite", "suite", "--env", "env", "--no-browser"]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, "NO_COLOR": "1"}, capture_output=True, check=False)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    signatures = {p.read_text().split()[0] for p in tmp_path.glob("riscof_work/**/*-trapline.signature")}
    assert signatures == {f"{(0x9ABCDEF0 - 77) & 0xFFFF_FFFF:08x}", f"{0x9ABCDEF0 ^ -77 & 0xFFFF_FFFF:08x}"}
    assert said.count("Passed") == 2
