"""`trapline run`: a guest under a policy."""

from __future__ import annotations

from trapline.cli.common import console, finish, import_beside, newline, run_options
from trapline.cli.debugging import DEBUGGING, Debugging
from trapline.cli.observing import OBSERVING, Observing
from trapline.cli.options import MACHINE, UNDER, Backing, Flag, Json, Machine, Several, Under
from trapline.cli.recording import RECORDING, Recording
from trapline.cli.snapshots import SNAPSHOTS, Snapshots
from trapline.dataclass import replace


def run(
    guest: str | None = None,
    /,
    *,
    under: Under = UNDER,
    machine: Machine = MACHINE,
    memslot: Several = (),
    backing: Backing = "auto",
    nested: Flag = False,
    nacl: str | None = None,
    snapshots: Snapshots = SNAPSHOTS,
    observing: Observing = OBSERVING,
    debugging: Debugging = DEBUGGING,
    recording: Recording = RECORDING,
    json: Json = None,
) -> int:
    """Run a guest under a policy and show what each of its traps did.

    Its console is this terminal; Ctrl-A x ends the run.

    Parameters
    ----------
    guest
        An S-mode program: ELF, Linux Image, or flat bytes for 0x80200000; or linux, linux-6.12: a fetched kernel.
    memslot
        GPA:SIZE:ram|ro|hole|none|PATH, may be given several times.
    backing
        Host pages behind guest memory: 4K, 2M, 1G, or auto: 2M where this KVM takes transparent huge pages.
    nested
        Give the guest the hypervisor extension: it may have guests of its own (docs/nested.md).
    nacl
        With --nested: what of SBI NACL it is given: off, or some of csr,hfence,sret,autoswap.
    """
    from trapline.lab.guest_run import run_guest
    from trapline.session.terminal.sigint import result_kept
    from trapline.views.progress import line

    options = run_options(
        guest, under, machine, memslot, recording, backing, snapshots, observing, nested, nacl, debugging
    )
    if recording.dump_dtb is not None:
        from trapline.lab.dump_dtb import dump_guest_tree

        dump_guest_tree(options, recording.dump_dtb)
        return 0
    import_beside("trapline.views.run")
    with result_kept():
        with console(json) as terminal:
            report = run_guest(replace(options, offer=True), terminal, line)
        from trapline.views.run import show_run

        newline(report.result.reason, json)
        finish(report.as_data(), json, lambda out: show_run(out, report))
        return report.result.exit_status
