"""`trapline pack`: programs that check a core's delegation and Hypervisor extension."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from trapline.cli.common import finish
from trapline.cli.numbers import Address, Seconds
from trapline.cli.options import EXIT_FAILED, EXIT_LIMIT, Json, Several
from trapline.cli.parameter import Parameter


def pack(
    folder: str | None = None,
    /,
    *,
    run: str | None = None,
    list_: Annotated[bool, Parameter(name="--list", negative="")] = False,
    table: Several = (),
    only: Several = (),
    isa: str | None = None,
    zero: Several = (),
    uart: Address = 0x1000_0000,
    finisher: Address = 0x10_0000,
    timeout: Seconds = 60,
    junit: str | None = None,
    json: Json = None,
) -> int:
    """Write self-checking M-mode ELFs for delegation and the Hypervisor chapter, and run them on any simulator.

    Parameters
    ----------
    folder
        Where the ELFs are written.
    run
        A command line with {elf} in it: each program is run with it, and what failed is shown with its section.
    list_
        Show the programs and how much they check.
    table
        NAME=FILE: show results that --run --json wrote side by side, by section; may be given several times.
    only
        These programs alone.
    isa
        What the core has; what is not in it is not tried.
    zero
        What the core ties to zero, as the specification allows: xtval, htval; hedeleg-19 before Privileged 1.13.
    uart
        The address of a 16550; 0 if there is none: then HTIF prints.
    finisher
        The address of the test finisher; 0 if there is none.
    timeout
        Seconds for each program.
    junit
        Write the results as JUnit's XML to a file.
    """
    from tempfile import TemporaryDirectory

    from trapline.lab.errors import UsageError
    from trapline.pack.programs import programs, write
    from trapline.pack.rows import DEFAULT_ISA, Options
    from trapline.pack.run import words_of
    from trapline.views.pack import show_programs

    if table:
        from trapline.pack.standing import load
        from trapline.views.pack import show_standing

        standing = load(table)
        finish(standing.as_data(), json, lambda out: show_standing(out, standing))
        return 0
    if folder is None and run is None and not list_:
        raise UsageError(
            "no folder to write to", "pack", "trapline pack DIR, --list, --table NAME=FILE, or --run 'CMD {elf}'"
        )
    if not timeout > 0:
        raise UsageError(f"{timeout:g} is no time", "--timeout")
    if junit is not None and run is None:
        raise UsageError("--junit goes with --run")
    words = words_of(run) if run is not None else []
    made = programs(Options(isa or DEFAULT_ISA, frozenset(zero)), only)
    with TemporaryDirectory() as spare:
        paths = write(Path(folder or spare), made, uart, finisher) if folder or words else []
        if words:
            return _run(words, [program.name for program in made], paths, timeout, junit, json)
    data = [{"program": p.name, "what": p.what, "cases": len(p.cases), "checks": p.checks} for p in made]
    finish({"programs": data}, json, lambda out: show_programs(out, made))
    return 0


def _run(
    words: list[str], names: list[str], paths: list[Path], timeout: float, junit: str | None, json: str | None
) -> int:
    from trapline.pack.run import run
    from trapline.views.junit import write_junit
    from trapline.views.pack import pack_suites, show_outcomes

    outcomes = [run(words, name, path, timeout) for name, path in zip(names, paths, strict=True)]
    finish({"programs": [one.as_data() for one in outcomes]}, json, lambda out: show_outcomes(out, outcomes))
    if junit is not None:
        write_junit(junit, pack_suites(outcomes))
    verdicts = {one.verdict for one in outcomes}
    return EXIT_FAILED if verdicts & {"failed", "dead"} else EXIT_LIMIT if "hung" in verdicts else 0
