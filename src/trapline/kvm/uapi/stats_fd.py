"""The binary statistics of KVM_GET_STATS_FD (Documentation/virt/kvm/api.rst, section 4.133).

A header of six 32-bit words (flags, name size, number of descriptors, offsets of id, descriptors and
data), the id string, the descriptors, then the data: 64-bit words. All little endian.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from enum import IntEnum

from trapline.dataclass import dataclass
from trapline.lang.state.words import HALT_BUCKETS
from trapline.policies import Policy

NAME_SIZE = 48  # KVM_STATS_NAME_SIZE
HISTOGRAM_BUCKETS = HALT_BUCKETS
_HEADER, _DESCRIPTOR = struct.Struct("<6I"), struct.Struct("<IhHII")


class Kind(IntEnum):
    """Bits 3:0 of a descriptor's flags."""

    CUMULATIVE = 0
    INSTANT = 1
    PEAK = 2
    LINEAR_HIST = 3
    LOG_HIST = 4


class Unit(IntEnum):
    """Bits 7:4 of a descriptor's flags."""

    NONE = 0
    BYTES = 1
    SECONDS = 2
    CYCLES = 3
    BOOLEAN = 4


@dataclass(frozen=True, slots=True)
class Descriptor:
    """struct kvm_stats_desc: what one statistic is. Its unit is scaled by 10 to the `exponent`."""

    name: str
    kind: Kind = Kind.CUMULATIVE
    unit: Unit = Unit.NONE
    exponent: int = 0
    size: int = 1

    def pack(self, offset: int) -> bytes:
        """Return the descriptor of data at `offset` of the data block."""
        flags = self.kind | self.unit << 4
        return _DESCRIPTOR.pack(flags, self.exponent, self.size, offset, 0) + self.name.encode().ljust(NAME_SIZE, b"\0")


def _nanoseconds(name: str, kind: Kind = Kind.CUMULATIVE, size: int = 1) -> Descriptor:
    return Descriptor(name, kind, Unit.SECONDS, -9, size)


# KVM_GENERIC_VCPU_STATS, in its order.
GENERIC_VCPU: tuple[Descriptor, ...] = (
    Descriptor("halt_successful_poll"),
    Descriptor("halt_attempted_poll"),
    Descriptor("halt_poll_invalid"),
    Descriptor("halt_wakeup"),
    _nanoseconds("halt_poll_success_ns"),
    _nanoseconds("halt_poll_fail_ns"),
    _nanoseconds("halt_wait_ns"),
    _nanoseconds("halt_poll_success_hist", Kind.LOG_HIST, HISTOGRAM_BUCKETS),
    _nanoseconds("halt_poll_fail_hist", Kind.LOG_HIST, HISTOGRAM_BUCKETS),
    _nanoseconds("halt_wait_hist", Kind.LOG_HIST, HISTOGRAM_BUCKETS),
    Descriptor("blocking", Kind.INSTANT, Unit.BOOLEAN),
)
GENERIC_VM: tuple[Descriptor, ...] = (Descriptor("remote_tlb_flush"), Descriptor("remote_tlb_flush_requests"))


def vcpu_descriptors(policy: Policy) -> tuple[Descriptor, ...]:
    """The statistics of a vCPU in the release of a policy: the generic ones, then the architecture's."""
    return (*GENERIC_VCPU, *(Descriptor(counter.name) for counter in policy.counters))


def vm_descriptors() -> tuple[Descriptor, ...]:
    """The statistics of a VM; the architecture has none of its own."""
    return GENERIC_VM


def stats_file(identifier: str, descriptors: Sequence[Descriptor], values: Mapping[str, int | Sequence[int]]) -> bytes:
    """Return the whole file; a statistic without a value is 0."""
    id_offset = _HEADER.size
    desc_offset = id_offset + NAME_SIZE
    data_offset = desc_offset + len(descriptors) * (_DESCRIPTOR.size + NAME_SIZE)
    header = _HEADER.pack(0, NAME_SIZE, len(descriptors), id_offset, desc_offset, data_offset)
    table, data = b"", b""
    for descriptor in descriptors:
        table += descriptor.pack(len(data))
        value = values.get(descriptor.name, 0)
        words = [value] if isinstance(value, int) else list(value)
        data += struct.pack(f"<{descriptor.size}Q", *(words + [0] * (descriptor.size - len(words))))
    return header + identifier.encode().ljust(NAME_SIZE, b"\0") + table + data


def read_stats(file: bytes) -> dict[str, int | list[int]]:
    """Read such a file as user space must: by its header and descriptors. ValueError if it is cut short."""
    try:
        _, name_size, count, _, desc_offset, data_offset = _HEADER.unpack_from(file)
        found: dict[str, int | list[int]] = {}
        for n in range(count):
            at = desc_offset + n * (_DESCRIPTOR.size + name_size)
            _, _, size, offset, _ = _DESCRIPTOR.unpack_from(file, at)
            name = file[at + _DESCRIPTOR.size : at + _DESCRIPTOR.size + name_size].rstrip(b"\0").decode()
            words = list(struct.unpack_from(f"<{size}Q", file, data_offset + offset))
            found[name] = words[0] if size == 1 else words
    except struct.error:
        raise ValueError(f"a statistics file of {len(file)} bytes is too short for what its header says") from None
    return found
