"""Whoever walks the table of instructions sees all of them, whatever else the process has done."""

from __future__ import annotations

import subprocess
import sys

import pytest

_ISA = "from trapline.privilege.isa_string import DEFAULT_ISA; "


@pytest.mark.parametrize(
    "code",
    [
        "import random; from trapline.fuzz.make import Maker\nfound = Maker(DEFAULT_ISA, 'VU', random).groups",
        "from trapline.verify.stream_code import CodeGenerator as C\nfound = C(set('IMAFDCH')).by_name",
        "from trapline.verify.coverage import reachable_instructions\nfound = reachable_instructions({'I', 'M', 'H'})",
        "from trapline.verify.lockstep import _every_extension\nfound = sorted(_every_extension().enabled)",
        "from trapline.lab.audit.checks import _decoder\nfound = sorted(_decoder().enabled)",
    ],
)
def test_a_new_process_sees_every_instruction(code: str) -> None:
    """A process that has not decoded anything finds as many instructions as one that declared them."""
    lines = f"{_ISA}{code}\nprint(sorted(found))"
    bare, declared = (
        subprocess.run([sys.executable, "-c", ahead + lines], capture_output=True, text=True, check=True).stdout
        for ahead in ("", "import trapline.isa.all; ")
    )
    assert bare == declared
