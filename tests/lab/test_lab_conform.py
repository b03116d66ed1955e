"""Conformance runs: both sides get the same probes, a comparison can fail, real kernels agree with their presets."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from real_host import real_host

from trapline.conform import port
from trapline.conform.compare import compare, load_accepted
from trapline.conform.conform import ISA, conform, preset_of
from trapline.conform.costs import ISA as COSTS_ISA
from trapline.conform.cpio import initramfs
from trapline.conform.hosted import run_hosted
from trapline.conform.hosts import hosts
from trapline.conform.linux import boot_guest
from trapline.conform.payload import WARM_UP, payload
from trapline.conform.program import COMPILER, build
from trapline.conform.seen import CSRS, REGISTERS, Seen, from_report, without_end
from trapline.fetch.store import Store
from trapline.lab.errors import UsageError
from trapline.lab.probe import image as probe_image
from trapline.lab.settings import settings
from trapline.machine.machine import Machine
from trapline.privilege.isa_string import extensions

EVENTS = frozenset(("illegal", "mmio-ld", "mmio-amoadd-d", "rdtime"))
REPORT = {
    "event": "illegal", "from": "VU", "turn": 0, "end": "reached", "errno": 0, "exit_reason": 6, "exits": [],
    "log": [[2, 0x1000, 11, 0x100]], "stats": {"exits": 2, "mmio_exit_user": 1},
    "x": list(range(len(REGISTERS))), "csrs": list(range(len(CSRS))), "kernel": ["kvm [1]: VCPU exit error -14"],
}  # fmt: skip


def parse_manifest(text: str) -> list[tuple[str, str, int, int]]:
    """Return the entries of a manifest: event, mode, start, the page that only this entry touches."""
    found = []
    for line in text.splitlines():
        kind, *words = line.split()
        if kind == "entry":
            found.append((words[0], words[1], int(words[2], 16), int(words[3], 16)))
    return found


def test_both_sides_get_the_same_probes() -> None:
    """The payload is the route's image, byte for byte but for the warm-up, and the manifest has its entries."""
    image = probe_image.build(frozenset(extensions(ISA)))
    load = payload(image)
    assert parse_manifest(load.manifest) == [(e.event.id, e.mode, e.start, e.virgin) for e in image.entries]
    changed = [n for n, (a, b) in enumerate(zip(load.data, image.data, strict=True)) if a != b]
    assert changed[0] >= WARM_UP - probe_image.RAM
    assert changed[-1] < WARM_UP - probe_image.RAM + 0x1000
    assert f"slot {probe_image.HOLE:#x} {probe_image.HOLE_SIZE:#x} hole" in load.manifest


def test_a_report_is_read() -> None:
    """A line of the program becomes what the hosted side would say, without the write that ends the event."""
    seen = from_report(json.loads(json.dumps(REPORT)))
    seen.traps = {(2, "VU", "M"): 1, (23, "VU", "HS"): 1}
    without_end(seen)
    assert (seen.outcome(), seen.kernel) == ("guest 2", ["VCPU exit error -14"])
    assert (seen.stats, seen.traps) == ({"exits": 1}, {(2, "VU", "M"): 1})
    assert seen.registers["mode"] == len(REGISTERS) - 1


@pytest.fixture(scope="module")
def hosted() -> dict[tuple[str, str], Seen]:
    """What linux-6.12 does with a few events."""
    return run_hosted(settings("linux-6.12"), ISA, only=EVENTS)


def test_outcomes_of_the_hosted_side(hosted: dict[tuple[str, str], Seen]) -> None:
    """The hosted side says what became of an event, and what KVM_RUN handed over."""
    assert hosted["illegal", "VU"].outcome() == "guest 2"
    assert hosted["mmio-amoadd-d", "VS"].outcome() == "killed -95"
    assert hosted["mmio-amoadd-d", "VS"].kernel[0] == "VCPU exit error -95"
    assert hosted["mmio-ld", "VS"].exits == [{"reason": 6, "gpa": probe_image.MMIO_PAGE, "len": 8, "write": 0}]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"errno": 5}, "errno"),
        ({"end": "hung"}, "outcome"),
        ({"kernel": ["VCPU exit error -5"]}, "kernel log"),
        ({"traps": {(23, "VS", "M"): 1}}, "hardware traps"),
        ({"stats": {}}, "counter exits"),
        ({"log": [(2, 0, 0, 0)]}, "guest log"),
        ({"exits": [{"reason": 6}]}, "exits"),
        ({"exit_reason": 35}, "exit reason"),
        ({"registers": {"a0": 1}}, "register a0"),
        ({"csrs": {"stval": 1}}, "csr stval"),
        ({"levels": {"hedeleg": 1}}, "level hedeleg"),
    ],
)
def test_a_comparison_can_fail(hosted: dict[tuple[str, str], Seen], change: dict[str, object], field: str) -> None:
    """Each field that is compared makes a difference; a side equals itself."""
    seen = hosted["mmio-amoadd-d", "VS"]
    assert not compare(seen, seen).differences
    other = dataclasses.replace(seen, **change)  # type: ignore[arg-type]
    row = compare(other, seen, load_accepted())
    assert row.failed
    assert field in {d.field for d in row.differences}


def test_accepted_differences(hosted: dict[tuple[str, str], Seen]) -> None:
    """A difference on the list does not fail a row, and carries its reason and source; others still fail it."""
    seen = hosted["rdtime", "VS"]
    later = dataclasses.replace(seen, registers={**seen.registers, "a0": 12345})
    row = compare(later, seen, load_accepted())
    assert not row.failed
    assert "time" in row.as_data()["differences"][0]["accepted"]["reason"]
    worse = dataclasses.replace(later, errno=5)
    assert compare(worse, seen, load_accepted()).failed


@pytest.mark.parametrize(
    ("text", "says"),
    [('[[difference]]\nfields = ["errno"]\n', "reason"), ("x = [", "Invalid"), ("difference = 3\n", "int")],
)
def test_a_bad_list_is_refused(tmp_path: Path, text: str, says: str) -> None:
    """A list without reasons, or no TOML, is an error that says so."""
    path = tmp_path / "list.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=says):
        load_accepted(path)


@pytest.mark.parametrize(
    ("release", "preset"),
    [("6.12.107+deb13-riscv64", "linux-6.12.107"), ("7.2-rc1", "linux-7.2"), ("7.3+x", "linux-7.3")],
)
def test_preset_of_a_release(release: str, preset: str) -> None:
    """A release names its preset."""
    assert preset_of(release) == preset


def test_an_archive_holds_its_files() -> None:
    """The initramfs holds its files under their names."""
    data = initramfs(b"#!/init", {"guest/Image": b"12345", "modules.txt": b""})
    assert data.startswith(b"070701")
    assert b"guest/Image\0" in data
    assert b"TRAILER!!!\0" in data


def test_a_fetched_kernel_brings_its_module_and_firmware(tmp_path: Path) -> None:
    """Without --kernel a preset's fetched kernel is taken, with the kvm.ko and the OpenSBI that came with it."""
    store = Store(tmp_path)
    tmp_path.joinpath("downloads").mkdir()
    for name, about, files in (
        ("opensbi-1.6", {"kind": "opensbi", "version": "1.6"}, {"fw_dynamic.bin": b"fw"}),
        (
            "linux-6.12.1",
            {"kind": "linux", "version": "6.12.1", "kvm": ["kvm.ko"]},
            {
                "Image": b"kernel", "initramfs.cpio": b"x", "kvm.ko": b"\x7fELF",
            },
        ),
    ):  # fmt: skip
        with store.new(name, about) as directory:
            for file, data in files.items():
                (directory / file).write_bytes(data)
    store.set_suite("trixie", {"linux": "linux-6.12.1", "opensbi": "opensbi-1.6"})
    program = tmp_path / "program"
    program.write_bytes(b"")
    found = hosts(None, (), (), str(program), ISA, "trap", wanted=["linux-6.12"], store=store)
    assert [(h.kernel.name, h.bios.name, [m.name for m in h.modules]) for h in found] == [
        ("Image", "fw_dynamic.bin", ["kvm.ko"])
    ]
    with pytest.raises(UsageError, match="--kernel"):
        hosts(None, (), (), str(program), ISA, "trap", wanted=["linux-7.2"], store=store)


def test_the_port_takes_snapshots_and_reads_memory() -> None:
    """A store to the port is seen with the hart's counters; memory is read through the page table."""
    machine = Machine(memory=1 << 20, engine="reference")
    marks: list[port.Snapshot] = []
    device = port.Port(machine.regions, lambda snapshot, hart: marks.append(snapshot))
    machine.add_device(*port.port_device(device))
    hart, base = machine.harts[0], 0x8000_0000
    device.store(hart, 0, 8, port.MARK)
    hart.trap_count[2 << 5 | 5 << 2] = 3
    hart.mode_instret[5] = 7
    device.store(hart, 0, 8, port.END)
    window = port.between(*marks)
    assert (window.guest_traps, window.instructions["VS"], window.interrupts) == ({(2, "VS", "M"): 3}, 7, 0)
    table = base + 0x1000
    machine.regions.write(table + 8 * 1, ((base >> 12) << 10 | 0xCF).to_bytes(8, "little"))
    machine.regions.write(base + 0x123, b"words")
    hart.satp = 8 << 60 | table >> 12
    device.store(hart, 8, 8, 0x4000_0123)
    device.store(hart, 16, 8, 5)
    assert device.handed_over == [b"words"]


def test_the_program_builds(tmp_path: Path) -> None:
    """The cross compiler builds the program without a warning, static and for RISC-V."""
    if shutil.which(COMPILER) is None:
        pytest.skip(f"no {COMPILER}")
    data = build(tmp_path).read_bytes()
    assert data[:5] == b"\x7fELF\x02"
    assert int.from_bytes(data[18:20], "little") == 243
    assert b"/lib/ld-linux" not in data


# --- real kernels (slow): TRAPLINE_TEST_IMAGE, TRAPLINE_TEST_KVM (its kvm.ko), TRAPLINE_TEST_BIOS (OpenSBI) ---
@pytest.mark.slow
def test_a_real_kernel_conforms_to_its_preset() -> None:
    """Every event under a real kernel ends as under its preset, and the kernel's log lines of a kill are KVM's."""
    result = conform([real_host()])
    assert result.passed, [d for c in result.comparisons for d in c.differences if d.accepted is None][:5]
    comparison = result.comparisons[0]
    assert len(comparison.rows) > 200
    assert sum(len(row.sweep.items) for row in comparison.sweeps) > 20_000
    killed = [row for row in comparison.rows if row.real.end == "killed"]
    assert killed
    assert all(row.real.kernel[0] == f"VCPU exit error -{row.real.errno}" for row in killed)


@pytest.mark.slow
def test_a_wrong_preset_does_not_conform() -> None:
    """A real kernel differs from the preset of a release with other rules."""
    result = conform([real_host()], ["linux-5.19"], event="illegal|hole")
    assert not result.passed


@pytest.mark.slow
def test_no_kvm_is_one_clear_line() -> None:
    """A kernel without its kvm.ko is an error that names the remedy."""
    with pytest.raises(UsageError, match="--module"):
        conform([dataclasses.replace(real_host(), modules=())], event="illegal$")


@pytest.mark.slow
def test_linux_boots_in_linux() -> None:
    """A kernel boots as a guest of its own KVM on the board, to its init and back down."""
    host = dataclasses.replace(real_host(), isa=COSTS_ISA)
    found = boot_guest(host, host.kernel)
    assert (found.end, found.guest_release) == ("shutdown", found.host_release)
    assert found.exits["mmio"] > 1000
    assert found.window.instructions["VS"] > 100_000_000


def test_what_never_ends_is_compared_by_its_traps() -> None:
    """Two sides that hang have the same outcome whenever each was given up, and differ if they hang in other traps."""
    real = dataclasses.replace(Seen("e", "VS", "hung"), traps={(21, "VS", "HS"): 6285}, errno=4)
    hosted = dataclasses.replace(Seen("e", "VS", "hung"), traps={(21, "VS", "HS"): 4000})
    assert not compare(real, hosted).differences
    other = dataclasses.replace(hosted, traps={(23, "VS", "HS"): 4000})
    assert {d.field for d in compare(real, other).differences} == {"hardware traps"}
