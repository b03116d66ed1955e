"""The table of a run: cause by origin, route, outcome, count; and the instructions of every level."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trapline.views.terminal import WHOLE, count, facts, number, percent, put, say, style_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from trapline.lab.boot import BootReport
    from trapline.lab.guest_run import RunReport
    from trapline.lab.observe import Observation
    from trapline.lab.run_rows import RunRow
    from trapline.lab.snapshots import Taken


def way(row: RunRow) -> str:
    """Return the route behind the origin with what each hop did, short."""
    words = {"hardware": "", "firmware-redirect": "redirect", "firmware-emulate": "emulate", "kvm-redirect": "redirect"}
    parts = []
    for mode, how in zip(row.path[1:], row.how, strict=False):
        word = words.get(how, how.removeprefix("kvm-").removeprefix("firmware-"))
        parts.append(f"{word}>{WHOLE}{mode}")
    return WHOLE.join(parts)


# What a row of traps says wherever there is one: where they went, how many, and what the hosted levels paid.
COSTED = (
    ("route", "left"), ("outcome", "left"), ("count", "right"), ("M", "right"), ("HS", "right"), ("instr.", "right"),
    ("%", "right"), ("mean", "right"),
)  # fmt: skip
COSTED_FOLD = ("route", "M", "HS", "outcome")
COSTED_LEGEND = (
    "M, HS: estimated instructions of these traps there; instr.: both, and their percent of all instructions of the "
    "run; mean: of one trap."
)
COSTED_MORE = f"{COSTED_LEGEND} A guest's own handlers: --observe"


def costed(row: RunRow, everything: int) -> list[str | Text]:
    """Return the cells of these columns; `everything` is the instructions of the run."""
    from rich.text import Text

    outcome = Text(row.outcome(), style=style_of(row.end))
    m, hs, total, mean = (f"~{number(v)}" if v else "-" for v in (row.m, row.hs, row.total, row.mean))
    return [
        way(row),
        outcome,
        number(row.count),
        m,
        hs,
        total,
        percent(row.total, everything) if row.total else "-",
        mean,
    ]


def cause_text(cause: int) -> str:
    """Return number and name; interrupts by name only."""
    from trapline.privilege.causes import cause_name

    return cause_name(cause) if cause >> 63 else f"{cause} {cause_name(cause)}"


def levels(console: Console, instructions: dict[str, int], source: str = "") -> None:
    """Print instructions by level."""
    everything = sum(instructions.values())
    texts = (
        f"{'~' if n in ('HS', 'M') and source else ''}{number(v)} {n} ({percent(v, everything)} %)"
        for n, v in instructions.items()
        if v
    )
    facts(console, texts, head="instructions: ")
    if source and any(instructions.get(n) for n in ("HS", "M")):
        say(console, f"~ estimated; HS {source}", 2, "dim")


def show_run(console: Console, report: RunReport) -> None:
    """Print the result of a run."""
    from trapline.kvm.report.cost import source
    from trapline.views.death import show_death, show_places, show_survival

    result = report.result
    facts(console, report.options.settings.facts(), style="bold")
    good = result.exit_status == 0
    message = result.message.removeprefix("killed: ")
    say(console, f"{result.reason}: {message}", 0, "green" if good else "red")
    if not report.places:
        for loop in report.loops:
            say(console, loop.describe(), 0, "yellow")
    from trapline.views.tables import show, table

    made = table(("cause", "left"), ("from", "left"), *COSTED, fold=COSTED_FOLD)
    for row in report.rows:
        made.add_row(cause_text(row.cause), row.origin, *costed(row, report.all_instructions))
    if made:
        show(console, made)
    else:
        say(console, "no trap")
    put(console)
    if any(row.total for row in report.rows):
        say(console, COSTED_MORE if report.seen is None else COSTED_LEGEND, 0, "dim")
    levels(console, report.instructions, source(report.options.settings.policy.release))
    guest = report.instructions.get("VU", 0) + report.instructions.get("VS", 0)
    counts = (count(report.traps, "trap"), count(guest, "guest instruction"), count(report.ticks, "tick"))
    facts(console, (*counts, f"{report.seconds:.2f} s"))
    kvm = {n: v for n, v in report.counters.items() if not n.startswith("trapline/") and v}
    if kvm:
        facts(console, (f"{n} {number(v)}" for n, v in kvm.items()), ", ", head="KVM statistics: ")
    show_snapshot(console, report.snapshot)
    _show_seen(console, report.seen)
    for line in report.unassigned:
        say(console, line, 0, "yellow")
    for line in report.balance:
        say(console, f"counters and records disagree: {line}", 0, "bold red")
    for note in report.notes:
        say(console, f"note: {note}", 0, "dim")
    if result.death is not None:
        put(console)
        show_death(console, result.death, report.symbols, report.survival)
    if report.places:
        show_places(console, report.places, {loop.hart: loop.describe() for loop in report.loops})
    if report.survival is not None and result.death is None:
        show_survival(console, report.survival)


def show_snapshot(console: Console, taken: Taken | None) -> None:
    """Say where a snapshot is, if one was taken."""
    if taken is not None:
        put(console, f"snapshot: {taken.file}, {taken.size / 1e6:.1f} MB in {taken.seconds:.2f} s")


def show_boot(console: Console, report: BootReport) -> None:
    """Print the result of a boot."""
    good = report.result.exit_status == 0
    say(console, f"{report.result.reason}: {report.result.message}", 0, "green" if good else "red")
    for loop in report.loops:
        say(console, loop.describe(), 0, "yellow")
    if report.traps:
        from trapline.views.tables import show, table

        made = table(("cause", "left"), ("from", "left"), ("to", "left"), ("count", "right"))
        for cause, origin, destination, n in report.traps:
            made.add_row(cause_text(cause), origin, destination, number(n))
        show(console, made)
        put(console)
    levels(console, report.instructions)
    rate = report.result.instructions / report.seconds / 1e6 if report.seconds else 0
    retired = count(report.result.instructions, "instruction")
    facts(console, (retired, f"{report.seconds:.2f} s", f"{number(rate)} MIPS"))
    show_snapshot(console, report.snapshot)
    _show_seen(console, report.seen)
    for note in report.notes:
        say(console, f"note: {note}", 0, "dim")


def _show_seen(console: Console, seen: Observation | None) -> None:
    if seen is not None:
        from trapline.views.observe import show_observation

        show_observation(console, seen)
