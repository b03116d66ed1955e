"""`python -m trapline`."""

from trapline.cli import entry

entry()
