"""How a search's result looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trapline.fuzz.findings import WORDS
from trapline.views.junit import Case, Suite
from trapline.views.terminal import count, facts, number, put, say

if TYPE_CHECKING:
    from rich.console import Console

    from trapline.fuzz.fuzz import Result
    from trapline.fuzz.kernel import KernelResult

INDENT = 10  # of what belongs to a group


def show_fuzz(console: Console, result: Result, *, written: bool) -> None:
    """Print the groups, the gravest kind first, and what was run."""
    plan = result.plan
    facts(console, [*plan.settings.facts(), f"from {plan.mode}", *_nested(result)], between=", ")
    for kind, words in WORDS.items():
        groups = sorted((g for g in result.groups if g.key.kind == kind), key=lambda g: -g.count)
        if not groups:
            continue
        put(console)
        put(console, f"{words}: {count(len(groups), 'way')}")
        for group in groups:
            put(console, f"  {number(group.count):>6}  {group.key.line().partition(': ')[2]}")
            for line in group.text:
                if INDENT + len(line) > console.width:
                    say(console, line, INDENT)
                else:
                    put(console, f"{'':{INDENT}}{line}")
            if written:
                put(console, f"{'':{INDENT}}{group.file}")
    if not result.groups:
        put(console)
        put(console, "nothing found")
    elif written:
        put(console)
        put(console, "replay.sh beside these ELFs runs them, each with a line of its own")
    rate = result.runs / result.cpu if result.cpu else 0
    put(console)
    ran = [f"{number(result.runs)} programs", f"{number(round(result.seconds))} s"]
    ran += [f"{number(round(rate))} a second of processor time", f"corpus {number(result.corpus)}", f"seed {plan.seed}"]
    facts(console, [*ran, *(["interrupted"] if result.interrupted else [])], between=", ")


def _nested(result: Result) -> list[str]:
    return [f"under L1 {result.plan.nested.name}"] if result.plan.nested is not None else []


def fuzz_suites(result: Result) -> list[Suite]:
    """Return a suite for JUnit: a case for each kind of finding, or for each way in which it was found."""
    cases = []
    for kind, words in WORDS.items():
        groups = [g for g in result.groups if g.key.kind == kind]
        cases += [Case(kind, g.key.line(), words, "\n".join([*g.text, g.command])) for g in groups]
        if not groups:
            cases.append(Case(kind, f"never: {words}"))
    return [Suite(f"fuzz {result.plan.settings.policy.name}", tuple(cases))]


def show_kernel(console: Console, result: KernelResult) -> None:
    """Print the calls that a kernel answers otherwise than the policy."""
    facts(console, [*result.settings.facts(), f"kernel {result.release}"], between=", ")
    put(console)
    for found in sorted(result.findings, key=lambda f: -f.count):
        put(console, f"  {number(found.count):>6}  {found.line()}")
        before = f", behind {count(len(found.calls) - 1, 'other call')}" if len(found.calls) > 1 else ""
        arguments = ", ".join(f"{a:#x}" for a in found.calls[-1].args[:6])
        say(console, f"a0 to a5 {arguments}{before}", INDENT)
        if found.file:
            put(console, f"{'':{INDENT}}{found.file}")
    if not result.findings:
        put(console, "nothing found")
    put(console)
    facts(console, [f"{number(result.runs)} calls", f"seed {result.seed}"], between=", ")


def kernel_suites(result: KernelResult) -> list[Suite]:
    """Return a suite for JUnit: a case for each finding, or one that says that there is none."""
    name = f"fuzz {result.settings.policy.name} with {result.release}"
    cases = [Case("kernel", f.line(), "the kernel answers otherwise", f.command) for f in result.findings]
    return [Suite(name, tuple(cases) or (Case("kernel", "never: the kernel answers otherwise"),))]
