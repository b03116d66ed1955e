"""The section of a run or a boot: its routes, what they cost, and its death."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from trapline.lab.results import Killed, Observed, Run
from trapline.people import address
from trapline.views.page.bars import KNOWN, Bar, bars
from trapline.views.page.elements import el
from trapline.views.page.parts import Rows, both, facts, folded, items, outcome
from trapline.views.page.picture import picture
from trapline.views.page.ways import ways
from trapline.views.run import COSTED_MORE, cause_text
from trapline.views.terminal import count, number, percent

TOP = 12  # bars of what costs most


def run_name(run: Run) -> str:
    """Return what a run is called beside others."""
    return run.policy or run.kernel or run.image or "boot"


def under(run: Run) -> str:
    """Return what a run was under."""
    if not run.policy:
        return "board"
    return f"policy {run.policy}, firmware {run.firmware}, host-fwft {'on' if run.host_fwft else 'off'}"


def run_section(run: Run) -> list[Element]:
    """Return everything that is known of a run."""
    traps = sum(t.count for t in run.traps)
    counted = f"{count(traps, 'trap')}, {count(round(run.total), 'instruction')} of all levels, {run.seconds:.2f} s"
    made = [
        facts(
            under(run),
            f"misaligned {run.misaligned}" if run.misaligned else "",
            run.guest or run.image or "",
            run.kernel or "",
        ),
        ended(run),
        facts(counted),
    ]
    if run.death is not None:
        made.append(death(run.death, run))
    if run.traps:
        drawn = ways((t, t.way(), t.count) for t in run.traps)
        made.append(both(lambda width: picture(drawn, f"Routes of {run_name(run)}", width), "Which way the traps took"))
    made += [levels([run], "Instructions by level"), *costs(run)]
    if run.traps:
        rows = count(len(run.traps), "route")
        said = f"All {rows} with their costs" if run.policy else f"All {rows}"
        made.append(folded(said, *trap_table(run), open_=True))
    if run.observed is not None and run.observed.traps:
        made.append(folded("Round trips", *round_trips(run.observed), open_=True))
    if run.counters:
        made.append(folded("Counters", counters(run.counters)))
    if run.places:
        where = Rows("Where the guest is", ("vCPU", "n"), ("mode", ""), ("pc", "m"), ("what it does", ""))
        for place in run.places:
            where.row(str(place.vcpu), place.mode, address(place.pc, place.symbol), place.what)
        made.append(where.element)
    if (notes := items(run.notes)) is not None:
        made.append(notes)
    return made


def ended(run: Run) -> Element:
    """Return how a run ended, in a line."""
    text = run.message if run.message.startswith(run.reason) else f"{run.reason}: {run.message}"
    return el("p", text, class_="bad" if run.exit_status else "good")


def levels(runs: Sequence[Run], caption: str, titles: Sequence[str] = ()) -> Element:
    """Return bars of the instructions of each level, of one run or of several that are called `titles`."""
    rows = [Bar(f"{t}{_not_well(r)}", by_level(r)) for t, r in zip(titles or map(run_name, runs), runs, strict=True)]
    named = list(dict.fromkeys(part for row in rows for part in row.parts))
    estimated = sorted({n for r in runs for n in r.estimated if r.instructions.get(n)})
    said = f"{caption} ({' and '.join(estimated)} estimated)" if estimated else caption
    return both(lambda width: bars(rows, caption, width, named), said)


def _not_well(run: Run) -> str:
    """Return how a run ended whose bar is shorter for that."""
    if run.exit_status == 0:
        return ""
    return f" ({run.reason} -{run.death.errno})" if run.death and run.death.errno else f" ({run.reason})"


def by_level(run: Run) -> dict[str, float]:
    """Return the instructions of the levels that executed any, in the order of their privilege."""
    order = {name: n for n, name in enumerate(KNOWN)}
    names = sorted(run.instructions, key=lambda n: (order.get(n, 99), n))
    return {name: run.instructions[name] for name in names if run.instructions[name]}


def costs(run: Run) -> list[Element]:
    """Return bars of the routes that cost most, if any cost is known."""
    costly = sorted((t for t in run.traps if _total(t.instructions)), key=lambda t: -_total(t.instructions))[:TOP]
    if not costly:
        return []
    rows = [
        Bar(
            f"{cause_text(t.cause)} from {t.from_}, {t.outcome()}",
            {n: t.instructions[n] for n in ("HS", "M") if t.instructions.get(n)},
            f"{percent(_total(t.instructions), run.total)} %",
        )
        for t in costly
    ]
    title = "What the hosted levels executed for the guest's traps"
    named = [n for n in ("HS", "M") if any(n in row.parts for row in rows)]
    return [both(lambda width: bars(rows, title, width, named), f"{title}, estimated instructions")]


def _total(instructions: dict[str, float]) -> float:
    return instructions.get("total", sum(instructions.values()))


def trap_table(run: Run) -> list[Element]:
    """Return the table of traps with their costs, and what its columns mean."""
    if not run.policy:
        plain = Rows("", ("cause", ""), ("from", "w"), ("to", ""), ("count", "n"))
        for t in run.traps:
            plain.row(cause_text(t.cause), t.from_, t.to or "", number(t.count))
        return [plain.element]
    made = Rows(
        "", ("cause", ""), ("from", "w"), ("route", ""), ("outcome", "w"), ("count", "n"),
        ("M", "n"), ("HS", "n"), ("instr.", "n"), ("%", "n"), ("mean", "n"),
    )  # fmt: skip
    for t in run.traps:
        m, hs, total = (t.instructions.get(n, 0) for n in ("M", "HS", "total"))
        estimates = [f"~{number(v)}" if v else "-" for v in (m, hs, total)]
        share = percent(total, run.total) if total else "-"
        mean = f"~{number(t.mean)}" if t.mean else "-"
        how = ", ".join(word for word in t.how if word != "hardware")
        way: list[Element | str] = [" > ".join(t.way()), el("span", f" {how}" if how else "", class_="faint")]
        made.row(cause_text(t.cause), t.from_, way, outcome(t.outcome()), number(t.count), *estimates, share, mean)
    return [made.element, el("p", COSTED_MORE, class_="faint")]


def round_trips(seen: Observed) -> list[Element]:
    """Return the table of what each kind of trap cost until its return, the costliest first, and what that means."""
    made = Rows(
        "", ("trap", ""), ("way", ""), ("then", "w"), ("count", "n"), ("mean", "n"), ("p50", "n"), ("p99", "n"),
        ("max", "n"), ("cost, %", "n"),
    )  # fmt: skip
    found = [(trap, trip, trip.mean * trip.count) for trap in seen.traps for trip in trap.round_trips]
    everything = sum(cost for *_, cost in found)
    for trap, trip, cost in sorted(found, key=lambda f: -f[2]):
        numbers = (number(round(trip.instructions.get(name, 0))) for name in ("p50", "p99", "max"))
        mean = f"{'~' if trip.hosted else ''}{number(round(trip.mean))}"
        end = trip.returns, number(trip.count), mean, *numbers, percent(cost, everything)
        made.row(trap.name, " > ".join(trip.path), *end)
    rest = f"{number(seen.open)} did not return" + (f", {number(seen.lost)} lost" if seen.lost else "")
    said = "Instructions of all levels from the trap to its return; ~: with what hosted levels are estimated to execute"
    return [made.element, el("p", f"{said}. {rest}.", class_="faint")]


def counters(values: dict[str, int]) -> Element:
    """Return statistics: KVM's by their names, and ours."""
    made = Rows("KVM's statistics by their names; trapline/ are our own", ("counter", "m"), ("value", "n"))
    for name, value in values.items():
        made.row(name, number(value))
    return made.element


def death(killed: Killed, run: Run) -> Element:
    """Return everything that is known of a kill, the last traps and the walks with it."""
    parts: list[Element | None] = [
        el("h3", f"The death: {killed.name} from {killed.from_}", class_="bad"),
        el("p", f"The rule that killed: {killed.rule or 'no source given'}"),
        el("p", "at ", el("code", address(killed.pc, killed.symbol))),
        el("pre", "\n".join(f"kvm: {line}" for line in run.kernel_log)) if run.kernel_log else None,
    ]
    if killed.code:
        lines = (f"{'>' if c.current else ' '} {c.address:#x}: {_bits(c.bits):>8}  {c.text}" for c in killed.code)
        parts.append(folded("Code", el("pre", "\n".join(lines)), open_=True))
    last = Rows(
        "The last traps, the newest at the end", ("cause", ""), ("route", ""), ("outcome", "w"), ("pc", "m"),
        ("tval", "m"),
    )  # fmt: skip
    for trap in killed.last_traps:
        end = f"killed -{trap.errno}" if trap.errno else trap.end
        last.row(trap.name, " > ".join(trap.path), outcome(end), address(trap.epc, trap.symbol), f"{trap.tval:#x}")
    if last:
        parts.append(folded("Last traps", last.element, open_=True))
    for walk in killed.walks:
        steps = Rows(f"{walk.stage}-stage: {walk.why}", ("level", "n"), ("at", "m"), ("entry", "m"), ("flags", "m"))
        for step in walk.steps:
            steps.row(str(step.level), f"{step.address:#x}", f"{step.entry:#018x}", step.flags)
        shown = steps.element if steps else el("p", walk.why)
        parts.append(folded(f"{walk.stage}-stage walk of {walk.address:#x}", shown, open_=True))
    for level, csrs in killed.csrs.items():
        values = Rows("", ("CSR", "m"), ("value", "m"), ("", ""))
        for csr in csrs:
            values.row(csr.name, f"{csr.value:#x}", csr.meaning)
        parts.append(folded(f"CSRs of {level}", values.element))
    if killed.registers:
        text = "\n".join(f"{name:>5} {value:016x}" for name, value in killed.registers.items())
        parts.append(folded("Registers", el("pre", text)))
    if run.survival is not None and run.survival.fates:
        fates = Rows("", ("policy", ""), ("outcome", ""))
        for fate in run.survival.fates:
            fates.row(fate.policy, fate.outcome if fate.survives else outcome(fate.outcome))
        parts.append(folded("The same instruction under the presets", fates.element))
    return el("section", *parts, aria_label="The death")


def _bits(bits: int | None) -> str:
    if bits is None:
        return ""
    return f"{bits:08x}" if bits & 3 == 3 else f"{bits:04x}"
