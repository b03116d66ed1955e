"""The route matrix: measured kernels, firmware models, who pays for misaligned accesses, its form and speed."""

from __future__ import annotations

import json
import time

import pytest

from trapline.firmware.models import MODELS
from trapline.lab.errors import UsageError
from trapline.lab.probe.events import EVENTS, UNREACHABLE
from trapline.lab.route import RouteTable, event_names, route
from trapline.lab.routes import ENDS, Route
from trapline.privilege.causes import CAUSE_NAMES
from trapline.privilege.isa_string import DEFAULT_ISA

KEYS = {
    "cause", "name", "event", "from", "path", "how", "end", "errno", "guest_sees", "counters", "instructions",
    "estimated", "source",
}  # fmt: skip
HOWS = {
    "hardware", "firmware-redirect", "firmware-emulate", "kvm-redirect", "kvm-emulate", "gstage-map", "sbi", "mmio",
    "debug", "kill", "firmware-hang",
}  # fmt: skip


@pytest.fixture(scope="module")
def tables() -> dict[str, RouteTable]:
    """The matrices of the kernels that were measured, and of the two releases around the 2024 thread."""
    return {name: route(name) for name in ("linux-6.12", "linux-7.2", "linux-6.13", "linux-6.14")}


def row(table: RouteTable, event: str, mode: str) -> Route:
    """The row of an event."""
    texts = {e.id: e.text for e in EVENTS}
    return next(r for r in table.routes if r.event == texts[event] and r.from_ == mode)


NO_PMU = DEFAULT_ISA.replace("_sscofpmf", "")

# Ground truth: Debian's 6.12.107 and 7.2.13 on QEMU 7.2 with OpenSBI 1.6, the same from VS and VU.
# Event: (outcome on 6.12, outcome on 7.2); a number is the cause in the guest's handler.
MEASURED: dict[str, tuple[str, str]] = {
    "illegal": ("guest 2", "guest 2"),
    "csr-machine": ("guest 2", "guest 2"),
    "csr-hypervisor": ("guest 2", "guest 2"),
    "hfence-gvma": ("guest 2", "guest 2"),
    "ebreak": ("guest 3", "guest 3"),
    "ecall-user": ("guest 8", "guest 8"),
    "fetch-unmapped": ("guest 12", "guest 12"),
    "load-unmapped": ("guest 13", "guest 13"),
    "ecall-unknown": ("resumed", "resumed"),
    "misaligned-lr": ("guest 4", "guest 4"),
    "misaligned-amo": ("guest 6", "guest 6"),
    "misaligned-load": ("emulated", "emulated"),
    "misaligned-store": ("emulated", "emulated"),
    "rdcycle": ("emulated", "emulated"),
    "mmio-ld": ("vmm", "vmm"),
    "mmio-sd": ("vmm", "vmm"),
    "misaligned-load-mmio": ("killed -5", "killed -5"),
    "mmio-amoadd-d": ("killed -95", "killed -95"),
    "mmio-lr-d": ("killed -95", "killed -95"),
    "fetch-mmio": ("killed -95", "guest 1"),
    "fetch-hole": ("killed -14", "guest 1"),
    "load-hole": ("guest 5", "guest 5"),
    "store-hole": ("guest 7", "guest 7"),
}


@pytest.mark.parametrize("event", MEASURED)
def test_measured_kernels(tables: dict[str, RouteTable], event: str) -> None:
    """linux-6.12 and linux-7.2 do with every measured event what those kernels did."""
    modes = next(e.modes for e in EVENTS if e.id == event)
    for policy, outcome in zip(("linux-6.12", "linux-7.2"), MEASURED[event], strict=True):
        # The hart that was measured had no Sscofpmf, so its KVM no PMU.
        table = route(policy, event=event, isa=NO_PMU) if event == "rdcycle" else tables[policy]
        for mode in modes:
            found = row(table, event, mode)
            assert found.outcome() == outcome, f"{policy} {mode}"
            if outcome.startswith("guest"):
                assert found.guest_sees is not None
                assert found.guest_sees.privilege == mode


def test_measured_costs(tables: dict[str, RouteTable]) -> None:
    """Estimates of hosted levels lie near the measured round trips: 1222, 1318, 1017 and 931 on 6.12."""
    old = tables["linux-6.12"]
    for event, measured in (("illegal", 1222), ("misaligned-lr", 1318), ("csr-hypervisor", 1017), ("ecall-base", 931)):
        found = row(old, event, "VS")
        assert found.estimated
        assert found.source
        assert abs(sum(found.instructions.values()) - measured) < 0.03 * measured
    for event in ("ebreak", "load-unmapped", "ecall-user"):
        found = row(old, event, EVENTS[[e.id for e in EVENTS].index(event)].modes[-1])
        assert not found.estimated
        assert sum(found.instructions.values()) < 16


def test_every_reachable_cause_has_rows(tables: dict[str, RouteTable]) -> None:
    """All causes are in the matrix, or a note says why not."""
    table = tables["linux-7.2"]
    causes = {r.cause for r in table.routes}
    assert causes | set(UNREACHABLE) == set(CAUSE_NAMES)
    assert not causes & set(UNREACHABLE)
    assert all(any(f"cause {n} " in note for note in table.notes) for n in UNREACHABLE)
    assert {r.from_ for r in table.routes} == {"VS", "VU"}


def test_json_form(tables: dict[str, RouteTable]) -> None:
    """The JSON has the agreed keys and words, and a path has one hop more than `how`."""
    data = json.loads(json.dumps(tables["linux-7.2"].as_data()))
    assert (data["policy"], data["firmware"], data["host_fwft"]) == ("linux-7.2", "opensbi-1.6", False)
    for r in data["routes"]:
        assert set(r) >= KEYS
        assert r["end"] in ENDS
        assert set(r["how"]) <= HOWS
        assert len(r["path"]) == len(r["how"]) + 1
        assert r["path"][0] == r["from"]
        assert (r["errno"] is not None) == (r["end"] == "killed")
        assert set(r["instructions"]) <= {"VU", "VS", "HS", "M"}
        assert r["estimated"] == bool(r["source"])
        assert (r["end"] == "no-trap") == (r["how"] == [])


def test_the_thread_of_2024(tables: dict[str, RouteTable]) -> None:
    """A fetch from a hole kills up to 6.13 and is redirected from 6.14 on, after a visit to M-mode."""
    for mode in ("VS", "VU"):
        before, after = (row(tables[n], "fetch-hole", mode) for n in ("linux-6.13", "linux-6.14"))
        assert (before.path, before.outcome()) == ((mode, "M", "HS", "VMM"), "killed -14")
        assert (after.path, after.outcome()) == ((mode, "M", "HS", "VS"), "guest 1")
        assert after.how == ("hardware", "firmware-redirect", "kvm-redirect")


@pytest.mark.parametrize("firmware", MODELS)
def test_firmware_decides_the_way(firmware: str) -> None:
    """holland-1 delegates cause 2: which way it takes to VS depends on the firmware alone."""
    found = row(route("holland-1", firmware=firmware, event="illegal"), "illegal", "VS")
    paths = {
        "opensbi-1.0": ("VS", "M", "HS", "VMM"),
        "ignores-hedeleg": ("VS", "M", "HS", "VMM"),
        "delegates-all": ("VS", "VS"),
    }
    assert found.path == paths.get(firmware, ("VS", "M", "VS"))


@pytest.mark.parametrize(
    ("misaligned", "policy", "fwft", "firmware", "path", "end"),
    [
        ("hardware", "linux-7.2", False, "opensbi-1.6", ("VU",), "no-trap"),
        ("trap", "linux-7.2", False, "opensbi-1.6", ("VU", "M", "VU"), "emulated"),
        ("trap", "holland-1", True, "opensbi-1.6", ("VU", "VS"), "guest"),
        ("trap", "linux-7.2", True, "opensbi-1.6", ("VU", "HS", "VS"), "guest"),
    ],
)
def test_four_payers_of_a_misaligned_access(
    misaligned: str, policy: str, fwft: bool, firmware: str, path: tuple[str, ...], end: str
) -> None:
    """Hardware, M-mode, VS by delegation, HS by redirect: the settings select who pays."""
    table = route(policy, firmware=firmware, host_fwft=fwft, misaligned=misaligned, event="misaligned-load$")
    found = row(table, "misaligned-load", "VU")
    assert (found.path, found.end) == (path, end)


def test_statistics_of_a_redirect(tables: dict[str, RouteTable]) -> None:
    """6.14 counts redirects of 2, 4 to 7 under its own names, 6.12 does not, and nobody counts cause 1."""
    new, old = tables["linux-6.14"], tables["linux-6.12"]
    assert row(new, "load-hole", "VU").counters["load_access_exits"] == 1
    assert "load_access_exits" not in row(old, "load-hole", "VU").counters
    one = row(new, "fetch-hole", "VU").counters
    assert {n for n in one if not n.startswith("trapline/")} == {"exits"}
    assert one["trapline/inst_access_exits"] == 1
    assert row(new, "ebreak", "VU").counters == {"trapline/breakpoint/VU/delegated": 1}


def test_privilege_bug_before_6_3() -> None:
    """Up to 6.2 a redirect from VU resumes the handler in VU, whose first fetch then faults."""
    broken = row(route("linux-6.2", event="csr-hypervisor"), "csr-hypervisor", "VU")
    fixed = row(route("linux-6.3", event="csr-hypervisor"), "csr-hypervisor", "VU")
    assert broken.guest_sees is not None
    assert fixed.guest_sees is not None
    assert (broken.guest_sees.cause, fixed.guest_sees.cause) == (12, 2)
    assert broken.path[-2:] == ("VU", "VS")


def test_reference_engine_gives_the_same_rows() -> None:
    """The reference engine and the native one agree on a part of the matrix."""
    for event in ("fetch", "csr", "hole"):
        native, slow = route(event=event), route(event=event, engine="reference")
        assert [r.as_data() for r in native.routes] == [r.as_data() for r in slow.routes]


def test_whole_matrix_in_under_two_seconds() -> None:
    """The matrix takes less than two seconds once the native image is there."""
    started = time.process_time()
    route("linux-6.15")
    assert time.process_time() - started < 2


@pytest.mark.parametrize("event", ["nonsense", "9", "("])
def test_unknown_event(event: str) -> None:
    """An event that fits nothing is an error that says so."""
    with pytest.raises(UsageError, match=r"event|regular expression"):
        route(event=event)


def test_a_misspelt_event_is_told_the_nearest() -> None:
    """An event or cause that nothing fits is refused with the names that it is near to."""
    with pytest.raises(UsageError, match=r"no event fits 'inst-acess' \(did you mean inst-access"):
        event_names("inst-acess")
