"""`trapline stat` on the whole screen: kvm_stat's keys, with traps by route and what they cost."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, Protocol

from rich.text import Text
from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.driver import Driver
from textual.geometry import Size
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Input, OptionList, Static
from textual.widgets.option_list import Option

from trapline.lab.errors import UsageError
from trapline.lab.stat.client import Gone, Names, Sample, connect, described, runs
from trapline.lab.stat.rates import Line, Rates, View, named
from trapline.views.stat import SORTS, rate
from trapline.views.terminal import number, percent, style_of

ORDERS = ("rate", "total", "cost", "name")
TITLES = {"trap": "trap", "counter": "counter", "symbol": "seen in"}
CPUS_SHOWN = 8
HELP = """\
  q        quit (also Ctrl-C)
  s        seconds between two samples
  f        only what fits a regular expression
  c        clear the filter
  o        the next order: by rate, total, cost, name
  r        count from here on
  x        with or without the columns by the second
  p        another run
  h        this help; any key leaves it

/s: since the sample before. cost: instructions that HS and M are estimated
to execute for it. seen in: where vCPUs were when the run looked outside.
"""


class Asks(Protocol):
    """A connection to a run."""

    def ask(self) -> Sample: ...
    def close(self) -> None: ...


def _own_driver() -> type[Driver]:
    from trapline.views.own_keys import OwnDriver  # where there is a terminal of this kind

    return OwnDriver


class Help(ModalScreen[None]):
    """The keys."""

    def compose(self) -> ComposeResult:
        yield Static(HELP, id="help")

    def on_key(self, event: events.Key) -> None:
        event.stop()
        self.dismiss()


class Choice(ModalScreen[int | None]):
    """Which run."""

    BINDINGS: ClassVar = [Binding("escape,q", "dismiss(None)", "back")]

    def __init__(self, found: list[tuple[int, Sample | str]]) -> None:
        super().__init__()
        self._found = found

    def compose(self) -> ComposeResult:
        options = [Option(Text(_run_line(pid, s)), id=str(pid)) for pid, s in self._found]
        if options:
            yield OptionList(*options, id="choice")
        else:
            yield Static("no run of trapline is here to watch; Esc", id="choice")

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(int(event.option.id or 0))


def _run_line(pid: int, s: Sample | str) -> str:
    return f"{pid}  {s}" if isinstance(s, str) else f"{pid}  {s.command}  {s.under()}  {s.program}  {s.seconds:.0f} s"


class StatScreen(App[None]):
    """The screen. `pid` None: it asks which run. `own`: it is the run's own screen, and ends with the run."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head, #levels, #cpus { height: auto; padding: 0 1; }
    #head { text-style: bold; }
    #ask { dock: bottom; display: none; }
    DataTable { height: 1fr; }
    Help, Choice { align: center middle; }
    #help, #choice { width: auto; max-width: 100%; height: auto; max-height: 90%; border: round $accent; padding: 1 2; }
    """
    BINDINGS: ClassVar = [
        Binding("q", "quit", "quit"),
        Binding("ctrl+c", "quit", "quit", show=False, priority=True),
        Binding("s", "interval", "interval"),
        Binding("f", "filter", "filter"),
        Binding("c", "clear", "clear filter"),
        Binding("o", "order", "order"),
        Binding("r", "reset", "reset"),
        Binding("x", "rates", "per second"),
        Binding("p", "runs", "run"),
        Binding("h,question_mark", "keys", "help"),
    ]

    def __init__(
        self,
        pid: int | None,
        *,
        fields: str = "",
        interval: float = 1.0,
        own: bool = False,
        connect: Callable[[int], Asks] = connect,
        runs: Callable[[], Mapping[int, Path]] = runs,
    ) -> None:
        super().__init__(_own_driver() if own else None)
        self.pid, self.fields, self.interval, self.own = pid, fields, interval, own
        self.ends_run = False  # whether Ctrl-A x was typed on the run's own screen
        self._connect, self._runs = connect, runs
        self.order, self.by_second = ORDERS[0], True
        self.said = ""  # what is left on the terminal when it ends
        self.shown: View | None = None
        self._wanted, self._rates, self._asked = named(fields), Rates(), ""
        self.escape = False  # whether the last key was Ctrl-A

    def compose(self) -> ComposeResult:
        yield Static(id="head", markup=False)
        yield Static(id="levels", markup=False)
        yield DataTable(id="table", cursor_type="row", zebra_stripes=False)
        with Vertical(id="cpus"):
            yield Static(id="where", markup=False)
        yield Input(id="ask")
        yield Footer()

    def on_mount(self) -> None:
        self.query_one(DataTable).focus()
        if self.pid is None:
            self.action_runs()
        else:
            self._follow(self.pid)

    def _follow(self, pid: int) -> None:
        """Watch another run."""
        self.pid, self._rates, self.shown = pid, Rates(Names()), None
        self.run_worker(self._watch(pid), exclusive=True, group="watch")

    async def _watch(self, pid: int) -> None:
        try:
            connection = self._connect(pid)
        except UsageError as error:
            self._ended(str(error))
            return
        with contextlib.closing(connection):
            try:
                while True:
                    sample = await asyncio.to_thread(connection.ask)
                    view = await asyncio.to_thread(self._rates.view, sample)
                    self.shown = view
                    self._show()
                    self._fit()
                    await asyncio.sleep(self.interval)
            except Gone as gone:
                self._ended(str(gone))

    def _fit(self) -> None:
        """Take the terminal's size: where it sends reports, Textual ignores SIGWINCH, and one can be lost."""
        found = Size(*shutil.get_terminal_size(self.size))
        if found != self.size and not self.is_headless:
            self.post_message(events.Resize(found, found))

    def _ended(self, text: str) -> None:
        self.said = text
        if self.own:
            self.exit()
            return
        self.query_one("#head", Static).update(f"{text}: q quits, p is another run")

    # --- what is shown ---
    def _show(self) -> None:
        view = self.shown
        if view is None or not self.is_running:
            return
        s = view.sample
        filtered = f"  filter {self.fields}" if self.fields else ""
        held = "  held" if s.held else ""
        self.query_one("#head", Static).update(
            f"{s.command} {s.pid}  {s.under()}  {s.program}\n"
            f"{s.seconds:.1f} s  {number(view.mips)} MIPS{held}  each {self.interval:g} s  by {self.order}{filtered}"
        )
        levels = "  ".join(
            f"{line.name} {'~' if line.name in s.estimated else ''}{number(line.total)}"
            for line in view.levels
            if line.total
        )
        self.query_one("#levels", Static).update(f"instructions  {levels}")
        self._fill(view)
        name = "vCPU" if s.command == "run" else "hart"
        cpus = [f"{name} {c.id} {c.state} {c.mode} {w}" for c, w in zip(s.vcpus, view.where, strict=True)]
        more = [f"and {len(cpus) - CPUS_SHOWN} more"] if len(cpus) > CPUS_SHOWN else []
        self.query_one("#where", Static).update("\n".join(cpus[:CPUS_SHOWN] + more))

    def _fill(self, view: View) -> None:
        """Fill the table anew; what the reader has scrolled to and chosen stays."""
        rows: list[list[Text]] = []
        titles = ("total", "%", *(("/s", "cost/s") if self.by_second else ()), "cost")
        for lines in (view.traps, view.counters, view.symbols):
            lines = tuple(line for line in lines if self._wanted(line))
            everything = sum(line.total for line in lines)
            if lines:
                rows.append([Text(TITLES[lines[0].kind], style="bold underline"), *[Text("")] * len(titles)])
            rows += [self._cells(line, everything) for line in sorted(lines, key=SORTS[self.order])]
        table = self.query_one(DataTable)
        row, top = table.cursor_row, table.scroll_y
        table.clear(columns=True)
        for n, title in enumerate(("event", *titles)):
            wide = max((cells[n].cell_len for cells in rows), default=0)
            table.add_column(Text(title, justify="right" if n else "left"), width=max(wide, len(title)))
        for cells in rows:
            table.add_row(*cells)
        table.move_cursor(row=min(row, table.row_count - 1), scroll=False)
        table.scroll_to(y=top, animate=False)

    def _cells(self, line: Line, everything: int) -> list[Text]:
        numbers = [number(line.total), "" if line.kind == "counter" else percent(line.total, everything)]
        if self.by_second:
            numbers += [rate(line.rate), f"~{number(line.costs)}" if line.costs else ""]
        numbers.append(f"~{number(line.cost)}" if line.cost else "")
        style = style_of(line.trap.end) if line.trap is not None else ""
        return [Text(line.name, style=style), *(Text(n, justify="right") for n in numbers)]

    # --- keys ---
    def heard(self, key: str) -> None:
        """On the run's own screen Ctrl-A l leads back to its console, as it leads here, and Ctrl-A x ends the run."""
        if self.escape and key in ("l", "L", "x", "X"):
            self.ends_run = self.ends_run or key in ("x", "X")
            self.call_later(self.exit)
        self.escape = key == "ctrl+a"

    def action_order(self) -> None:
        self.order = ORDERS[(ORDERS.index(self.order) + 1) % len(ORDERS)]
        self._show()

    def action_rates(self) -> None:
        self.by_second = not self.by_second
        self._show()

    def action_reset(self) -> None:
        self._rates.reset()
        self.notify("counting from here on")

    def action_clear(self) -> None:
        self.fields, self._wanted = "", named("")
        self._show()

    def action_keys(self) -> None:
        self.push_screen(Help())

    def action_filter(self) -> None:
        self._ask("filter", "regular expression", self.fields)

    def action_interval(self) -> None:
        self._ask("interval", "seconds, 0.1 to 3600", f"{self.interval:g}")

    def action_runs(self) -> None:
        self.run_worker(self._choose(), exclusive=True, group="choose")

    async def _choose(self) -> None:
        try:
            found = await asyncio.to_thread(lambda: described(self._runs()))
        except UsageError as error:
            self.notify(str(error), severity="error")
            return
        chosen = await self.push_screen_wait(Choice(found))
        if chosen is not None:
            self._follow(chosen)
        elif self.pid is None:
            self.exit()

    def _ask(self, what: str, hint: str, value: str) -> None:
        self._asked = what
        box = self.query_one("#ask", Input)
        box.placeholder, box.value = f"{what}: {hint}", value
        box.display = True
        self.screen.set_focus(box)  # at once: the next key is already its

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """A filter or an interval; what is none is said, and asked for again."""
        text = event.value.strip()
        try:
            if self._asked == "filter":
                self._wanted, self.fields = named(text), text
            else:
                seconds = float(text)
                if not 0.1 <= seconds <= 3600:
                    raise ValueError
                self.interval = seconds
        except (re.error, ValueError):
            self.notify(f"{text!r} is no {'regular expression' if self._asked == 'filter' else 'time'}", markup=False)
            return
        self._leave_box()
        self._show()

    def key_escape(self) -> None:
        """Leave the box without a change."""
        self._leave_box()

    def _leave_box(self) -> None:
        self.screen.set_focus(self.query_one(DataTable))
        self.query_one("#ask", Input).display = False
