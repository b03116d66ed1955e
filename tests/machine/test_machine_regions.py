"""Physical memory regions."""

from __future__ import annotations

from pathlib import Path

import pytest
from machine_fakes import FakeHart

from trapline.lang.memory import host_load
from trapline.lang.state.words import REGIONS
from trapline.session.regions import KIND_DEVICE, KIND_HOLE, KIND_RAM, KIND_ROM, Regions


class Probe:
    """A device that remembers."""

    def load(self, hart: object, offset: int, size: int) -> int:
        """Return a constant."""
        return 7

    def store(self, hart: object, offset: int, size: int, value: int) -> None:
        """Ignore."""


def test_regions_are_installed_sorted_by_address() -> None:
    """A hart sees the regions in order of address, with kind, host address and no-execute flag."""
    regions, hart, probe = Regions(), FakeHart(), Probe()
    ram = regions.ram("RAM", 0x8000_0000, 0x10000)
    regions.rom("ROM", 0x1000, 0x1000)
    regions.device("probe", 0x1000_0000, 0x100, probe)
    regions.hole("hole", 0x4000_0000, 0x1000)
    regions.install(hart)
    count = int(hart.region_count)
    assert [int(hart.region_base[i]) for i in range(count)] == [0x1000, 0x1000_0000, 0x4000_0000, 0x8000_0000]
    assert [int(hart.region_kind[i]) for i in range(count)] == [KIND_ROM, KIND_DEVICE, KIND_HOLE, KIND_RAM]
    assert hart.devices == {1: probe}
    regions.write(0x8000_0008, b"\x2a\0\0\0")
    assert int(host_load(hart.region_host[3] + 8, 4)) == 0x2A
    assert ram.host == int(hart.region_host[3])


def test_two_harts_share_the_same_memory() -> None:
    """The same host memory stands behind both harts' regions."""
    regions, one, two = Regions(), FakeHart(), FakeHart()
    regions.ram("RAM", 0x8000_0000, 0x1000)
    regions.install(one)
    regions.install(two)
    assert one.region_host[0] == two.region_host[0]


def test_an_overlap_names_both_regions() -> None:
    """The error of an overlap shows both names and both ranges."""
    regions = Regions()
    regions.ram("RAM", 0x8000_0000, 0x2000)
    with pytest.raises(
        ValueError, match=r"flash \[0x80001000\.\.0x80001fff\] overlaps RAM \[0x80000000\.\.0x80001fff\]"
    ):
        regions.rom("flash", 0x8000_1000, 0x1000)


@pytest.mark.parametrize(("base", "size"), [(0x8000_0100, 0x1000), (0x8000_0000, 0x123), (0x8000_0000, 0)])
def test_odd_memory_is_refused(base: int, size: int) -> None:
    """Memory that is not whole pages, or empty, is an error."""
    with pytest.raises(ValueError, match="RAM"):
        Regions().ram("RAM", base, size)


def test_the_number_of_regions_is_limited_with_a_message() -> None:
    """One region more than the hart's table holds is an error that names it."""
    regions = Regions()
    for i in range(REGIONS):
        regions.hole(f"h{i}", i * 0x1000, 0x1000)
    with pytest.raises(ValueError, match=f"more than {REGIONS} memory regions: no room for last"):
        regions.hole("last", REGIONS * 0x1000, 0x1000)


def test_adjacent_ram_is_one_range() -> None:
    """The ranges of RAM that messages show join neighbours and leave other kinds out."""
    regions = Regions()
    regions.ram("a", 0x8000_0000, 0x1000)
    regions.ram("b", 0x8000_1000, 0x2000)
    regions.rom("c", 0x8000_3000, 0x1000)
    assert regions.ram_ranges() == [(0x8000_0000, 0x3000)]


def test_reading_outside_memory_is_an_error() -> None:
    """Loaders cannot leave memory."""
    regions = Regions()
    regions.ram("RAM", 0x8000_0000, 0x1000)
    with pytest.raises(ValueError, match="no memory at 0x1000"):
        regions.read(0x1000, 1)
    with pytest.raises(ValueError, match="does not lie in memory"):
        regions.read(0x8000_0FFF, 2)


def test_file_memory_is_private(tmp_path: Path) -> None:
    """File-backed memory shows the file and never writes to it."""
    path = tmp_path / "data.bin"
    path.write_bytes(b"x" * 4096)
    regions = Regions()
    with path.open("rb") as file:
        regions.ram("file", 0x1000, 0x1000, file=file)
    regions.write(0x1000, b"y")
    assert regions.read(0x1000, 2) == b"yx"
    assert path.read_bytes() == b"x" * 4096
