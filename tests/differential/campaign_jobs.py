"""Streams of a campaign that end as a test wants; worker processes import them."""

from __future__ import annotations

import os
import signal

from trapline.verify.campaign import Job, Result


def killed_at_3(job: Job) -> Result:
    """Agree, but the process of seed 3 is killed each time."""
    if job.seed == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return Result(job.seed, job.variant.name, 10, 10)
