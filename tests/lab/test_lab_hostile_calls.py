"""Wrong values to everything public of the Python API: one clear exception, and the process goes on."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.lab.test_lab_api import board

import trapline
from trapline.lab.errors import UsageError
from trapline.vmm.guest import Guest

WRONG: tuple[Any, ...] = (
    *(None, -1, 1 << 64, 1 << 200, 1.5, float("nan"), "", "no such thing", "\0", b"x", [], [None], ["x"], {"a": 1}, ()),
    *(object(), int, True, "a" * 5000),
)
FEW = (None, -1, 0, 1 << 64, 1.5, "no such thing", b"x", {"a": 1})
EXCEPTIONS = (ValueError, TypeError, LookupError, AttributeError, OSError, UsageError)  # and those made of them
INTERNAL = re.compile(
    r"not supported between|object has no attribute '|unsupported operand|is not (iterable|subscriptable|callable)"
    r"|invalid literal|Unknown format code|cannot be interpreted as|x not in tuple|negative shift"
)


@pytest.fixture(scope="module")
def guest() -> Iterator[Guest]:
    """A guest with memory alone."""
    with Guest(memory=1 << 20) as made:
        yield made


def refused(call: Callable[[], object]) -> str:
    """Return what a call was refused with, or nothing; another exception than the documented ones is a failure."""
    try:
        call()
    except EXCEPTIONS as error:
        said = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
        assert said and "\n" not in said and len(said) < 6000, repr(error)
        return said
    return ""


METHODS = (
    "address_of load load_elf on_access on_code on_console on_csr on_trap restore rewind breakpoint watch catch_trap "
    "catch_csr word put_word add_device boot_bios serve_htif device_tree rule csr_rule sbi_rule delegates has_bug "
    "has_feature"
)


def documented(thing: object) -> list[tuple[str, Callable[..., object]]]:
    """Return the public methods that docs/api.md speaks of."""
    found = [(name, getattr(thing, name, None)) for name in METHODS.split()]
    return [(name, method) for name, method in found if callable(method)]


def required(method: Callable[..., object]) -> int:
    """Return how many arguments a method needs, one at least."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = [p for p in inspect.signature(method).parameters.values() if p.kind in kinds and p.default is p.empty]
    return max(len(found), 1)


def test_methods_refuse_wrong_values(guest: Guest) -> None:
    """Every documented method, and each of its named options, says what is wrong in words of its own."""
    machine = board()
    policy = trapline.load_policy("linux-7.2")
    for thing in (machine, machine.mem, machine.stops, guest, guest.vm, guest.vm.stops, policy):
        for name, method in documented(thing):
            options = [p.name for p in inspect.signature(method).parameters.values() if p.kind is p.KEYWORD_ONLY]
            for value in WRONG:
                said = refused(lambda m=method, v=value: m(*[v] * required(m)))  # type: ignore[misc]
                assert not INTERNAL.search(said), (name, value, said)
                for option in [o for o in options if name.startswith(("on_", "watch", "break", "catch"))]:
                    given = () if "trap" in name else (5, 8)[: required(method)]
                    said = refused(lambda m=method, g=given, o=option, v=value: m(*g, **{o: v}))  # type: ignore[misc]
                    assert not INTERNAL.search(said), (name, option, value, said)
        for stops in {id(s): s for s in (machine.stops, guest.vm.stops)}.values():
            stops.clear()
    assert machine.run(limit=1000).reason in ("exit", "limit")


@pytest.mark.parametrize("kind", [trapline.Machine, trapline.Guest])
def test_options_refuse_wrong_values(kind: Any) -> None:
    """Every option of a machine and a guest takes what it can hold; a made machine runs, whatever its numbers."""
    options = "memory isa timebase ratio misaligned tinst aia virtio spec console engine".split()
    counts = ["harts"] if kind is trapline.Machine else ["vcpus", "policy", "firmware"]
    for option in (*options, *counts):
        for value in FEW:
            made: list[Any] = []
            given = {"memory": 1 << 20, option: value}
            said = refused(lambda: made.append(kind(**given)))  # noqa: B023
            assert not INTERNAL.search(said), (option, value, said)
            for machine in made:
                machine.run(limit=10)
                machine.close()
    with pytest.raises(TypeError, match=r"no option is called 'memry' \(did you mean memory\?\)"):
        kind(memry=1)


def test_functions_refuse_wrong_values() -> None:
    """audit, compare, load_policy, route and sweep too."""
    calls: tuple[Callable[[Any], object], ...] = (
        trapline.load_policy,
        trapline.sweep,
        lambda value: trapline.route(value or 0),
        lambda value: trapline.route("linux-7.2", event=value or 0),
        lambda value: trapline.compare(value, guest="/nowhere"),
        lambda value: trapline.compare("linux-7.2", guest=value),
        lambda value: trapline.audit(value, event="fetch-hole"),
        lambda value: trapline.audit("linux-7.2", event="fetch-hole", firmware=value or 0),
    )
    for call in calls:
        for value in WRONG:
            said = refused(lambda c=call, v=value: c(v))  # type: ignore[misc]
            assert said and not INTERNAL.search(said), (call, value, said)


def test_a_wrong_name_is_an_error(guest: Guest) -> None:
    """An attribute that nobody reads is refused on harts, machines, guests and VMs, with the nearest name."""
    machine = board()
    hart = machine.harts[0]
    for thing, name, said in (
        (hart, "nope", r"no field 'nope' \(a hart has pc, priv, virt, x.NAME, f.NAME, csr.NAME\)"),
        (hart, "pcc", r"\(did you mean pc\?\)"),
        (hart, "t0", r"\(did you mean x.t0\?\)"),
        (hart, "fa1", r"\(did you mean f.fa1\?\)"),
        (hart, "mstatuss", r"\(did you mean csr.mstatus or csr.sstatus\?\)"),
        (hart, "x", r"hart.x has words: write one, hart.x\[0\]"),
        (hart.x, "spp", r"no register is called 'spp' \(did you mean sp\?\)"),
        (hart.f, "fa99", r"no register is called 'fa99' \(did you mean"),
        (hart.csr, "mstatuss", r"\(did you mean mstatus or sstatus\?\)"),
        (machine, "on_rund", r"Machine has no attribute 'on_rund' \(did you mean on_round"),
        (guest, "devics", r"Guest has no attribute 'devics' \(did you mean devices"),
        (guest.vm, "on_trp", r"Vm has no attribute 'on_trp' \(did you mean on_trap"),
        (guest.vm.vcpus[0], "pcc", r"Vcpu has no attribute 'pcc' \(did you mean pc"),
        (guest.vm.vcpus[0].hart.x, "spp", r"no register is called 'spp' \(did you mean sp\?\)"),
        (machine.regions, "writen", r"Regions has no attribute 'writen' \(did you mean written"),
        (machine.stops, "hart", r"Stops has no attribute 'hart' \(did you mean harts"),
        (machine.on_trap(), "hit", r"Hook has no attribute 'hit' \(did you mean hits"),
        (machine.mem, "helt", r"Memory has no attribute 'helt'"),
    ):
        with pytest.raises(AttributeError, match=said):
            setattr(thing, name, 1)


def test_causes_beyond_those_of_a_hart_are_refused() -> None:
    """33 is not counted as cause 1, which has its five low bits."""
    machine = board()
    for cause in (32, 33, 63, 64, 1 << 63 | 32):
        with pytest.raises(ValueError, match="is no cause: a hart takes 0 to 31"):
            machine.on_trap(causes=cause)


def test_a_policy_is_asked_by_numbers_and_known_names() -> None:
    """What no cause, CSR, SBI extension, bug or feature can be is refused, never answered as if it were one."""
    policy = trapline.load_policy("linux-7.2")
    for asked, value in (
        (policy.rule, 64),
        (policy.rule, "inst-acces"),
        (policy.delegates, -1),
        (policy.csr_rule, 0x1000),
        (policy.sbi_rule, "TIME"),
        (policy.has_bug, "pmu-mask-wrap"),
        (policy.has_feature, "sstcc"),
    ):
        said = refused(lambda a=asked, v=value: a(v))  # type: ignore[misc]
        assert repr(value) in said, said
    with pytest.raises(ValueError, match=r"no feature is called 'sstcc' \(did you mean sstc"):
        policy.has_feature("sstcc")  # type: ignore[arg-type]


def test_a_name_that_the_package_lacks_is_refused_with_the_nearest() -> None:
    """`trapline.Machin` says that Machine may be meant."""
    with pytest.raises(AttributeError, match=r"no attribute 'Machin' \(did you mean Machine"):
        _ = trapline.Machin


def test_what_is_of_another_kind_is_a_type_error(guest: Guest) -> None:
    """A value of another kind is a TypeError that says what is needed; also where a file or policy is meant."""
    machine = board()
    calls: tuple[Callable[[], object], ...] = (
        lambda: machine.load(None),
        lambda: guest.load(None), lambda: machine.rewind(5), lambda: trapline.load_policy(5),
        lambda: trapline.Machine(memory="16M"), lambda: trapline.load_policy("none").has_bug(1),
        lambda: trapline.load_policy("none").rule(1.5),
    )  # type: ignore[arg-type, assignment, no-untyped-call]  # fmt: skip
    for call in calls:
        with pytest.raises(TypeError, match=r"needed|is no number"):
            call()


def test_a_cause_goes_by_its_name() -> None:
    """A policy's rule and delegation are asked for by a cause's number or name."""
    policy = trapline.load_policy("linux-7.2")
    assert policy.rule("inst-access") == policy.rule(1)
    assert policy.delegates("syscall") == policy.delegates(8)
    with pytest.raises(ValueError, match=r"no cause is called 'inst-acces' \(did you mean inst-access"):
        policy.rule("inst-acces")


@pytest.mark.parametrize(
    "what",
    [
        ("linux-6.12", "linux-7.2", "GUEST"),
        ("GUEST", "linux-6.12", "linux-7.2"),
        (["linux-6.12", "linux-7.2"], "GUEST"),
    ],
    ids=["last", "first", "behind a list"],
)
def test_a_guest_among_policies_is_pointed_at(what: tuple[Any, ...], tmp_path: Path) -> None:
    """`compare` says the call that was meant, with its policies and its guest, where guest= is not written."""
    path = tmp_path / "guest.bin"
    path.write_bytes(b"x")
    for given in (path, str(path)):
        with pytest.raises(TypeError) as error:
            trapline.compare(*(given if part == "GUEST" else part for part in what))
        assert f"compare('linux-6.12', 'linux-7.2', guest={str(path)!r})" in str(error.value)


def test_policies_as_an_option_are_pointed_at() -> None:
    """`compare(policies=...)` says how policies are given."""
    with pytest.raises(TypeError, match=r"policies come first.*compare\('linux-6.12', 'linux-7.2', guest=PATH\)"):
        trapline.compare(policies=["linux-6.12", "linux-7.2"], guest="guest.bin")
