"""Legs of a search that end as a test wants; worker processes import them."""

from __future__ import annotations

import faulthandler
import os
import signal

from trapline.fuzz.legs import Heard, Leg, going, run_leg


def crashes_first(leg: Leg) -> Heard:
    """Bring the process down in the first batch of the first leg."""
    if leg.number == 0:
        going(leg)[0].step(3)
        faulthandler.disable()
        os.kill(os.getpid(), signal.SIGSEGV)
    return run_leg(leg)
