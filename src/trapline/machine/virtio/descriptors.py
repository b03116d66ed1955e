"""How many of this process' file descriptors a guest may hold: some must be left for the machine itself."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

_KEPT = 64  # for disks, snapshots, traces and what libraries open
_LEAST, _MOST = 8, 1 << 16


class Quota:
    """A number of descriptors. `take` before one is opened, `give` when it is closed."""

    def __init__(self, most: int) -> None:
        self.most, self.held = most, 0

    def take(self) -> None:
        """Count one more; EMFILE if the guest holds all that it may."""
        if self.held >= self.most:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self.held += 1

    def give(self) -> None:
        """Count one less."""
        self.held -= 1


def allotment(devices: int) -> int:
    """Let this process open as many files as the host allows; return how many each of these devices may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = _MOST * devices if hard == resource.RLIM_INFINITY else hard
    free = most - len(list(Path("/proc/self/fd").iterdir())) - _KEPT
    return max(_LEAST, min(_MOST, free // max(1, devices)))
