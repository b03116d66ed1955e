"""Sizes and memory slots as users write them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from trapline.kvm.uapi.slots import SlotKind
from trapline.vmm.arguments import SlotArgument, parse_memory, parse_size, parse_slot, require_no_overlap


@pytest.mark.parametrize(
    ("text", "size"),
    [("4096", 4096), ("0x1000", 4096), ("64K", 65536), ("256M", 256 << 20), ("4GiB", 4 << 30), ("1t", 1 << 40)],
)
def test_sizes(text: str, size: int) -> None:
    """Numbers in both bases, with binary units."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1", "12Q", "1.5G", "0", "0K"])
def test_bad_sizes_are_shown(text: str) -> None:
    """What is not a size is refused with the text."""
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        parse_size(text)


@pytest.mark.parametrize("text", ["64K", "1000001"])
def test_memory_is_whole_pages_and_not_tiny(text: str) -> None:
    """A machine's memory has a least size and page granularity."""
    with pytest.raises(ValueError, match=text):
        parse_memory(text)


@pytest.mark.parametrize("text", ["", "64Q", "0", "1e9", "-1"])
def test_a_bad_memory_size_is_named_as_such(text: str) -> None:
    """A size that is none says which of a command's sizes it is."""
    with pytest.raises(ValueError, match=rf"^memory: size '{text}'"):
        parse_memory(text)


@pytest.mark.parametrize("text", ["65536T", "99999999999999999999G", hex((1 << 56) - 0x80000000 + 4096)])
def test_memory_ends_within_physical_addresses(text: str) -> None:
    """RAM starts at 0x80000000, and an address has 56 bits: more memory than lies between has no address."""
    with pytest.raises(ValueError, match="beyond the 56 bits of physical addresses"):
        parse_memory(text)
    assert parse_memory(hex((1 << 56) - 0x80000000)) == (1 << 56) - 0x80000000


def test_slots(tmp_path: Path) -> None:
    """The three words are kinds, anything else is a path, which may hold colons."""
    path = tmp_path / "a:b.bin"
    path.write_bytes(bytes(8192))
    assert parse_slot("0x1000:4K:ram") == SlotArgument(0x1000, 4096, SlotKind.RAM)
    assert parse_slot("4096:4K:ro").kind is SlotKind.READ_ONLY
    assert parse_slot("0xc0000000:1M:hole").kind is SlotKind.HOLE
    assert parse_slot(f"0x1000:8K:{path}") == SlotArgument(0x1000, 8192, SlotKind.FILE, path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0x1000:4K", "write GPA:SIZE:ram, :ro, :hole, :none or :PATH"),
        ("here:4K:ram", "'here' is not an address"),
        ("0x1000:lots:ram", "size 'lots'"),
        ("0x1001:4K:ram", "must be multiples of 0x1000"),
        ("0x1000:5000:ram", "must be multiples of 0x1000"),
        ("0x1000:4K:/nonexistent/file", "/nonexistent/file: No such file or directory"),
    ],
)
def test_bad_slots_say_what_is_wrong(text: str, message: str) -> None:
    """One line with the argument and the reason."""
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        parse_slot(text)
    assert repr(text) in str(caught.value)


def test_a_file_shorter_than_its_slot(tmp_path: Path) -> None:
    """A file must fill its slot."""
    path = tmp_path / "short"
    path.write_bytes(b"x")
    with pytest.raises(ValueError, match="has 0x1 bytes, the slot 0x1000"):
        parse_slot(f"0x1000:4K:{path}")


def test_overlapping_slots_are_both_named() -> None:
    """An overlap shows both ranges."""
    slots = [SlotArgument(0x1000, 0x2000, SlotKind.RAM), SlotArgument(0x2000, 0x1000, SlotKind.HOLE)]
    with pytest.raises(ValueError, match=r"\[0x1000..0x2fff\] ram and \[0x2000..0x2fff\] hole"):
        require_no_overlap(slots)
