"""`trapline compare`: the same guest under several policies."""

from __future__ import annotations

from typing import Any

from trapline.cli.application import app
from trapline.cli.common import finish, native, run_options
from trapline.cli.options import MACHINE, UNDER, Json
from trapline.cli.snapshots import SNAPSHOTS
from trapline.cli.tokens import behind_dashes, bound


@app.command
def compare(
    policies: tuple[str, ...] = (),
    /,
    *,
    plot: str | None = None,
    json: Json = None,
) -> int:
    """Run the same guest under several policies: trapline compare P1 P2 ... -- GUEST [options of run].

    Parameters
    ----------
    policies
        Presets or TOML files.
    plot
        Draw the instructions by level (.svg, .png, .html); needs the extra trapline[plot].
    json
        Write the result as JSON to a file, or - for standard output.
    """
    from trapline.lab.errors import UsageError
    from trapline.views.progress import bar

    if len(policies) < 2 or not behind_dashes:
        raise UsageError("compare needs two policies and a guest", remedy="trapline compare P1 P2 -- GUEST [options]")
    arguments = bound("run", behind_dashes)
    if "json" in arguments:
        raise UsageError("--json goes before the --")
    from trapline.lab.compare import compare as lab
    from trapline.views.compare import show_comparison

    options = run_options(
        arguments.get("guest"), arguments.get("under", UNDER), arguments.get("machine", MACHINE),
        arguments.get("memslot", ()), arguments.get("trace"), arguments.get("backing", "auto"),
        arguments.get("snapshots", SNAPSHOTS), nested=arguments.get("nested", False),
    )  # fmt: skip
    native(options.engine)
    with bar("compare") as update:
        result = lab(options, policies, progress=update)
    if plot is not None:
        _plot(result, plot)
    finish(result.as_data(), json, lambda out: show_comparison(out, result))
    return max(r.result.exit_status for r in result.reports)


def _plot(result: Any, path: str) -> None:
    from trapline.lab.errors import UsageError
    from trapline.views.compare import save_plot

    try:
        save_plot(result, path)
    except ImportError as error:
        raise UsageError(f"--plot needs {error.name}", remedy="pip install 'trapline[plot]'") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot plot to {path!r}: {error}") from None
