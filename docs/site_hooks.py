"""Hooks of mkdocs: pages of docs/ may link to files beside docs/, and a page that the nav does not name comes last."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
_OUTSIDE = re.compile(r"\]\(\.\./([^)#]+)")
_LINK = re.compile(r"(!?)\[([^\]]*)\]\([^)]*\)")


def _named(nav: list[Any]) -> set[str]:
    """The pages that a nav names, at any depth."""
    found: set[str] = set()
    for entry in nav:
        for value in entry.values() if isinstance(entry, dict) else (entry,):
            found |= _named(value) if isinstance(value, list) else {value}
    return found


def on_config(config: Any) -> Any:
    """Append the pages that stand nowhere in the nav."""
    pages = {p.name for p in (ROOT / "docs").glob("*.md")}
    rest = sorted(pages - _named(config.nav))
    if rest:
        config.nav.append({"More": rest})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Take along what pages link to outside docs/."""
    for page in (ROOT / "docs").glob("*.md"):
        for target in _OUTSIDE.findall(page.read_text(encoding="utf-8")):
            if files.get_file_from_path(f"beside/{target}") is None and (ROOT / target).is_file():
                files.append(File.generated(config, f"beside/{target}", abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point to what was taken along; what that links to in its turn stays behind."""
    if page.file.src_uri.startswith("beside/"):
        return _LINK.sub(r"\2", markdown)
    return _OUTSIDE.sub(r"](beside/\1", markdown)
