"""`trapline audit`: what a guest can count on."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from trapline.cli.application import app
from trapline.cli.common import finish, native
from trapline.cli.numbers import Workers
from trapline.cli.options import EXIT_FAILED, EXIT_INTERRUPTED, Json, Misaligned, Several


@app.command
def audit(
    policies: tuple[str, ...] = (),
    /,
    *,
    policy: Several = (),
    all: Annotated[bool, Parameter(negative="")] = False,
    firmware: Several = (),
    host_fwft: Literal["on", "off", "both"] = "both",
    misaligned: Misaligned = "trap",
    event: str | None = None,
    out: str | None = None,
    workers: Workers | None = None,
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
    event
        Only this cause (number or name), or events whose name fits a regular expression.
    out
        Write each counterexample as an ELF, and the commands that replay them.
    workers
        Processes; as many as there are processors if not said.
    json
        Write the result as JSON to a file, or - for standard output.
    """
    from trapline.lab.audit import audit as lab
    from trapline.lab.output import behind_result
    from trapline.lab.replay import write_all
    from trapline.lab.settings import policy_of
    from trapline.policies import policy_names
    from trapline.views.audit import show_audit
    from trapline.views.progress import bar

    names = [*policies, *policy] or (list(policy_names()) if all else ["linux-7.2"])
    fwft = {"on": (True,), "off": (False,), "both": (False, True)}[host_fwft]
    native()
    with bar("audit") as update:
        result = lab(
            names, firmware=firmware or None, host_fwft=fwft, misaligned=misaligned, event=event, workers=workers,
            progress=update,
        )  # fmt: skip
    replays = None
    if out is not None:
        with behind_result():
            replays = write_all(result.failures, out, {policy_of(n).name: n for n in names})
    finish(result.as_data(), json, lambda console: show_audit(console, result, replays))
    if result.interrupted:
        return EXIT_INTERRUPTED
    return EXIT_FAILED if result.failures else 0
