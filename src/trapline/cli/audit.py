"""`trapline audit`: what a guest can count on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from trapline.cli.common import finish, native
from trapline.cli.numbers import Workers
from trapline.cli.options import EXIT_FAILED, EXIT_INTERRUPTED, EventPattern, Flag, Json, Junit, Misaligned, Several

if TYPE_CHECKING:
    from trapline.lab.audit.baseline import Since


def audit(
    policies: tuple[str, ...] = (),
    /,
    *,
    policy: Several = (),
    all: Flag = False,
    firmware: Several = (),
    host_fwft: Literal["on", "off", "both"] = "both",
    misaligned: Misaligned = "trap",
    event: EventPattern = None,
    out: str | None = None,
    workers: Workers | None = None,
    nested: Flag = False,
    l1: Several = (),
    baseline: str | None = None,
    junit: Junit = None,
    json: Json = None,
) -> int:
    """Execute every event under every firmware and check what a guest can count on; exit code 1 if something fails.

    Parameters
    ----------
    policies
        Presets or TOML files; linux-7.2 if none is named.
    policy
        The same, as an option.
    all
        Every preset.
    firmware
        Only these firmware models.
    host_fwft
        Which of the two settings to try.
    misaligned
        Whether the hart does misaligned accesses itself or traps.
    out
        Write each counterexample as an ELF, and the commands that replay them.
    workers
        Processes; as many as there are processors if not said.
    nested
        Raise each event in the guest of a guest hypervisor, and in that itself; --all is every policy that nests.
    l1
        With --nested: the policy of the guest hypervisor, or several (linux-7.2); all is every preset that makes a
        hypervisor of its own.
    baseline
        The JSON of an earlier audit: only failures that it does not have make the exit code 1.
    """
    from trapline.lab.audit.audit import audit as lab
    from trapline.lab.audit.baseline import read, since
    from trapline.lab.errors import UsageError
    from trapline.lab.output import behind_result
    from trapline.lab.replay.replay import write_all
    from trapline.lab.route import event_names
    from trapline.lab.settings import policy_of
    from trapline.policies import policy_names
    from trapline.policies.load import NESTED_PRESETS
    from trapline.views.audit import show_audit
    from trapline.views.progress import bar

    every = ["linux-7.2", *NESTED_PRESETS] if nested else list(policy_names())
    names = [*policies, *policy] or (every if all else ["linux-7.2"])
    fwft = {"on": (True,), "off": (False,), "both": (False, True)}[host_fwft]
    since_file = None if baseline is None else (baseline, read(baseline, nested=nested))
    native()
    if nested:
        return _nested(names, list(l1), firmware, fwft, misaligned, event, out, workers, json, since_file, junit)
    if l1:
        raise UsageError(f"--l1 {l1[0]}", remedy="it goes with --nested")
    with bar("audit") as update:
        result = lab(
            names, firmware=firmware or None, host_fwft=fwft, misaligned=misaligned, event=event, workers=workers,
            progress=update,
        )  # fmt: skip
    replays = None
    if out is not None:
        with behind_result():
            replays = write_all(result.failures, out, {policy_of(n).name: n for n in names})
    asked = {"policy": result.policies, "firmware": result.firmware, "host_fwft": fwft, "misaligned": (misaligned,)}
    changed = None if since_file is None else since(*since_file, result.failures, asked, event_names(event))
    return _conclude(result, changed, junit, json, lambda console: show_audit(console, result, replays, changed))


def _conclude(result: Any, changed: Since | None, junit: str | None, json: Json, show: Callable[[Any], None]) -> int:
    """Write and show an audit, flat or nested; return the exit code."""
    from trapline.lab.output import behind_result
    from trapline.views.junit import audit_suites, write_junit

    counted = result.failures if changed is None else changed.new
    if junit is not None:
        with behind_result():
            write_junit(junit, audit_suites(result, counted))
    finish(result.as_data() if changed is None else {**result.as_data(), "baseline": changed.as_data()}, json, show)
    if result.interrupted:
        return EXIT_INTERRUPTED
    return EXIT_FAILED if counted else 0


def _nested(
    names: list[str], l1: list[str], firmware: Several, fwft: tuple[bool, ...], misaligned: Misaligned,
    event: str | None, out: str | None, workers: int | None, json: Json,
    since_file: tuple[str, frozenset[tuple[Any, ...]]] | None, junit: str | None,
) -> int:  # fmt: skip
    from trapline.lab.audit.baseline import since
    from trapline.lab.nested.audit import every_l1, nested_audit
    from trapline.lab.nested.replay import write_nested
    from trapline.lab.nested.route import DEFAULT_L1, wanted
    from trapline.lab.output import behind_result
    from trapline.lab.settings import policy_of
    from trapline.views.nested import show_nested_audit
    from trapline.views.progress import bar

    inner = every_l1() if l1 == ["all"] else l1 or [DEFAULT_L1]
    with bar("audit") as update:
        result = nested_audit(
            names, inner, firmware=firmware or None, host_fwft=fwft, misaligned=misaligned, event=event,
            workers=workers, progress=update,
        )  # fmt: skip
    replays = None
    if out is not None:
        said = {policy_of(n).name: n for n in (*names, *inner)}
        with behind_result():
            replays = write_nested(result.failures, out, said)
    asked = {
        "policy": result.policies, "firmware": result.firmware, "host_fwft": fwft, "misaligned": (misaligned,),
        "l1": (*result.l1, ""),
    }  # fmt: skip
    events = None if event is None else wanted(event)
    changed = None if since_file is None else since(*since_file, result.failures, asked, events)
    return _conclude(result, changed, junit, json, lambda console: show_nested_audit(console, result, replays, changed))
