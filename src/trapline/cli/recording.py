"""Options of commands that write down what a machine is and does."""

from __future__ import annotations

from trapline.cli.numbers import Count, TraceLast
from trapline.cli.options import Several
from trapline.cli.parameter import Parameter
from trapline.dataclass import dataclass, fields


@Parameter(name="*")
@dataclass(frozen=True)
class Recording:
    """Files beside the result.

    Attributes
    ----------
    trace
        Write traps and returns to a file, by its ending: .csv, .parquet, .json or .pftrace for Perfetto, or .jsonl (of
        `run`: the ways of traps that leave the guest).
    trace_last
        Write only so many of the last ones of each hart, at the end.
    trace_filter
        Write only some: cause=NAME, from=MODE, to=LEVEL, pc=SYMBOL or pc=LOW..HIGH; several values behind commas; may
        be repeated, and then all must hold.
    log
        Write lines of text as QEMU's -d does, ITEMS or ITEMS:FILE: some of exec,int,mmu,sbi.
    log_file
        Write them to a file, not to standard error.
    profile
        Write where the harts were now and then, by level and function: .txt or .folded (collapsed stacks), .json
        (speedscope).
    profile_every
        Instructions of a hart between two samples (1000003).
    coverage
        Write which instructions were executed, and how often: .info (lcov, by the program's line tables), .txt or .csv.
    dump_dtb
        Write the device tree that the machine would start with to a file, and exit.
    """

    trace: str | None = None
    trace_last: TraceLast | None = None
    trace_filter: Several = ()
    log: str | None = None
    log_file: str | None = None
    profile: str | None = None
    profile_every: Count | None = None
    coverage: str | None = None
    dump_dtb: str | None = None

    def given(self) -> list[str]:
        """Return the options that differ from what they are unless given."""
        names = [f.name for f in fields(self) if getattr(self, f.name) != f.default]
        return [f"--{name.replace('_', '-')}" for name in names]


RECORDING = Recording()
