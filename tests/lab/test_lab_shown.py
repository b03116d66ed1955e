"""Audits and deaths as a prompt and a notebook show them."""

from __future__ import annotations

import re
from dataclasses import replace

import trapline
from trapline.isa.assemble import assemble
from trapline.kvm.report.death import Death
from trapline.lab.audit import audit
from trapline.machine.shown import html_table

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
