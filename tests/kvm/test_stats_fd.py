"""The binary statistics file, against the kernel's documented layout."""

from __future__ import annotations

import struct

import pytest
from guest import run_event

from trapline.kvm.uapi.stats_fd import read_stats
from trapline.kvm.vm import Vm


def test_the_layout_of_a_vcpu_file() -> None:
    """Header, id, descriptors of 64 bytes, data; the architecture's counters begin at data offset 832."""
    vcpu = run_event("linux-7.2", "li t0, 0xc0000000\n ld t1, 0(t0)").vcpu
    file = vcpu.stats_fd()
    flags, name_size, count, id_offset, desc_offset, data_offset = struct.unpack_from("<6I", file)
    assert (flags, name_size, id_offset, desc_offset) == (0, 48, 24, 72)
    assert file[24:72].rstrip(b"\0") == b"kvm-0/vcpu-0"
    assert data_offset == 72 + 64 * count
    names = [file[72 + 64 * n + 16 : 72 + 64 * n + 64].rstrip(b"\0").decode() for n in range(count)]
    assert names[:4] == ["halt_successful_poll", "halt_attempted_poll", "halt_poll_invalid", "halt_wakeup"]
    assert names[10:] == ["blocking", *(c.name for c in vcpu.policy.counters)]
    _, _, size, offset, bucket = struct.unpack_from("<IhHII", file, 72 + 64 * 11)
    assert (names[11], size, offset, bucket) == ("ecall_exit_stat", 1, 832, 0)
    assert len(file) == data_offset + 832 + 8 * (count - 11)


@pytest.mark.parametrize(
    ("index", "flags", "exponent", "size"), [(3, 0x00, 0, 1), (6, 0x20, -9, 1), (9, 0x24, -9, 32), (10, 0x41, 0, 1)]
)
def test_descriptors_say_kind_unit_and_scale(index: int, flags: int, exponent: int, size: int) -> None:
    """A counter, nanoseconds, a logarithmic histogram of 32 buckets, a boolean."""
    file = Vm("linux-6.12", engine="reference").vcpus[0].stats_fd()
    assert struct.unpack_from("<IhH", file, 72 + 64 * index) == (flags, exponent, size)


def test_the_data_are_the_counters() -> None:
    """Read as user space does, the file says what the API says."""
    outcome = run_event("linux-7.2", "li t0, 0xc0000000\n ld t1, 0(t0)")
    seen, stats = read_stats(outcome.vcpu.stats_fd()), outcome.vm.stats()
    assert {name: seen[name] for name in outcome.vcpu.stats.kvm} == {n: stats[n] for n in outcome.vcpu.stats.kvm}
    assert seen["load_access_exits"] == 1
    machine = outcome.vm
    machine.flush_all()
    assert read_stats(machine.stats_fd()) == machine.generic_stats
    assert "instr_illegal_exits" not in read_stats(Vm("linux-6.12").vcpus[0].stats_fd())
    with pytest.raises(ValueError, match="too short"):
        read_stats(machine.stats_fd()[:-1])


def test_waits_are_in_the_histogram() -> None:
    """A WFI until a timer is one wait; its bucket is the logarithm of its nanoseconds."""
    code = "li t0, 0x20\n csrs sie, t0\n csrr t1, time\n li t2, 1000\n add t1, t1, t2\n csrw stimecmp, t1\n wfi"
    vcpu = run_event("linux-7.2", code).vcpu
    seen = read_stats(vcpu.stats_fd())
    histogram = seen["halt_wait_hist"]
    assert isinstance(histogram, list)
    assert (seen["halt_wakeup"], sum(histogram)) == (1, 1)
    assert histogram[int(vcpu.stats.generic["halt_wait_ns"]).bit_length()] == 1
