"""`trapline compare`: the same guest under several policies."""

from __future__ import annotations

from typing import Any

from trapline.cli.common import finish, native, run_options
from trapline.cli.options import MACHINE, UNDER, Flag, Json, Several
from trapline.cli.recording import RECORDING
from trapline.cli.snapshots import SNAPSHOTS
from trapline.cli.tokens import behind_dashes, bound

PICTURES = (".svg", ".png", ".pdf", ".html", ".json")
KERNELS = ("linux-6.12", "linux-7.2")  # of --nested
DRAWN_BY = ("altair", "polars", "vl_convert")


def compare(
    policies: tuple[str, ...] = (),
    /,
    *,
    plot: str | None = None,
    nested: Flag = False,
    kernel: Several = (),
    nacl: str | None = None,
    json: Json = None,
) -> int:
    """Run the same guest under several policies: trapline compare P1 P2 ... -- GUEST [options of run].

    Parameters
    ----------
    policies
        Presets or TOML files.
    plot
        A page of the comparison (.html), or its instructions by level (.svg, .png, .pdf; needs trapline[plot]).
    nested
        Instead of a guest: what an exit of a guest's guest costs, with fetched kernels as L1 (docs/nested.md).
    kernel
        With --nested, a fetched kernel, may be given several times; linux-6.12 and linux-7.2 if not said.
    nacl
        With --nested, these features of SBI NACL alone; one more at each step if not said.
    """
    from trapline.lab.errors import UsageError
    from trapline.lab.output import behind_result
    from trapline.views.progress import bar

    if nested:
        if behind_dashes or plot is not None:
            raise UsageError("compare --nested has no guest and no picture", remedy="compare --nested [POLICY ...]")
        return _nested(policies, kernel, nacl, json)
    if kernel or nacl is not None:
        raise UsageError("--kernel and --nacl go with --nested", remedy="behind the --, --nacl is an option of run")
    if len(policies) < 2 or not behind_dashes:
        raise UsageError("compare needs two policies and a guest", remedy="trapline compare P1 P2 -- GUEST [options]")
    if plot is not None:
        _require_plot(plot)
    arguments = bound("run", behind_dashes)
    if "json" in arguments:
        raise UsageError("--json goes before the --")
    _require_shown(arguments)
    from trapline.lab.compare import compare as lab
    from trapline.views.compare import show_comparison

    options = run_options(
        arguments.get("guest"), arguments.get("under", UNDER), arguments.get("machine", MACHINE),
        arguments.get("memslot", ()), backing=arguments.get("backing", "auto"),
        snapshots=arguments.get("snapshots", SNAPSHOTS), nested=arguments.get("nested", False),
        nacl=arguments.get("nacl"),
    )  # fmt: skip
    native(options.engine)
    with bar("compare") as update:
        result = lab(options, policies, progress=update)
    if plot is not None:
        with behind_result():
            _plot(result, plot)
    finish(result.as_data(), json, lambda out: show_comparison(out, result))
    return max(r.result.exit_status for r in result.reports)


def _nested(policies: tuple[str, ...], kernels: tuple[str, ...], nacl: str | None, json: str | None) -> int:
    from trapline.conform.conform import ISA
    from trapline.conform.exit_costs import exit_costs
    from trapline.conform.hosts import hosts
    from trapline.views.exit_costs import show_exit_costs
    from trapline.views.progress import bar

    native()
    chosen = [host for name in kernels or KERNELS for host in hosts(name, (), (), None, ISA, "trap")]
    with bar("compare") as update:
        found = exit_costs(chosen, policies or ("linux-7.2",), nacl, progress=update)
    finish({"costs": [c.as_data() for c in found]}, json, lambda out: show_exit_costs(out, found))
    return 0


def _require_shown(arguments: dict[str, Any]) -> None:
    """Raise UsageError for an option whose work no comparison shows, or whose file each run would write anew."""
    from trapline.lab.errors import UsageError

    snapshots = arguments.get("snapshots", SNAPSHOTS)
    given = {
        "--observe, --live and --symbols": "observing" in arguments,
        "--gdb": "debugging" in arguments,
        **dict.fromkeys(arguments.get("recording", RECORDING).given(), True),
        "--snapshot": snapshots.snapshot is not None,
    }
    for option, wrong in given.items():
        if wrong:
            raise UsageError(f"{option}: with one policy only", remedy="trapline run GUEST --policy NAME ...")


def _require_plot(path: str) -> None:
    """Raise UsageError where a picture could not be drawn once everything has run."""
    from importlib.util import find_spec

    from trapline.lab.errors import UsageError

    if not path.lower().endswith(PICTURES):
        raise UsageError(f"cannot draw {path!r}: no such format", "--plot", f"end the name in {', '.join(PICTURES)}")
    if path.lower().endswith(".html"):
        return  # our own page
    missing = [name for name in DRAWN_BY if find_spec(name) is None]
    if missing:
        raise UsageError(f"needs {missing[0]}", "--plot", "pip install 'trapline[plot]'")


def _plot(result: Any, path: str) -> None:
    from trapline.lab.output import written
    from trapline.views.compare import save_plot

    with written(path, "--plot"):
        save_plot(result, path)
