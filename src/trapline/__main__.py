"""The console script and `python -m trapline`."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import sys
import threading


def main() -> None:
    """Run the command line; Ctrl-C ends it with one line even while it is being imported."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started this: nobody reads it
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115
    # Imports make many objects and no garbage.
    gc.set_threshold(100_000, 20, 100)
    kept = None
    try:
        from trapline.kept_code import KeptCode

        kept = KeptCode(sys.argv[1:])
        sys.meta_path.insert(0, kept)
        from trapline.cli import entry

        code = entry()
    except KeyboardInterrupt:
        sys.stderr.write("trapline: interrupted\n")
        code = 130
    if kept is not None:
        kept.keep()
    end(code)


def end(code: int) -> None:
    """End the process without taking it apart: that takes 40 ms, and everything is written by now."""
    if any(not t.daemon for t in threading.enumerate() if t is not threading.main_thread()):
        sys.exit(code)
    if (worker := sys.modules.get("trapline.engine.jit.worker")) is not None:
        worker.wait_at_exit = False  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        pass
    except OSError as error:
        sys.stderr.write(f"trapline: cannot write to standard output: {error.strerror}\n")
        code = code or 2
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
