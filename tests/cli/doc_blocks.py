"""Commands in the documentation and what they print.

A block marked `console` holds `$ trapline ...` lines, each followed by its output; a line `...` stands for
any lines. `python tests/cli/doc_blocks.py --write` brings blocks that are out of date up to date.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WIDTH = "96"
_FENCED = re.compile(r"^( *)```[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_TRAPLINE = re.compile(r"\s*(?:\$ |(?:- )?run: |\w+=\S+ )*(trapline [a-z-].*)")
_NAMED = re.compile(r"`(trapline [^`]+)`")
_HEAD_OF_SNAPSHOTS = "trapline snapshot 1"
_STANDS_FOR = {"N": "2", "POLICY": "patel"}
_BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Example:
    """One command and its documented output."""

    file: Path
    command: str
    output: str

    @property
    def title(self) -> str:
        """File and command."""
        return f"{self.file.name}: {self.command}"


def documents() -> list[Path]:
    """Every page that may hold examples."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def split(block: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a block with the text behind it."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def examples() -> list[Example]:
    """All examples that start trapline and nothing else."""
    return [
        Example(path, command, output)
        for path in documents()
        for block in _BLOCK.findall(path.read_text(encoding="utf-8"))
        for command, output in split(block)
        if command.startswith("trapline ")
    ]


def command_lines(page: Path) -> Iterator[list[str]]:
    """Yield the words of every command line that a page shows in a block, or names in its text."""
    text = page.read_text(encoding="utf-8")
    for block in _FENCED.findall(text):
        for line in block[1].replace("\\\n", " ").split("\n"):
            if (found := _TRAPLINE.match(line)) is not None:
                yield _words(found[1])
    for line in _NAMED.findall(_FENCED.sub("", text)):
        if line != _HEAD_OF_SNAPSHOTS:
            yield _words(line)


def _words(line: str) -> list[str]:
    """The words of one command behind its name, up to what a shell does with it; what stands for a value is one."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split = True
    words = itertools.takewhile(lambda word: not set(word) <= set("();<>|&"), lexer)
    found = [_STANDS_FOR.get(word, word) for word in words if not word.startswith("[")][1:]
    return found[:-1] if found[-1] == "..." and not found[-2].startswith("--") else found


def execute(command: str) -> str:
    """Run a command line in this process; return what it writes, without trailing blanks."""
    from trapline.cli import main
    from trapline.cli.common import native

    native()  # what it says while it compiles is nobody's output
    old = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = WIDTH
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            main(shlex.split(command)[1:])
    finally:
        os.environ.pop("COLUMNS")
        if old is not None:
            os.environ["COLUMNS"] = old
    return "\n".join(line.rstrip() for line in out.getvalue().strip("\n").split("\n")) + "\n"


def agrees(documented: str, actual: str) -> bool:
    """Whether the output is as documented."""
    parts = re.split(r"^\.\.\.\n", documented.rstrip() + "\n", flags=re.MULTILINE)
    return re.fullmatch("(?s:.*)".join(re.escape(p) for p in parts), actual.rstrip() + "\n") is not None


def write() -> None:
    """Rewrite what is out of date."""
    for path in documents():
        text = path.read_text(encoding="utf-8")

        def renew(match: re.Match[str]) -> str:
            made = ""
            for command, output in split(match[1]):
                actual = execute(command) if command.startswith("trapline ") else output
                made += f"$ {command}\n" + (output if agrees(output, actual) else actual)
            return f"```console\n{made}```"

        new = _BLOCK.sub(renew, text)
        if new != text:
            path.write_text(new, encoding="utf-8")
            sys.stdout.write(f"{path.name} renewed\n")


if __name__ == "__main__" and "--write" in sys.argv:
    write()
