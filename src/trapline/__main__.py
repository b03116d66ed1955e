"""The console script and `python -m trapline`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; Ctrl-C ends it with one line even while it is being imported."""
    try:
        from trapline.cli import entry

        entry()
    except KeyboardInterrupt:
        sys.stderr.write("trapline: interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
