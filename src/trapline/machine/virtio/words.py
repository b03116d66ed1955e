"""Options that are a name and words behind commas."""

from __future__ import annotations


def split_words(text: str) -> list[str]:
    """Split at commas; two of them are one comma of the text."""
    return [word.replace("\0", ",") for word in text.replace(",,", "\0").split(",")]
