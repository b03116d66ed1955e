"""Engines by their names."""

from __future__ import annotations

from typing import get_args

import pytest

from trapline.cli.options import EngineName
from trapline.engine.api import ENGINES, Engine, UnknownEngine, open_engine


def test_names_of_engines() -> None:
    """The command line offers the engines that there are, and each of them can do what an engine does."""
    assert get_args(EngineName) == ENGINES
    for name in ENGINES:
        engine = open_engine(name)
        assert isinstance(engine, Engine)
        assert engine.name == name
        assert open_engine(engine) is engine


def test_unknown_engine() -> None:
    """Any other name is refused with the names that there are."""
    with pytest.raises(UnknownEngine, match="unknown engine 'fast': native or reference"):
        open_engine("fast")
