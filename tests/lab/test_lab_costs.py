"""Measured costs: the loops, the split by symbol, the file of measurements and the estimates taken from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trapline.conform.costs import QEMU, CostRow, CostTable, Symbols, parts_of, record
from trapline.conform.loops import BY_NAME, LOOPS, RAM, TABLE, encode, files, rounds_of
from trapline.conform.port import Window
from trapline.firmware import cost as firmware_cost
from trapline.firmware.models import MODELS
from trapline.kvm.report import cost as kvm_cost
from trapline.privilege.modes import MODE_HS, MODE_M, MODE_U, MODE_VS

SYMBOLS = """ffffffff80000000 T _start
ffffffff80000100 t do_trap
ffffffff80000108 t .L0
ffffffff01000000 t kvm_exit\t[kvm]
ffffffff01000100 t other\t[fuse]
"""


def test_loops_assemble() -> None:
    """Every loop is code and a page table behind it, and has its file and line."""
    for loop in LOOPS:
        assert len(encode(loop, 10)) == TABLE - RAM + 0x1000
    made = files(LOOPS, 10)
    assert made["loops.txt"].decode().splitlines()[0] == "nothing 0x200000"
    assert len(made) == len(LOOPS) + 1
    assert rounds_of(BY_NAME["touch"], 10_000) == 4000


def test_instructions_by_symbol() -> None:
    """Stepped instructions are split by mode, HS-mode by module and function; labels are no functions."""
    symbols = Symbols(SYMBOLS)
    kernel, kvm, fuse = 0xFFFFFFFF_80000000, 0xFFFFFFFF_01000000, 0xFFFFFFFF_01000100
    steps = (
        (kernel + 0x10A, MODE_HS),
        (kvm + 8, MODE_HS),
        (fuse, MODE_HS),
        (0x10000, MODE_U),
        (RAM, MODE_VS),
        (9, MODE_M),
    )
    parts, functions = parts_of(Window({}, {}, {}, steps), symbols)
    assert parts == {"kernel": 2, "kvm": 1, "user": 1, "guest": 1, "M": 1}
    assert functions == {"kernel do_trap": 1, "kvm kvm_exit": 1, "kernel other": 1}


def test_measurements_are_merged(tmp_path: Path) -> None:
    """A new measurement replaces its own kernel and firmware and leaves the others."""
    row = CostRow(BY_NAME["hstatus"], 10, {"HS": 1000.4, "U": 3.0}, 0, {"kvm": 700.0})
    path = tmp_path / "measured.json"
    for release, firmware in (("6.12.1-x", "opensbi-1.6"), ("7.2.0", "opensbi-1.6"), ("6.12.1-x", "opensbi-1.9")):
        record([CostTable(release, firmware, "rv64", [row], {"illegal": 377})], path)
    data = json.loads(path.read_text())
    assert set(data["kernels"]) == {"6.12", "7.2"}
    assert set(data["firmware"]) == {"1.6", "1.9"}
    assert data["kernels"]["7.2"]["rows"]["hstatus"] == {"kvm": 700, "kernel": 300, "user": 3}


@pytest.mark.parametrize(
    ("version", "measured"), [("6.12", "6.12"), ("5.16", "6.12"), ("", "6.12"), ("7.1", "6.12"), ("7.3", "7.2")]
)
def test_a_version_takes_the_newest_kernel_measured_before_it(version: str, measured: str) -> None:
    """Estimates name the kernel that they were measured on."""
    assert kvm_cost.measured_version(version) == measured
    assert f"Linux {measured}." in kvm_cost.estimate("mmio", "vmm", version).source


def test_every_estimate_has_a_measurement() -> None:
    """Each way through KVM and each firmware event has a number; the source says how it was got."""
    for version in ("6.12", "7.2"):
        assert all(kvm_cost.estimate(*how.split(":"), version=version).hs > 0 for how in kvm_cost.LOOPS)
    for model in MODELS.values():
        for event in (*firmware_cost.PROBES, *firmware_cost.SPIKE_1_1, *firmware_cost.LIKE, "sbi srst"):
            assert firmware_cost.cost_of(event, model.measured_on).instructions > 100
    assert firmware_cost.cost_of(firmware_cost.ILLEGAL, "1.6").instructions == 377


@pytest.mark.parametrize("version", ["6.12", "7.2"])
def test_measured_here_and_on_qemu(version: str) -> None:
    """What was recorded lies within 3 % of what QEMU counted, M-mode and the loop's own instructions included."""
    rows = firmware_cost.measurements()["kernels"][version]["rows"]
    machine = firmware_cost.measurements()["firmware"]["1.6"]["instructions"]
    for name, counted in QEMU[version].items():
        m = machine.get("illegal-to-vs" if (name, version) == ("illegal", "7.2") else name, 0)
        total = m + sum(rows[name].values()) + (6 if m or name == "hstatus" else 2)
        assert abs(total - counted) < 0.03 * counted, name
