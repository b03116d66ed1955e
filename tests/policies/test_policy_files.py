"""A user's own policy file, and each way in which it can be wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from trapline.isa.decode import declare, expansion
from trapline.lang.functions import INSTRUCTIONS
from trapline.policies import Action, PolicyError, load_policy, parse_policy
from trapline.policies.causes import unimplemented
from trapline.policies.names import MmioInstruction


def test_extending_a_preset(tmp_path: Path) -> None:
    """A file that extends a release changes only the causes that it names."""
    file = tmp_path / "mine.toml"
    file.write_text(
        'default = "kill"\nextends = "linux-6.12"\n[cause.inst-access]\naction = "redirect"\ndelegate = true\n'
    )
    policy = load_policy(file)
    assert policy.name == "mine"
    assert policy.hedeleg == 0xB109 | 1 << 1
    assert policy.rule(1).action is Action.REDIRECT
    assert policy.rule(5) == load_policy("linux-6.12").rule(5)


def test_extending_a_file_beside_it(tmp_path: Path) -> None:
    """`extends` may name another file, relative to the one that says it."""
    (tmp_path / "base.toml").write_text('default = "kill"\nextends = "none"\nhedeleg = ["breakpoint"]\n')
    (tmp_path / "top.toml").write_text('default = "exit"\nextends = "base.toml"\n[cause.syscall]\naction = "kill"\n')
    assert load_policy(str(tmp_path / "top.toml")).hedeleg == 1 << 3


def test_a_policy_from_nothing() -> None:
    """A file without `extends` has its default for every cause."""
    policy = parse_policy('default = "redirect"\nhedeleg = 0xb109\nhideleg = 0x444\n')
    assert policy.rule(5).action is Action.REDIRECT
    assert policy.delegates(15)


def test_cause_numbers_are_accepted() -> None:
    """A cause may be given by number."""
    assert parse_policy('default = "kill"\n[cause.5]\naction = "redirect"\n').rule(5).action is Action.REDIRECT


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("", "`default` is missing"),
        ('default = "explode"', "'explode'"),
        ('default = "kill', "not TOML"),
        ('default = "kill"\nhedelg = 1', r"line 2: hedelg: unknown field 'hedelg' \(did you mean hedeleg"),
        ('default = "kill"\nhedeleg = 0x400', r"bit 10 \(supervisor-syscall\)"),
        ('default = "kill"\nhedeleg = 0x200', "read-only zero.*bit 9"),
        ('default = "kill"\nhedeleg = 0x800', "read-only zero.*bit 11"),
        ('default = "kill"\nhedeleg = 0x10000', "read-only zero.*bit 16"),
        ('default = "kill"\nhedeleg = 0xf00000', "read-only zero.*bit 20 .*21 .*22 .*23 "),
        ('default = "kill"\nhedeleg = 0x4000', "reserved.*bit 14"),
        ('default = "kill"\nhedeleg = ["virtual-inst-fault"]', "bit 22"),
        ('default = "kill"\nhedeleg = ["ilegal"]', "unknown cause 'ilegal'"),
        ('default = "kill"\nhedeleg = -1', "not a 64-bit value"),
        ('default = "kill"\nhedeleg = "x"', "'x'"),
        ('default = "kill"\nhideleg = 0x1000', "hideleg 0x1000"),
        ('default = "kill"\nextends = "linux-8.0"', "unknown policy 'linux-8.0'.*did you mean"),
        ('default = "kill"\nextends = "kvm"', "unknown policy 'kvm'"),
        ('default = "kill"\nextends = "gone.toml"', "gone.toml.*No such file"),
        (
            'default = "kill"\n[cause.inst-acces]\naction = "kill"',
            r"line 2: cause 'inst-acces'.*\(did you mean inst-access",
        ),
        ('default = "kill"\n[cause.inst-access]\naction = "boom"', "'inst-access'.*'boom'"),
        ('default = "kill"\n[cause.inst-access]\naction = "kill"\nerrno = "EIO"', "'inst-access'.*'EIO'"),
        ('default = "kill"\n[cause.inst-access]\naction = "kill"\nerrno = 0', "errno 0"),
        ('default = "kill"\n[cause.inst-access]\nerrno = 5', "line 2: cause 'inst-access': there is no .action."),
        ('default = "kill"\n[cause.inst-access]\naction = "map"', "guest page faults only"),
        ('default = "kill"\n[cause.inst-access]\naction = "emulate"', "virtual-inst-fault only"),
        ('default = "kill"\n[cause.supervisor-syscall]\naction = "sbi"\ndelegate = true', "bit 10"),
        ('default = "kill"\n[cause.inst-guest-page-fault]\naction = "map"\nwithout_slot = "mmio"', "cannot be MMIO"),
        ('default = "kill"\nhedeleg = 0\n[cause.syscall]\naction = "kill"\ndelegate = true', "contradict"),
        ('default = "kill"\n[cause.5]\naction = "kill"\n[cause.load-access]\naction = "kill"', "twice"),
        ('default = "kill"\n[cause.5]\nsince = "6.1"\naction = "kill"', "'6.1' in a policy without versions"),
        ('default = "kill"\n[[sbi]]\nname = "X"\nfirst = 9\nlast = 9\nmode = "maybe"', "'maybe'"),
        ('default = "kill"\n[[csr]]\nname = "x"\nfirst = 0x2000\nlast = 0x2000\nemulate = "user"', "0x2000"),
        ('default = "kill"\nwithout_bug = ["x"]', "unknown bug 'x' .*pmu-reads-add-up"),
    ],
)
def test_a_wrong_file_is_refused_with_the_bad_value(toml: str, message: str) -> None:
    """Whatever is wrong in a file is named in one line."""
    with pytest.raises(PolicyError, match=message) as caught:
        parse_policy(toml)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 900


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A path that cannot be read is an error with the path."""
    with pytest.raises(PolicyError, match=r"here\.toml.*No such file"):
        load_policy(tmp_path / "nowhere.toml")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p.mkdir(), "Is a directory"),
        (lambda p: os.mkfifo(p), "not a regular file"),
        (lambda p: p.write_bytes(b'default = "k\xff"'), r"not UTF-8 text \(byte 12\)"),
        (lambda p: p.write_bytes(b" " * (1 << 20) + b" "), "more than 1 MiB"),
        (lambda p: p.symlink_to(p), "Too many levels"),
    ],
)
def test_what_is_no_file_is_refused(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    """A directory, a pipe, bytes that are no text and a file without end are refused, and nothing waits."""
    path = tmp_path / "x.toml"
    make(path)
    with pytest.raises(PolicyError, match=message):
        load_policy(path)


def test_a_long_chain_of_files_is_refused(tmp_path: Path) -> None:
    """Files may extend one another, but not without end."""
    for n in range(40):
        (tmp_path / f"{n}.toml").write_text(f'default = "kill"\nextends = "{n + 1}.toml"\n')
    with pytest.raises(PolicyError, match="extend one another"):
        load_policy(tmp_path / "0.toml")


def test_rest_holds_for_every_cause_that_is_not_named() -> None:
    """`[rest]` takes the place of all inherited rows but those that `keep` names."""
    policy = parse_policy(
        'extends = "linux-7.2"\n[rest]\naction = "exit"\nkeep = ["supervisor-syscall"]\nsource = "me"\n'
        '[cause.inst-access]\naction = "redirect"\n'
    )
    assert policy.rule(1).action is Action.REDIRECT
    assert policy.rule(10) == load_policy("linux-7.2").rule(10)
    assert {policy.rule(c).action for c in range(64) if c not in (1, 10)} == {Action.EXIT}
    assert policy.rule(5).source == "me"
    assert policy.hedeleg == load_policy("linux-7.2").hedeleg


def test_the_decoder_knows_exactly_the_instructions_that_may_be_named() -> None:
    """The names that a policy may give its MMIO decoder are the ISA's loads and stores, and what devices ignore."""
    declare()
    plain = set("lb lbu lh lhu lw lwu ld sb sh sw sd flh flw fld fsh fsw fsd".split())
    real = {i.name for i in INSTRUCTIONS if (expansion(i.expands)[0] if i.expands else i).name in plain}
    assert set(get_args(MmioInstruction)) == real | {"cbo.clean", "cbo.flush", "cbo.inval"}


def test_a_file_that_extends_itself(tmp_path: Path) -> None:
    """A circle of `extends` is refused."""
    (tmp_path / "a.toml").write_text('default = "kill"\nextends = "b.toml"\n')
    (tmp_path / "b.toml").write_text('default = "kill"\nextends = "a.toml"\n')
    with pytest.raises(PolicyError, match="extends itself"):
        load_policy(tmp_path / "a.toml")


def test_a_bit_that_the_hart_lacks_is_noted() -> None:
    """Delegating a cause whose bit the hart does not keep is reported, not refused."""
    assert unimplemented(0xB109, 0xB1FE) == (0,)
    assert unimplemented(0xB108, 0xB1FE) == ()
