"""Audits and deaths as a prompt and a notebook show them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import trapline
from trapline.conform.costs import CostRow, CostTable
from trapline.conform.loops import LOOPS
from trapline.isa.assemble import assemble
from trapline.kvm.report.death import Death
from trapline.lab.audit.audit import audit
from trapline.session.observe.observer import Observer
from trapline.shown import html_table

JUMP = "li t0, 0x1018000000\njr t0"


def test_an_audit_is_one_short_line_and_a_table() -> None:
    """An audit's repr is one line with its failures; its table has them, and everything in it is escaped."""
    result = audit(["linux-6.13"], firmware=["opensbi-1.6"], host_fwft=(False,), event="fetch-hole")
    assert repr(result) == f"<Audit of linux-6.13: 2 failures, {result.executed} events>"
    result.findings[0] = replace(result.findings[0], what="<script>&")
    shown = result._repr_html_()
    assert "<script>" not in shown and "&lt;script&gt;&amp;" in shown
    assert shown.count("<tr>") == 1 + len(result.findings) and "killed with -14" in shown


def test_a_death_is_one_short_line_and_its_tables() -> None:
    """A death's repr is its title; its tables have KVM's log, the last traps and the walks."""
    guest = trapline.Guest("linux-6.12", memory=16 << 20)
    guest.load_bytes(assemble(JUMP, 0x8020_0000), "jump")
    result = guest.run(max_instructions=1000)
    death = result.death
    assert isinstance(death, Death)
    assert repr(death) == f"<Death {death.title}>" and "\n" not in repr(death)
    shown = death._repr_html_()
    assert re.sub("<[^>]+>", "", shown).count("SEPC=0x1018000000") == 1
    assert "The last traps" in shown and "G-stage walk of" in shown
    assert repr(death)[:12] in result._repr_html_().replace("&lt;", "<")


def short(thing: object) -> bool:
    """Whether a repr is one line that a prompt can show."""
    return "\n" not in repr(thing) and len(repr(thing)) < 160 and " object at " not in repr(thing)


def test_policies_routes_and_costs_are_tables() -> None:
    """A policy, a route, the matrix and a table of costs are one short line each and a table."""
    policy = trapline.load_policy("linux-7.2")
    assert short(policy) and repr(policy).startswith("<Policy linux-7.2: hedeleg 0xb10d, ")
    assert "<td" in policy._repr_html_() and "inst-guest-page-fault" in policy._repr_html_()
    table = trapline.route("linux-7.2", event="fetch-hole")
    assert repr(table) == "<RouteTable of linux-7.2, opensbi-1.6: 2 routes>"
    shown = table.routes[0]._repr_html_()
    assert "VS &gt; M &gt; HS &gt; VS" in shown and "exits +1" in shown
    row = CostRow(LOOPS[0], 10, {"VS": 3.0, "HS": 7.0}, 0, {"M": 2.0, "kvm": 5.0})
    costs = CostTable("6.12.1", "opensbi-1.6", "rv64gch", [row], {})
    assert repr(costs) == "<CostTable of 6.12.1, opensbi-1.6: 1 traps>"
    assert re.search(f"{row.loop.text}.*>2<.*>5<.*>10<", costs._repr_html_())


def test_what_a_script_holds_is_one_line_at_a_prompt(tmp_path: Path) -> None:
    """Guests, their parts, their stops and what was measured have a repr of one line; measurements a table, too."""
    path = tmp_path / "guest.bin"
    path.write_bytes(assemble(JUMP, 0x8020_0000))
    both = trapline.compare("linux-6.12", "linux-7.2", guest=path, memory="16M", max_instructions=1000)
    guest = trapline.Guest("linux-6.12", memory=16 << 20)
    guest.load_bytes(path.read_bytes(), "jump")
    vcpu = guest.vm.vcpus[0]
    observer = Observer([vcpu.hart])
    stops = [guest.vm.stops.catch_trap([2], counting=True), guest.vm.stops.watch(0, 8, read=True, counting=True)]
    guest.run(max_instructions=1000)
    sight = observer.sight()
    for thing in (both.reports[0], guest, guest.vm, vcpu, vcpu.hart, sight, *stops):
        assert short(thing), repr(thing)
    assert repr(both) == f"<Comparison of {path}: linux-6.12 killed, linux-7.2 limit>"
    assert "inst-guest-page-fault" in sight._repr_html_()
    assert "killed -" in both.reports[0]._repr_html_()


def test_a_title_stands_above_its_table_as_wide_as_the_page() -> None:
    """A caption would be squeezed to a narrow table's width; a table that is wider than the page scrolls."""
    shown = html_table(("level", "at"), [(4, "0x1")], "a walk & more")
    assert shown.startswith('<div>a walk &amp; more</div><div style="overflow-x:auto"><table>')
    assert "caption" not in shown
    assert '<td style="text-align:left">4</td>' in shown  # a notebook's own style aligns all to the right


def test_a_table_without_rows_is_its_title() -> None:
    """A walk of a Bare stage has no steps: what is said of it stands alone, without heads of nothing."""
    assert html_table(("level", "at"), [], "vsatp is Bare") == "<div>vsatp is Bare</div>"
    assert "<th" in html_table(("level", "at"), [])
