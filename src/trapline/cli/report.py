"""`trapline report`: results of other commands as one page."""

from __future__ import annotations

from typing import Annotated

from trapline.cli.parameter import Parameter

DEFAULT = "report.html"


def report(
    results: Annotated[tuple[str, ...], Parameter(allow_leading_hyphen=True)] = (),
    /,
    *,
    output: Annotated[str, Parameter(name=("--output", "-o"))] = DEFAULT,
) -> int:
    """Make one page of HTML from results that run, boot, compare, route or audit wrote with --json.

    Parameters
    ----------
    results
        JSON files, or - for standard input. Several are shown side by side, what differs first.
    output
        The page; it needs no network, and no other file.
    """
    from trapline.lab.errors import UsageError
    from trapline.lab.output import require_writable, write_text
    from trapline.lab.results import WANTED, read_result

    if not results:
        raise UsageError("report needs a result", remedy=f"write {WANTED} with --json FILE, then trapline report FILE")
    require_writable(output, "-o")
    read = [read_result(file) for file in results]
    from trapline.views.page.page import page

    write_text(page(read), output, "-o")
    print(output)
    return 0
