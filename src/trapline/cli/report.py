"""`trapline report`: results of other commands as one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from trapline.cli.parameter import Parameter

if TYPE_CHECKING:
    from trapline.lab.results import Result

DEFAULT = "report.html"


def report(
    results: Annotated[tuple[str, ...], Parameter(allow_leading_hyphen=True)] = (),
    /,
    *,
    output: Annotated[str, Parameter(name=("--output", "-o"))] = DEFAULT,
) -> int:
    """Make one page of HTML from results that run, boot, compare, route, audit or sweep wrote with --json.

    Parameters
    ----------
    results
        JSON files, - for standard input, or directories of sweeps (--out). Several are shown side by side, what
        differs first.
    output
        The page; it needs no network, and no other file.
    """
    from trapline.lab.errors import UsageError
    from trapline.lab.output import require_writable, write_text
    from trapline.lab.results import WANTED

    if not results:
        raise UsageError("report needs a result", remedy=f"write {WANTED} with --json FILE, then trapline report FILE")
    require_writable(output, "-o")
    read = [_read(file) for file in results]
    from trapline.views.page.page import page

    write_text(page(read), output, "-o")
    print(output)
    return 0


def _read(file: str) -> Result:
    from trapline.lab.results import read_data, read_result

    if not Path(file).is_dir():
        return read_result(file)
    from trapline.scale.store import Store
    from trapline.scale.summary import folder_data

    return read_data(file, folder_data(Store(file)))
