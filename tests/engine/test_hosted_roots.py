"""Hosted software that an exit to Python needs is compiled, too."""

from __future__ import annotations

import pytest

from trapline.engine.roots import hosted_functions


@pytest.mark.parametrize("name", ["fetches_guest", "decode_access", "serve_trap", "enter_vcpu"])
def test_what_an_exit_calls_is_a_root(name: str) -> None:
    """What `Hart.call` is given on the way of an exit that Python handles is compiled: else it is interpreted."""
    assert name in hosted_functions()
