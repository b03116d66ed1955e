"""`trapline fuzz`: search for what brings a VM down, or shows a guest what hardware would not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from trapline.cli.common import finish, native
from trapline.cli.numbers import Count, Seconds, Seed, Workers
from trapline.cli.options import EXIT_FAILED, EXIT_INTERRUPTED, UNDER, EngineName, Flag, Json, Junit, Several, Under
from trapline.cli.parameter import Parameter


def fuzz(
    *,
    under: Under = UNDER,
    from_: Annotated[Literal["vu", "vs"], Parameter(name="--from")] = "vu",
    nested: Flag = False,
    l1: str | None = None,
    seed: Seed = 0,
    max_seconds: Seconds | None = None,
    runs: Count | None = None,
    workers: Workers = 1,
    out: str | None = None,
    kernel: str | None = None,
    bios: Several = (),
    module: Several = (),
    engine: EngineName = "native",
    junit: Junit = None,
    json: Json = None,
) -> int:
    """Run made programs as guests and keep what kills, hangs, or differs from hardware; exit code 1 if there is any.

    Parameters
    ----------
    from_
        Whether programs are user code (vu) or kernel code (vs) of the guest.
    nested
        Programs are of the guest of a guest hypervisor.
    l1
        With --nested: the policy of the guest hypervisor (proposed).
    seed
        What the programs are made from: the same seed, the same programs.
    max_seconds
        Stop after so long; 60 if neither this nor --runs is given.
    runs
        Stop after so many programs.
    workers
        Processes, which share what they learn.
    out
        Where findings are written as ELF with a line that runs each, and the corpus; a search that is there goes on.
    kernel
        Make SBI calls under the KVM of this kernel, too, and keep what it answers otherwise: an Image, or the name of a
        fetched one.
    bios
        With --kernel: M-mode firmware under it.
    module
        With --kernel: a module that it needs for KVM, may be given several times, in order.
    engine
        The engine that runs the guests; the reference engine repeats some of the native one's runs.
    """
    if kernel is not None:
        return _with_kernel(kernel, bios, module, under.policy, seed, runs, nested, out, junit, json)
    for option, files in (("--bios", bios), ("--module", module)):
        if files:
            raise _goes_with_kernel(option)
    from contextlib import ExitStack
    from tempfile import TemporaryDirectory

    from trapline.fuzz.fuzz import fuzz as search
    from trapline.fuzz.replay import write_all
    from trapline.fuzz.search import Plan
    from trapline.lab.errors import UsageError
    from trapline.lab.output import behind_result
    from trapline.lab.settings import policy_of, settings
    from trapline.views.fuzz import fuzz_suites, show_fuzz
    from trapline.views.junit import write_junit
    from trapline.views.progress import bar

    if l1 is not None and not nested:
        raise UsageError(f"--l1 {l1}", remedy="it goes with --nested")
    chosen = settings(under.policy, under.firmware, under.host_fwft, under.misaligned)
    plan = Plan(chosen, from_.upper(), seed, policy_of(l1 or "proposed") if nested else None, engine)
    native()
    if max_seconds is None and runs is None:
        max_seconds = 60.0
    with ExitStack() as stack:
        folder = (
            Path(out) if out is not None else Path(stack.enter_context(TemporaryDirectory(prefix="trapline-fuzz-")))
        )
        with bar("fuzz") as update:
            result = search(
                plan, under.policy, folder, workers=workers, max_runs=runs, max_seconds=max_seconds, progress=update
            )
        if out is not None:
            with behind_result():
                write_all(result.groups, plan, under.policy, folder)
        if junit is not None:
            with behind_result():
                write_junit(junit, fuzz_suites(result))
        finish(result.as_data(), json, lambda console: show_fuzz(console, result, written=out is not None))
    if result.unwritten:
        raise UsageError(f"cannot write to {str(folder)!r}: {result.unwritten}", "--out")
    if result.interrupted:
        return EXIT_INTERRUPTED
    return EXIT_FAILED if result.groups else 0


def _goes_with_kernel(option: str) -> Exception:
    from trapline.lab.errors import UsageError

    return UsageError(option, remedy="it goes with --kernel")


def _with_kernel(
    kernel: str, bios: Several, module: Several, policy: str, seed: int, runs: int | None, nested: bool,
    out: str | None, junit: str | None, json: str | None,
) -> int:  # fmt: skip
    from trapline.conform.conform import ISA
    from trapline.conform.hosts import hosts
    from trapline.fuzz.kernel import search_kernel, write_kernel
    from trapline.lab.errors import UsageError
    from trapline.lab.output import behind_result
    from trapline.policies import load_policy
    from trapline.views.fuzz import kernel_suites, show_kernel
    from trapline.views.junit import write_junit
    from trapline.views.progress import bar

    if nested:
        raise UsageError("--nested", remedy="a search with --kernel is of a guest's SBI calls")
    host = hosts(kernel, bios, module, None, ISA, "trap")[0]
    with bar("fuzz") as update:
        result = search_kernel(host, load_policy(policy), seed, runs or 16384, progress=update)
    if out is not None:
        with behind_result():
            write_kernel(result, policy, Path(out))
    if junit is not None:
        with behind_result():
            write_junit(junit, kernel_suites(result))
    finish(result.as_data(), json, lambda console: show_kernel(console, result))
    return EXIT_FAILED if result.findings else 0
