"""`trapline boot`: real M-mode code."""

from __future__ import annotations

from trapline.cli.common import common_options, fetched, run_and_show, with_initrd
from trapline.cli.debugging import DEBUGGING, Debugging
from trapline.cli.numbers import Granularity
from trapline.cli.observing import OBSERVING, Observing
from trapline.cli.options import MACHINE, Json, Machine, Misaligned
from trapline.cli.recording import RECORDING, Recording
from trapline.cli.snapshots import SNAPSHOTS, Snapshots


def boot(
    image: str | None = None,
    /,
    *,
    bios: str | None = None,
    kernel: str | None = None,
    machine: Machine = MACHINE,
    misaligned: Misaligned = "trap",
    log_commits: str | None = None,
    signature: str | None = None,
    signature_granularity: Granularity = 16,
    snapshots: Snapshots = SNAPSHOTS,
    observing: Observing = OBSERVING,
    debugging: Debugging = DEBUGGING,
    recording: Recording = RECORDING,
    json: Json = None,
) -> int:
    """Boot real M-mode code: a bare program, or firmware with what it starts.

    Parameters
    ----------
    image
        An ELF or flat file that starts in M-mode; or linux, linux-6.12: a fetched kernel with OpenSBI before it.
    bios
        M-mode firmware, placed as QEMU's virt machine does.
    kernel
        What the firmware starts.
    log_commits
        Write retired instructions in Spike's format.
    signature
        Write the memory from begin_signature to end_signature.
    signature_granularity
        Bytes of a line of the signature.
    """
    from trapline.lab import boot as lab

    snapshots.require_alone(machine, image=image, bios=bios, kernel=kernel, misaligned=misaligned != "trap")
    found = fetched(image) if image is not None else fetched(kernel) if kernel is not None else None
    if found is not None:
        kernel, machine = str(found.image), with_initrd(machine, found)
        if image is not None:
            image, bios = None, bios or found.firmware()
    options = lab.BootOptions(
        offer=True,
        image=image,
        bios=bios,
        kernel=kernel,
        misaligned=misaligned,
        log_commits=log_commits,
        signature=signature,
        signature_granularity=signature_granularity,
        **common_options(machine, recording, snapshots, observing, debugging),
    )
    if recording.dump_dtb is not None:
        from trapline.lab.dump_dtb import dump_board_tree

        dump_board_tree(options, recording.dump_dtb)
        return 0
    return run_and_show(lambda terminal, line: lab.boot(options, terminal, line), "show_boot", json)
