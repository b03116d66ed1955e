"""A real kernel, its KVM and OpenSBI for slow tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trapline.conform.board import Host
from trapline.conform.conform import ISA
from trapline.conform.program import build


def real_host() -> Host:
    """Return what the environment names; the test is skipped if it names none."""
    names = ("TRAPLINE_TEST_IMAGE", "TRAPLINE_TEST_KVM")
    if any(name not in os.environ for name in names):
        pytest.skip(f"{' or '.join(names)} is not set")
    bios = os.environ.get("TRAPLINE_TEST_BIOS", "/usr/lib/riscv64-linux-gnu/opensbi/generic/fw_dynamic.bin")
    image, module = (Path(os.environ[name]) for name in names)
    return Host(Path(bios), image, (module,), build(), ISA)
