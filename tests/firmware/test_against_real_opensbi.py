"""The model opensbi-1.1 against Debian's OpenSBI 1.1 itself, run on the same hart in M-mode."""

from __future__ import annotations

from pathlib import Path

import pytest
from opensbi_probe import BASE, LOG, program, records

from trapline.firmware.firmware import Firmware
from trapline.isa.assemble import assemble
from trapline.machine.machine import Machine

OPENSBI = Path("/usr/lib/riscv64-linux-gnu/opensbi/generic/fw_jump.bin")
MEMORY = 64 << 20


def real(code: bytes, directory: Path, tinst: str) -> list[tuple[int, ...]]:
    """Boot OpenSBI with the program behind it."""
    machine = Machine(memory=MEMORY, tinst=tinst)
    (directory / "probe.bin").write_bytes(code)
    machine.boot_bios(OPENSBI, directory / "probe.bin")
    assert machine.run(max_instructions=50_000_000).reason == "exit"
    return records(machine.regions.read(LOG, 0x4000))


def hosted(code: bytes, tinst: str) -> list[tuple[int, ...]]:
    """Run the program under the model."""
    machine = Machine(memory=MEMORY, tinst=tinst)
    machine.regions.write(BASE, code)
    firmware = Firmware("opensbi-1.1")
    machine.on_hosted = lambda hart, reason: firmware.handle(hart)
    firmware.setup(machine.harts[0], BASE)
    assert machine.run(max_instructions=1_000_000).reason == "exit"
    return records(machine.regions.read(LOG, 0x4000))


@pytest.mark.parametrize("tinst", ["zero", "transformed"])
@pytest.mark.parametrize("hedeleg", [0, 0xB109, 0xB1FF])
@pytest.mark.parametrize("mode", ["VS", "VU"])
def test_model_agrees_with_the_real_firmware(mode: str, hedeleg: int, tinst: str, tmp_path: Path) -> None:
    """Every event arrives in the same mode with the same CSRs, and emulated accesses give the same values."""
    if not OPENSBI.exists():
        pytest.skip("Debian's opensbi is not installed")
    code = assemble(program(mode, hedeleg, 0x8000_0000 + MEMORY), BASE)
    expected, found = real(code, tmp_path, tinst), hosted(code, tinst)
    assert found == expected
    assert len(found) > 40
