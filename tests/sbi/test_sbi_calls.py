"""What every SBI function returns, the edges that SBI test suites try included."""

from __future__ import annotations

import pytest
from sbi_fake_host import MEMORY, SIZE, FakeHost

from trapline.sbi.call import Effect, SbiCall
from trapline.sbi.host import Fence, HfenceService, RemoteFence, SbiProfile
from trapline.sbi.numbers import Eid, FirmwareEvent, HartState, SbiError, spec_version

ALL = (1 << 64) - 1
HIGH = 1 << 63
OK = (Effect.RETURN, 0, 0)


@pytest.fixture
def host() -> FakeHost:
    """A host with every extension."""
    return FakeHost()


def answer(host: FakeHost, eid: int, fid: int = 0, *args: int) -> tuple[Effect, int, int]:
    """Return effect, error and value of a call."""
    outcome = host.call(eid, fid, *args)
    return outcome.effect, outcome.error, outcome.value


def error(host: FakeHost, eid: int, fid: int = 0, *args: int) -> int:
    """Return the error of a call that returns with value 0."""
    outcome = host.call(eid, fid, *args)
    assert outcome.effect is Effect.RETURN
    assert outcome.value == 0
    return outcome.error


def test_call_is_taken_from_a0_to_a7_and_returns_in_a0_and_a1() -> None:
    """a7 and a6 select the function; a negative error is written as 64 bits."""
    x = list(range(32))
    assert SbiCall.of(x) == SbiCall(17, 16, (10, 11, 12, 13, 14, 15))
    FakeHost().call(17).write_to(x)
    assert (x[10], x[11]) == (ALL - 1, 0)


def test_legacy_call_keeps_a1() -> None:
    """A legacy call returns in a0 alone."""
    x = list(range(32))
    FakeHost().call(Eid.CONSOLE_GETCHAR).write_to(x)
    assert (x[10], x[11]) == (ALL, 11)


@pytest.mark.parametrize("eid", [0x09, 0x0F, 0xB00_0000, 0x0800_0000, Eid.SSE, Eid.BASE | 1 << 32, ALL])
def test_unknown_extension_is_not_supported(host: FakeHost, eid: int) -> None:
    """Reserved, unknown and 64-bit extension numbers are NOT_SUPPORTED and probe as 0."""
    assert error(host, eid) == SbiError.NOT_SUPPORTED
    assert answer(host, Eid.BASE, 3, eid) == OK


@pytest.mark.parametrize(
    "eid",
    [Eid.BASE, Eid.TIME, Eid.IPI, Eid.RFENCE, Eid.HSM, Eid.SRST, Eid.PMU, Eid.DBCN, Eid.SUSP, Eid.STA, Eid.FWFT],
)
def test_unknown_function_is_not_supported(host: FakeHost, eid: int) -> None:
    """A function number past the last one is NOT_SUPPORTED in every extension, and the extension probes as 1."""
    assert error(host, eid, 99) == SbiError.NOT_SUPPORTED
    assert error(host, eid, 1 << 32) == SbiError.NOT_SUPPORTED
    assert answer(host, Eid.BASE, 3, eid) == (Effect.RETURN, 0, 1)


def test_legacy_extensions_probe_one_by_one(host: FakeHost) -> None:
    """EIDs 0 to 8 probe as 1 if v0.1 is offered, 9 never does."""
    assert [host.call(Eid.BASE, 3, n).value for n in range(10)] == [1] * 9 + [0]
    bare = FakeHost(extensions=frozenset({"time"}))
    assert [bare.call(Eid.BASE, 3, n).value for n in range(10)] == [0] * 10
    assert bare.call(Eid.CONSOLE_PUTCHAR).error == SbiError.NOT_SUPPORTED


def test_base_functions_return_the_profile_and_the_machine_ids() -> None:
    """Version, implementation, its version, mvendorid, marchid, mimpid."""
    host = FakeHost(version=spec_version(2, 0), implementation=3, implementation_version=0x60C00)
    assert [host.call(Eid.BASE, n).value for n in (0, 1, 2, 4, 5, 6)] == [0x200_0000, 3, 0x60C00, 0x602, 0x603, 0x604]


def test_profile_refuses_unknown_extension_names() -> None:
    """A profile names the extension that does not exist."""
    with pytest.raises(ValueError, match="'bogus'"):
        SbiProfile(extensions=frozenset({"bogus"}))


def test_forwarded_extension_goes_to_user_space_and_probes_as_available() -> None:
    """A forwarded call returns nothing itself; vendor ranges are forwarded if the profile says so."""
    host = FakeHost(
        extensions=frozenset({"v01", "time"}),
        forwarded=frozenset({"dbcn"}),
        forwarded_ranges=((0x0900_0000, 0x09FF_FFFF),),
        forwarded_eids=frozenset({1, 2}),
    )
    for eid in (Eid.DBCN, 0x0900_0001, Eid.CONSOLE_PUTCHAR):
        assert host.call(eid).effect is Effect.FORWARD
        assert host.call(Eid.BASE, 3, eid).value == 1
    assert host.call(Eid.SET_TIMER).effect is Effect.RETURN
    assert host.output == b""


def test_set_timer_takes_64_bits(host: FakeHost) -> None:
    """The deadline is passed as it is."""
    assert answer(host, Eid.TIME, 0, ALL) == OK
    assert host.done == [("timer", ALL)]


@pytest.mark.parametrize(
    ("mask", "base", "harts"),
    [
        (0b111, 0, (0, 1, 2)),
        (1, 5, (5,)),
        (0b1001, 2, (2, 5)),
        (0, ALL, (0, 1, 2, 5)),
        (0b10000, ALL, (0, 1, 2, 5)),
        (0, 0, ()),
    ],
)
def test_ipi_goes_to_the_harts_of_the_mask(host: FakeHost, mask: int, base: int, harts: tuple[int, ...]) -> None:
    """Bit n of the mask is hart base + n; a base of -1 means every hart, whatever the mask."""
    assert answer(host, Eid.IPI, 0, mask, base) == OK
    assert host.done == [("ipi", harts)]


@pytest.mark.parametrize(("mask", "base"), [(2, 5), (1, 6), (0b1001, 0), (1, 1 << 40), (2, ALL - 1)])
@pytest.mark.parametrize("eid", [Eid.IPI, Eid.RFENCE])
def test_invalid_hart_masks_send_nothing(host: FakeHost, eid: int, mask: int, base: int) -> None:
    """One hart that does not exist makes the call INVALID_PARAM."""
    assert error(host, eid, 0, mask, base) == SbiError.INVALID_PARAM
    assert host.done == []


def test_a_base_that_no_bit_uses_is_checked_only_by_old_implementations() -> None:
    """Since SBI v3.0 the base counts through the mask alone."""
    assert answer(FakeHost(), Eid.IPI, 0, 0, 6) == OK
    assert error(FakeHost(checks_hart_mask_base=True), Eid.IPI, 0, 0, 6) == SbiError.INVALID_PARAM


def test_lenient_masks_skip_harts_that_do_not_exist() -> None:
    """An implementation known to skip them says so in its profile."""
    host = FakeHost(lenient_hart_masks=frozenset({"ipi"}))
    assert answer(host, Eid.IPI, 0, 0b1001, 0) == OK
    assert host.done == [("ipi", (0,))]


@pytest.mark.parametrize(
    ("fid", "args", "fence"),
    [
        (0, (0x1000, 0x1000), RemoteFence(Fence.FENCE_I, (0,))),
        (1, (0x1000, 0x2000), RemoteFence(Fence.SFENCE_VMA, (0,), 0x1000, 0x2000)),
        (1, (0, 0), RemoteFence(Fence.SFENCE_VMA, (0,))),
        (1, (0x1000, ALL), RemoteFence(Fence.SFENCE_VMA, (0,))),
        (1, (0x1000, 0), RemoteFence(Fence.SFENCE_VMA, (0,), 0x1000, 0)),
        (2, (0, 0x1000, 7), RemoteFence(Fence.SFENCE_VMA_ASID, (0,), 0, 0x1000, 7)),
        (3, (0, 0x1000, 7), RemoteFence(Fence.HFENCE_GVMA_VMID, (0,), 0, 0x1000, 7)),
        (4, (0, 0x1000, 7), RemoteFence(Fence.HFENCE_GVMA, (0,), 0, 0x1000)),
        (5, (0, 0x1000, 7), RemoteFence(Fence.HFENCE_VVMA_ASID, (0,), 0, 0x1000, 7)),
        (6, (0, 0x1000, 7), RemoteFence(Fence.HFENCE_VVMA, (0,), 0, 0x1000)),
    ],
)
def test_remote_fences_carry_their_range_and_tag(
    host: FakeHost, fid: int, args: tuple[int, ...], fence: RemoteFence
) -> None:
    """Start and size 0, or size 2^XLEN - 1, mean everything; only three functions take an ASID or VMID."""
    assert answer(host, Eid.RFENCE, fid, 1, 0, *args) == OK
    assert host.done == [("fence", fence)]


def test_hfence_needs_the_hypervisor_extension_on_every_target(host: FakeHost) -> None:
    """Hart 5 has none: NOT_SUPPORTED; an implementation may also refuse or ignore all of them."""
    assert error(host, Eid.RFENCE, 4, 1, 5) == SbiError.NOT_SUPPORTED
    assert host.done == []
    assert error(FakeHost(hfence=HfenceService.NOT_SUPPORTED), Eid.RFENCE, 6, 1, 0) == SbiError.NOT_SUPPORTED
    ignoring = FakeHost(hfence=HfenceService.NOP)
    assert error(ignoring, Eid.RFENCE, 6, 1, 0) == SbiError.SUCCESS
    assert ignoring.done == []


def test_hart_start_starts_only_stopped_harts(host: FakeHost) -> None:
    """Unknown harts are INVALID_PARAM, running ones ALREADY_AVAILABLE, bad addresses INVALID_ADDRESS."""
    for hartid in (ALL, 3, 1 << 32):
        assert error(host, Eid.HSM, 0, hartid, MEMORY) == SbiError.INVALID_PARAM
    for state in HartState:
        host.states[1] = state
        expected = SbiError.SUCCESS if state is HartState.STOPPED else SbiError.ALREADY_AVAILABLE
        assert error(host, Eid.HSM, 0, 1, MEMORY, 0x77) == expected
    assert host.done == [("start", 1, MEMORY, 0x77)]
    host.states[1] = HartState.STOPPED
    assert error(host, Eid.HSM, 0, 1, 0x10) == SbiError.INVALID_ADDRESS


def test_hart_stop_does_not_return(host: FakeHost) -> None:
    """The caller is gone."""
    assert host.call(Eid.HSM, 1).effect is Effect.GONE


def test_hart_status_is_the_state(host: FakeHost) -> None:
    """Every state is reported by number; an unknown hart is INVALID_PARAM."""
    host.states[2] = HartState.SUSPENDED
    assert answer(host, Eid.HSM, 2, 2) == (Effect.RETURN, 0, 4)
    assert error(host, Eid.HSM, 2, ALL) == SbiError.INVALID_PARAM


@pytest.mark.parametrize("kind", [1, 0x0FFF_FFFF, 0x1000_0000, 0x7FFF_FFFF, 0x8000_0001, 0x8FFF_FFFF, 0xFFFF_FFFF])
def test_reserved_and_platform_suspend_types_are_invalid(host: FakeHost, kind: int) -> None:
    """Types that are reserved, or a platform's and not implemented, are INVALID_PARAM."""
    assert error(host, Eid.HSM, 3, kind, MEMORY) == SbiError.INVALID_PARAM


def test_suspend_types_are_32_bits(host: FakeHost) -> None:
    """Bits above 31 are ignored: retentive returns success, non-retentive restarts elsewhere."""
    assert answer(host, Eid.HSM, 3, HIGH) == OK
    assert host.call(Eid.HSM, 3, HIGH | 0x8000_0000, MEMORY, 9).effect is Effect.GONE
    assert host.done == [("suspend",), ("suspend", MEMORY, 9)]
    assert error(host, Eid.HSM, 3, 0x8000_0000, 2) == SbiError.INVALID_ADDRESS


def test_known_but_missing_suspend_type_is_not_supported() -> None:
    """KVM knows the default non-retentive type and does not provide it."""
    host = FakeHost(suspend_types=frozenset({0}))
    assert error(host, Eid.HSM, 3, 0x8000_0000, MEMORY) == SbiError.NOT_SUPPORTED


@pytest.mark.parametrize("kind", [3, 0xEFFF_FFFF, 0xF000_0000, 0xFFFF_FFFF])
def test_reserved_and_vendor_reset_types_are_invalid(host: FakeHost, kind: int) -> None:
    """Reset types 3 and up are INVALID_PARAM, and nothing is reset."""
    assert error(host, Eid.SRST, 0, kind) == SbiError.INVALID_PARAM
    assert host.done == []


@pytest.mark.parametrize("reason", [2, 0xDFFF_FFFF, 0xE000_0000, 0xF000_0000])
def test_reserved_reset_reasons_are_invalid(host: FakeHost, reason: int) -> None:
    """Reset reasons 2 and up are INVALID_PARAM unless the implementation takes any."""
    assert error(host, Eid.SRST, 0, 0, reason) == SbiError.INVALID_PARAM
    assert FakeHost(reset_reasons=None).call(Eid.SRST, 0, 0, reason).effect is Effect.GONE


def test_reset_arguments_are_32_bits(host: FakeHost) -> None:
    """Bits above 31 of type and reason are ignored; the system is gone."""
    assert host.call(Eid.SRST, 0, HIGH | 1, 1 << 32 | 1).effect is Effect.GONE
    assert host.done == [("reset", 1, 1)]


def test_dbcn_writes_memory_to_the_console(host: FakeHost) -> None:
    """The number of bytes that the console took is returned; it may take fewer."""
    host.write_memory(MEMORY + 0xFFC, b"hello, world")
    assert answer(host, Eid.DBCN, 0, 12, MEMORY + 0xFFC, 0) == (Effect.RETURN, 0, 12)
    host.console_room = 5
    assert answer(host, Eid.DBCN, 0, 12, MEMORY + 0xFFC, 0) == (Effect.RETURN, 0, 5)
    assert host.output == b"hello, worldhello"


@pytest.mark.parametrize(
    ("size", "low", "high"),
    [(1, 0, 0), (1, MEMORY + SIZE, 0), (2, MEMORY + SIZE - 1, 0), (8, ALL - 3, 0), (1, MEMORY, 1), (ALL, MEMORY, 0)],
)
@pytest.mark.parametrize("fid", [0, 1])
def test_dbcn_refuses_memory_that_the_caller_has_not(host: FakeHost, fid: int, size: int, low: int, high: int) -> None:
    """Outside memory, past its end, past 2^64 or with upper address bits: INVALID_PARAM, value 0."""
    host.input = b"x" * 16
    assert error(host, Eid.DBCN, fid, size, low, high) == SbiError.INVALID_PARAM
    assert (host.output, len(host.input)) == (b"", 16)


def test_dbcn_reads_what_there_is(host: FakeHost) -> None:
    """No input gives 0 bytes and touches no memory; more input than asked for stays."""
    assert answer(host, Eid.DBCN, 1, 4, MEMORY, 0) == OK
    host.input = b"abcdef"
    assert answer(host, Eid.DBCN, 1, 4, MEMORY, 0) == (Effect.RETURN, 0, 4)
    assert (host.read_memory(MEMORY, 5), host.input) == (b"abcd\0", b"ef")
    assert answer(host, Eid.DBCN, 1, 0, MEMORY, 0) == OK


def test_dbcn_write_byte_takes_the_low_eight_bits(host: FakeHost) -> None:
    """A word writes its first byte; a console that takes nothing is FAILED."""
    assert answer(host, Eid.DBCN, 2, 0x64636261) == OK
    assert host.output == b"a"
    host.console_room = 0
    assert error(host, Eid.DBCN, 2, 0x61) == SbiError.FAILED


def test_legacy_calls_ignore_the_function_number(host: FakeHost) -> None:
    """a6 is not looked at; getchar returns a byte or -1, clear_ipi whether one was pending."""
    host.input, host.ipi_pending = b"k", True
    assert host.call(Eid.CONSOLE_PUTCHAR, 77, 0x141).error == 0
    assert host.output == b"A"
    assert [host.call(Eid.CONSOLE_GETCHAR, 5).error for _ in range(2)] == [ord("k"), -1]
    assert [host.call(Eid.CLEAR_IPI).error for _ in range(2)] == [1, 0]
    assert host.call(Eid.SET_TIMER, 3, 55).error == 0
    assert host.done == [("timer", 55)]


def test_legacy_hart_masks_are_read_from_memory(host: FakeHost) -> None:
    """The mask is a word in memory; harts that do not exist are skipped and a null pointer means all."""
    host.write_memory(MEMORY + 16, (0b101010).to_bytes(8, "little"))
    assert host.call(Eid.SEND_IPI, 0, MEMORY + 16).error == 0
    assert host.call(Eid.SEND_IPI, 0, 0).error == 0
    assert host.call(Eid.REMOTE_SFENCE_VMA_ASID, 0, MEMORY + 16, 0, 0x1000, 3).error == 0
    assert host.done == [
        ("ipi", (1, 5)),
        ("ipi", (0, 1, 2, 5)),
        ("fence", RemoteFence(Fence.SFENCE_VMA_ASID, (1, 5), 0, 0x1000, 3)),
    ]


def test_fault_on_a_legacy_mask_is_delivered_to_the_caller(host: FakeHost) -> None:
    """The trap carries the faulting address; the ecall is not stepped over."""
    outcome = host.call(Eid.REMOTE_FENCE_I, 0, 0x4000)
    assert outcome.effect is Effect.TRAP
    assert outcome.trap is not None
    assert (outcome.trap.cause, outcome.trap.tval) == (13, 0x4000)


def test_legacy_shutdown_does_not_return(host: FakeHost) -> None:
    """It is a shutdown without a reason."""
    assert host.call(Eid.SHUTDOWN).effect is Effect.GONE
    assert host.done == [("reset", 0, 0)]


@pytest.mark.parametrize("number", [6, 0x3FFF_FFFF, 0x4000_0000, 0x8000_0000, 0xBFFF_FFFF, 0xFFFF_FFFF])
def test_reserved_features_are_denied(host: FakeHost, number: int) -> None:
    """Get and set of a reserved or platform feature are DENIED."""
    assert error(host, Eid.FWFT, 1, number) == SbiError.DENIED
    assert error(host, Eid.FWFT, 0, number, 1, 0) == SbiError.DENIED


def test_defined_feature_that_is_missing_is_not_supported(host: FakeHost) -> None:
    """LANDING_PAD and the others exist in the specification."""
    assert [error(host, Eid.FWFT, 1, n) for n in range(1, 6)] == [SbiError.NOT_SUPPORTED] * 5


def test_feature_set_and_lock(host: FakeHost) -> None:
    """Bad values and flags are INVALID_PARAM and lock nothing; a locked feature is DENIED_LOCKED."""
    assert error(host, Eid.FWFT, 0, 0, 2, 1) == SbiError.INVALID_PARAM
    assert error(host, Eid.FWFT, 0, 0, 1 << 32, 0) == SbiError.INVALID_PARAM
    assert error(host, Eid.FWFT, 0, 0, 1, 2) == SbiError.INVALID_PARAM
    assert answer(host, Eid.FWFT, 1, HIGH) == OK
    assert error(host, Eid.FWFT, 0, HIGH, 1, 1) == SbiError.SUCCESS
    assert answer(host, Eid.FWFT, 1, 0) == (Effect.RETURN, 0, 1)
    assert error(host, Eid.FWFT, 0, 0, 0, 0) == SbiError.DENIED_LOCKED
    assert answer(host, Eid.FWFT, 1, 0) == (Effect.RETURN, 0, 1)


def test_system_suspend_wants_the_other_harts_stopped(host: FakeHost) -> None:
    """DENIED while another hart runs; then a bad type, a bad address, success."""
    assert error(host, Eid.SUSP, 0, 0, MEMORY) == SbiError.DENIED
    for n in (1, 2, 5):
        host.states[n] = HartState.STOPPED
    assert error(host, Eid.SUSP, 0, 1, MEMORY) == SbiError.INVALID_PARAM
    assert error(host, Eid.SUSP, 0, 0, 0) == SbiError.INVALID_ADDRESS
    assert host.call(Eid.SUSP, 0, HIGH, MEMORY, 3).effect is Effect.GONE
    assert host.done == [("system-suspend", MEMORY, 3)]


def test_steal_time_memory_is_checked_and_cleared(host: FakeHost) -> None:
    """64 aligned, writable bytes; all ones stops; flags must be 0."""
    host.write_memory(MEMORY, b"\xff" * 64)
    assert error(host, Eid.STA, 0, MEMORY, 0, 1) == SbiError.INVALID_PARAM
    assert error(host, Eid.STA, 0, MEMORY + 32, 0, 0) == SbiError.INVALID_PARAM
    assert error(host, Eid.STA, 0, 0, 0, 0) == SbiError.INVALID_ADDRESS
    assert error(host, Eid.STA, 0, MEMORY, 1, 0) == SbiError.INVALID_ADDRESS
    assert answer(host, Eid.STA, 0, MEMORY, 0, 0) == OK
    assert answer(host, Eid.STA, 0, ALL, ALL, 0) == OK
    assert host.read_memory(MEMORY, 64) == bytes(64)
    assert host.done == [("steal", MEMORY), ("steal", None)]


def test_firmware_counter_counts_its_event(host: FakeHost) -> None:
    """Configured and started, it counts calls; stopped, it keeps its value."""
    event = 0xF0000 | FirmwareEvent.SET_TIMER
    assert host.call(Eid.PMU, 0).value == 16
    assert host.call(Eid.PMU, 1, 3).value == HIGH
    assert host.call(Eid.PMU, 2, 0, 0b1000, 0, event).value == 3
    assert error(host, Eid.PMU, 3, 0, 0b1000, 1, 100) == SbiError.SUCCESS
    assert error(host, Eid.PMU, 3, 0, 0b1000, 0, 0) == SbiError.ALREADY_STARTED
    host.call(Eid.TIME, 0, 5)
    host.call(Eid.SET_TIMER, 0, 5)
    assert host.call(Eid.PMU, 5, 3).value == 102
    assert error(host, Eid.PMU, 6, 3) == SbiError.SUCCESS
    assert error(host, Eid.PMU, 4, 0, 0b1000, 0) == SbiError.SUCCESS
    assert error(host, Eid.PMU, 4, 0, 0b1000, 1) == SbiError.ALREADY_STOPPED
    assert error(host, Eid.PMU, 5, 3) == SbiError.INVALID_PARAM


def test_counter_sets_are_checked(host: FakeHost) -> None:
    """Counters that do not exist are INVALID_PARAM, hardware events NOT_SUPPORTED, snapshots NO_SHMEM."""
    assert error(host, Eid.PMU, 1, 16) == SbiError.INVALID_PARAM
    assert error(host, Eid.PMU, 2, 15, 0b11, 0, 0xF0005) == SbiError.INVALID_PARAM
    assert error(host, Eid.PMU, 2, 0, 1, 0, 1) == SbiError.NOT_SUPPORTED
    assert error(host, Eid.PMU, 2, 0, 1, 0, 0xF0000 | 22) == SbiError.NOT_SUPPORTED
    assert error(host, Eid.PMU, 3, 0, 1, 2) == SbiError.NO_SHMEM
