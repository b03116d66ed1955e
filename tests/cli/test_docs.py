"""What the documentation shows is what the commands print."""

from __future__ import annotations

import contextlib
import doctest
import re
import sys
import tomllib
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from cyclopts import MissingArgumentError
from doc_blocks import ROOT, Example, agrees, command_lines, documents, examples, execute

from trapline.cli.application import app
from trapline.cli.words import COMMANDS
from trapline.lab.settings import policy_of

_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("example", examples(), ids=lambda e: e.title)
def test_examples(example: Example) -> None:
    """Every documented command prints what its page says."""
    actual = execute(example.command)
    assert agrees(example.output, actual), actual


@pytest.mark.parametrize("page", documents(), ids=lambda p: p.name)
def test_command_lines(page: Path) -> None:
    """Every command line that a page shows is understood, and every command and option that a page names exists."""
    for words in command_lines(page):
        at = words.index("--") if words[0] == "compare" and "--" in words else len(words)
        for line in (words[:at], ["run", *words[at + 1 :]]):
            with contextlib.suppress(MissingArgumentError):  # the text speaks of an option
                assert line[0] in COMMANDS or line[0].startswith("--"), line
                app.parse_args(line, print_error=False, exit_on_error=False)


@pytest.mark.parametrize(("page", "least"), [("api.md", 11), ("guests.md", 8), ("sweep.md", 8)])
def test_api_examples(page: str, least: int) -> None:
    """The Python examples run as they stand."""
    result = doctest.testfile(str(ROOT / "docs" / page), module_relative=False)
    assert result.attempted >= least
    assert result.failed == 0


@pytest.mark.parametrize("page", documents(), ids=lambda p: p.name)
def test_links(page: Path) -> None:
    """Every relative link leads somewhere."""
    for target in _LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("name", ["policies.md", "nested.md"])
def test_policy_files(name: str, tmp_path: Path) -> None:
    """Each policy file that a page shows is one: with its Python file, if it names one; a part of one as a part."""
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    for code in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", text, re.DOTALL):
        (tmp_path / code[0]).write_text(code[1])
    tried = 0
    for block in re.findall(r"```toml\n(.*?)```", text, re.DOTALL):
        data = tomllib.loads(block)
        more = "" if data.keys() & {"default", "rest"} else 'default = "kill"\n'
        more += "" if "extends" in data else 'extends = "linux-7.2"\n'
        (tmp_path / "shown.toml").write_text(more + block)
        policy_of(str(tmp_path / "shown.toml"))
        tried += 1
    assert tried > 1


def test_every_command_has_a_page() -> None:
    """Each command of the program has its page in docs/."""
    for command in "run boot route compare audit policies demo conform fetch pack report sweep stat".split():
        assert (ROOT / "docs" / f"{command}.md").exists()


@pytest.mark.parametrize("page", documents(), ids=lambda p: p.name)
def test_one_style_of_numbers(page: Path) -> None:
    """Thousands are parted by a space, as in every view; commas part numbers."""
    text = re.sub(
        r"^```.*?^```|^    .*?$|`[^`]*`", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    assert re.findall(r"(?<![\w.,=])\d{1,3}(?:,\d{3})+(?![\d,]*\w)", text) == []
