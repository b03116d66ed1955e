"""`trapline completion`: commands and options on the tab key."""

from __future__ import annotations

import sys
from typing import Literal

from trapline.cli.application import app


def completion(shell: Literal["bash", "zsh", "fish"], /) -> int:
    """Print the script that completes commands and options in a shell: source <(trapline completion bash).

    Parameters
    ----------
    shell
        bash, zsh or fish.
    """
    sys.stdout.write(app.generate_completion(prog_name="trapline", shell=shell))
    return 0
