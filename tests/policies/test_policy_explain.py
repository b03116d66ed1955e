"""`trapline policies explain`: the glossary of names, made from the presets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from trapline.cli.main import main
from trapline.lab.errors import UsageError
from trapline.lab.explain import explain, glossary, spans
from trapline.lab.policies import presets
from trapline.policies.names import BugName, FeatureName

Capture = pytest.CaptureFixture[str]


def test_every_name_is_explained() -> None:
    """Each bug and feature that a policy may name is there, and each entry says what it is, and who says so."""
    terms = glossary()
    for kind, names in (("bug", get_args(BugName)), ("feature", get_args(FeatureName))):
        assert {t.name for t in terms if t.kind == kind} == set(names)
    for term in terms:
        assert term.meaning or term.counts, term.name
        assert term.sources, term.name
        assert term.presets, term.name


def test_presets_are_those_that_have_the_name() -> None:
    """The presets of a bug are those whose policy has it, in few words."""
    (term,) = explain("redirect-keeps-privilege")
    assert term.presets == [p.name for p in presets() if p.has_bug("redirect-keeps-privilege")]
    assert spans(term.presets).startswith("linux-5.16 to linux-6.2")


def test_a_counter_says_what_it_counts() -> None:
    """A counter names the causes whose rules move it."""
    (term,) = explain("instr_illegal_exits")
    assert list(term.counts) == ["inst-illegal"]


@pytest.mark.parametrize("word", ["redirect-keep-privilege", "REDIRECT-KEEPS-PRIVILEGE"])
def test_a_misspelt_name_names_the_nearest(word: str, capsys: Capture) -> None:
    """A name that no policy has is one line with the nearest, and code 2."""
    assert main(["policies", "explain", word]) == 2
    assert "did you mean redirect-keeps-privilege" in capsys.readouterr().err


def test_json_of_a_name(capsys: Capture) -> None:
    """The JSON has kind, meaning, sources and presets."""
    assert main(["policies", "explain", "wrs", "--json", "-"]) == 0
    (data,) = json.loads(capsys.readouterr().out)
    assert (data["kind"], data["name"]) == ("feature", "wrs")
    assert "linux-6.12" in data["presets"]
    assert "wrs.nto" in data["meaning"]


@pytest.mark.parametrize("words", [[], ["pmu-mask-wraps"]])
def test_it_fits_a_narrow_terminal(words: list[str], capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 80 columns no line is wider."""
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["policies", "explain", *words]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_the_glossary_page_is_current(capsys: Capture) -> None:
    """docs/glossary.md is what `policies explain --markdown` writes."""
    assert main(["policies", "explain", "--markdown"]) == 0
    page = Path(__file__).parents[2] / "docs" / "glossary.md"
    assert page.read_text(encoding="utf-8") == capsys.readouterr().out, "trapline policies explain --markdown"


def test_the_page_is_of_all_names(capsys: Capture) -> None:
    """--markdown with a name is refused in one line."""
    assert main(["policies", "explain", "wrs", "--markdown"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("linux-7.2", "it is a policy: trapline policies show linux-7.2"),
        ("inst-access", "it is cause 1: trapline policies show POLICY, trapline route --event inst-access"),
    ],
)
def test_a_policy_and_a_cause_are_told_elsewhere(name: str, said: str) -> None:
    """Whoever asks for a name of another kind is told which command knows it."""
    with pytest.raises(UsageError, match=said):
        explain(name)
