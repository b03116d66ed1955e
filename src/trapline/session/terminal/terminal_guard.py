"""A terminal in raw mode outlives nobody: a small shell waits beside the process and mends the terminal when it dies.

Neither Python nor any handler of this process runs after SIGKILL, and none may be trusted after SIGSEGV. The shell
reads from a pipe whose other end only this process holds; the kernel closes that end however the process dies.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess

# A login shell may have restored the terminal itself, and its line editor may have changed it: only a mode that is
# still ours is undone. $1 is the mode to return to, $2 ours; the terminal comes as standard output.
_SCRIPT = """
exec 3<&1
read -r ended && exit
[ "$(stty -g <&3)" = "$2" ] && stty "$1" <&3
"""


def written(mode: list[Any]) -> str:
    """Return a mode of termios.tcgetattr as `stty -g` writes it: four words of flags and each character, in hex."""
    characters = (c if isinstance(c, int) else c[0] for c in mode[6])
    return ":".join(f"{word:x}" for word in (*mode[:4], *characters))


@contextlib.contextmanager
def guarded(fd: int, before: list[Any], ours: list[Any]) -> Iterator[subprocess.Popen[bytes] | None]:
    """Inside the block the terminal `fd` returns from mode `ours` to `before` if the process dies.

    Yields what waits for that; None on a system without a shell.
    """
    try:
        import subprocess  # not for every start

        guard = subprocess.Popen(
            ["sh", "-c", _SCRIPT, "trapline-terminal", written(before), written(ours)],
            stdin=subprocess.PIPE,
            stdout=fd,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # no signal to this process's group ends it, and job control does not stop it
        )
    except OSError:
        yield None
        return
    try:
        yield guard
    finally:
        with contextlib.suppress(OSError):
            guard.communicate(b"ended\n")
