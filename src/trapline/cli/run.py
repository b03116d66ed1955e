"""`trapline run`: a guest under a policy."""

from __future__ import annotations

from trapline.cli.common import run_and_show, run_options
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

    options = run_options(
        guest, under, machine, memslot, recording, backing, snapshots, observing, nested, nacl, debugging
    )
    if recording.dump_dtb is not None:
        from trapline.lab.dump_dtb import dump_guest_tree

        dump_guest_tree(options, recording.dump_dtb)
        return 0
    options = replace(options, offer=True)
    return run_and_show(lambda terminal, line: run_guest(options, terminal, line), "show_run", json)
