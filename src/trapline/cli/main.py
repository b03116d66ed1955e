"""Parse a command line, call the command, and turn every error into one clear line."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trapline.cli.options import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE
from trapline.cli.snapshots import Snapshots
from trapline.cli.tokens import behind_dashes, command_line
from trapline.cli.version import version_line
from trapline.cli.words import COMMANDS, Parsed, Table, parsed

WRITTEN_AT_THE_END = ("json", "plot", "picture", "console", "record", "junit", "csv")
WRITTEN = (
    *WRITTEN_AT_THE_END, "trace", "log_file", "profile", "coverage", "snapshot", "dump_dtb", "log_commits", "signature",
)  # fmt: skip
_ENDLESS = re.compile(r"\S{600,}")
DISK_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def main(tokens: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code; every error is one clear line."""
    words = list(sys.argv[1:] if tokens is None else tokens)
    behind_dashes.clear()
    command_line[:] = words
    if words[:1] == ["compare"] and "--" in words:
        at = words.index("--")
        behind_dashes.extend(words[at + 1 :])
        words = words[:at]
    try:
        return _main(words)
    except KeyboardInterrupt:
        _complain("interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read help or a script has gone: nothing more to say, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _check_outputs(arguments: dict[str, Any]) -> None:
    """Find before the command runs what it could not write when it ends."""
    from trapline.lab import output

    if isinstance(folder := arguments.get("out"), str):
        output.require_folder(folder, "--out")
    _require_apart(arguments)
    for name, value in arguments.items():
        path = value.snapshot if isinstance(value, Snapshots) else value if name in WRITTEN_AT_THE_END else None
        if isinstance(path, str) and path != "-":
            output.require_writable(path, f"--{'snapshot' if isinstance(value, Snapshots) else name}")


def _require_apart(arguments: dict[str, Any]) -> None:
    """Refuse two options that write the same file: one would be gone, or both mixed."""
    from trapline.lab.errors import UsageError

    grouped = (vars(value) for value in arguments.values() if hasattr(value, "__dataclass_fields__"))
    every = {**arguments, **{name: path for group in grouped for name, path in group.items()}}
    seen: dict[str, str] = {}
    for name in WRITTEN:
        path = every.get(name)
        if (
            not isinstance(path, str)
            or path == "-"
            or "\0" in path
            or (Path(path).exists() and not Path(path).is_file())
        ):
            continue
        option = f"--{name.replace('_', '-')}"
        if (other := seen.setdefault(os.path.realpath(path), option)) != option:
            raise UsageError(f"{path!r} is written by {other} too", option, "name two files")


def _main(words: list[str]) -> int:
    from trapline.lab import output
    from trapline.lab.errors import UsageError
    from trapline.views.data import OutputError

    output.failed.clear()
    try:
        command, args, kwargs = _parsed(words)
        _check_outputs(kwargs)
        code = int(command(*args, **kwargs) or 0)
        for line in output.failed:
            _complain(line)
        return code or (EXIT_USAGE if output.failed else 0)
    except (UsageError, OutputError) as error:
        _complain(str(error))
    except (KeyboardInterrupt, BrokenPipeError):
        raise
    except Exception as error:
        if (said := _of_cyclopts(error)) is not None:
            _complain(said)
            return EXIT_USAGE
        from trapline.policies import PolicyError

        if isinstance(error, PolicyError):
            _complain(" ".join(str(error).split()))
            return EXIT_USAGE
        if isinstance(error, OSError) and error.errno in DISK_TROUBLE:
            _complain(f"cannot write: {error.strerror}")
            return EXIT_USAGE
        if os.environ.get("TRAPLINE_DEBUG"):
            raise
        _complain(f"internal error: {type(error).__name__}: {error} (TRAPLINE_DEBUG=1 shows where; please report it)")
        return EXIT_FAILED
    return EXIT_USAGE


def _parsed(words: list[str]) -> Parsed:
    """Return the command that a line calls and its arguments: by what is kept of its options, else by cyclopts."""
    if words == ["--version"]:
        return _show_version, [], {}
    known = words[:1] if set(words[:1]) & set(COMMANDS) else []
    table = Table() if known else None
    if table is not None and (found := parsed(words, table.options(*known))) is not None:
        return found
    from trapline.cli.application import app, import_all

    if not known or known == ["completion"]:
        import_all()
    command, bound, _ = app.parse_args(words, print_error=False, exit_on_error=False)
    if table is not None:
        table.learn(*known)
    return command, list(bound.args), bound.kwargs


def _show_version() -> int:
    sys.stdout.write(f"{version_line()}\n")
    return 0


def _of_cyclopts(error: Exception) -> str | None:
    """What cyclopts says is wrong with a command line; None if it did not say this."""
    library = sys.modules.get("cyclopts")
    if library is None or not isinstance(error, library.CycloptsError):
        return None
    chain = [word for word in error.command_chain or () if word != "trapline"]
    said = " ".join(str(error).split())
    if isinstance(error, library.UnusedCliTokensError):
        takes = _positional(error.target) or "options alone"
        said = f"{', '.join(map(repr, error.unused_tokens or ()))}: {' '.join(chain)} takes {takes}"
    return f"{said} ({' '.join(('trapline', *chain, '--help'))})"


def _positional(command: object) -> str:
    """What a command takes besides options."""
    import inspect

    if not callable(command):
        return ""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = [p.name.strip("_").upper() for p in inspect.signature(command).parameters.values() if p.kind in kinds]
    return f"{' '.join(found)} and options" if found else ""


def _complain(text: str) -> None:
    """Write one line; of a word that no name, path or number of this world is as long as, its beginning."""
    shown = _ENDLESS.sub(lambda found: f"{found[0][:40]}... ({len(found[0])} characters)", text)
    sys.stderr.write(f"trapline: {shown}\n")


def entry() -> int:
    """The console script."""
    return main()
