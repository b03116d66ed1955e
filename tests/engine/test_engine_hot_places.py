"""Which places the second tier compiles."""

from __future__ import annotations

from trapline.engine.native import NativeEngine


def test_a_place_whose_region_went_is_counted_anew() -> None:
    """A hot place whose region has to go is not hot any more, and does not keep others from being compiled."""
    tier = NativeEngine(jit="fresh").tier
    assert tier is not None
    tier.counts = {0x1000: 40, 0x2000: 33}
    tier.hot = {0x1000, 0x2000}
    tier.code.removed.append((0x1000, (0,), 0.0))
    tier.settle()
    assert (tier.hot, tier.counts) == ({0x2000}, {0x2000: 33})
