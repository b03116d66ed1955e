"""`trapline sweep`: many runs at once, and what they gave."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from trapline.cli.common import finish
from trapline.cli.concrete import concrete
from trapline.cli.numbers import Workers
from trapline.cli.options import Json, Junit, Several

Csv = Annotated[str | None, Parameter(allow_leading_hyphen=True)]

sweep = App(
    name="sweep", help="Run policies x firmware x workloads x options x seeds, or show what they gave.",
    help_format="plaintext",
)  # fmt: skip


@sweep.default
@concrete
def sweep_run(
    spec: str | None = None,
    /,
    *,
    out: str | None = None,
    workers: Workers | None = None,
    dask: str | None = None,
    junit: Junit = None,
    json: Json = None,
) -> int:
    """Run every unit of a SPEC.toml and keep the records; what the directory has already is not run again.

    Parameters
    ----------
    spec
        A TOML file: policies, firmware, seeds, limits, workloads, options.
    out
        The directory of the records (Parquet); without it only the tables are left.
    workers
        Processes; as many as there are processors if not said.
    dask
        The address of a Dask scheduler, whose workers run the units.
    """
    from trapline.lab.errors import UsageError
    from trapline.lab.output import behind_result
    from trapline.scale.sweep import sweep as run
    from trapline.views.junit import write_junit
    from trapline.views.progress import bar
    from trapline.views.sweep import show_sweep, sweep_suites

    if spec is None:
        raise UsageError("sweep needs a SPEC.toml", remedy="docs/sweep.md says what it holds")
    if dask is not None and workers is not None:
        raise UsageError(f"--workers {workers}", remedy="the workers of --dask are its scheduler's")
    with bar("sweep") as update:
        result = run(spec, out=out, workers=workers, dask=dask, progress=update)
    if junit is not None:
        with behind_result():
            write_junit(junit, sweep_suites(result.bad_records, result.summary))
    finish(result.as_data(), json, lambda console: show_sweep(console, result))
    return result.exit_status


@sweep.command(name="show")
@concrete
def sweep_show(folder: str, /, *, by: Several = (), csv: Csv = None, json: Json = None) -> int:
    """Show the records of a directory, in groups.

    Parameters
    ----------
    folder
        What --out named.
    by
        Columns to group by: policy, firmware, workload if not said; host-fwft, misaligned, options, seed, outcome.
    csv
        Write the table as CSV to a file, or - for standard output.
    json
        Write the table as JSON to a file, or - for standard output.
    """
    from trapline.scale.store import Store
    from trapline.scale.summary import grouped_by, summary
    from trapline.views.data import write_text
    from trapline.views.sweep import show_summary, summary_csv

    found = summary(Store(folder).frame(), grouped_by(by))
    if csv is not None:
        write_text(summary_csv(found), csv, "--csv")
        if csv == "-":
            return 0
    finish(found.as_data(), json, lambda console: show_summary(console, found))
    return 0
