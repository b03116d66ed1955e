"""Console input and output."""

from __future__ import annotations

import os

from trapline.session.terminal.console import Console
from trapline.session.terminal.sources import FileInput, Replay, Script


def test_output_goes_out_by_lines_and_at_flush() -> None:
    """A line is handed on at its end, a prompt when flushed."""
    out: list[bytes] = []
    console = Console(out.append)
    for byte in b"hi\n=> ":
        console.write(bytes((byte,)))
    assert out == [b"hi\n"]
    console.flush()
    assert out == [b"hi\n", b"=> "]


def test_ctrl_a_x_quits_and_ctrl_a_ctrl_a_passes() -> None:
    """The escape key is understood where a person types, also across reads."""
    out: list[bytes] = []
    console = Console(
        out.append, Replay([((0, 0), b"a\x01"), ((1, 0), b"\x01b\x01h"), ((2, 0), b"\x01x")]), escape=True
    )
    assert console.poll((0, 0)) == b"a"
    assert console.poll((1, 0)) == b"\x01b"
    assert b"Ctrl-A x  end the run" in b"".join(out)
    assert not console.quit_requested
    assert console.poll((2, 0)) == b""
    assert console.quit_requested


def test_the_log_replays() -> None:
    """What was typed is logged with its position, and a replay delivers it at that position."""
    console = Console(None, Replay([((100, 1), b"x"), ((300, 3), b"y")]))
    for instret in (0, 100, 200, 300):
        console.poll((instret, instret // 100))
    assert console.log == [((100, 1), b"x"), ((300, 3), b"y")]
    replay = Replay(console.log)
    assert replay.next_position() == (100, 1)
    assert replay.poll((99, 0)) == b""
    assert replay.poll((100, 1)) == b"x"


def test_a_script_answers_prompts() -> None:
    """Each answer is due once its prompt has been printed, in order."""
    script = Script([(b"=> ", b"version\n"), (b"=> ", b"poweroff\n")])
    console = Console(None, script)
    console.write(b"U-Boot\n=")
    assert console.poll((0, 0)) == b""
    console.write(b"> ")
    assert console.poll((0, 0)) == b"version\n"
    assert console.poll((0, 0)) == b""
    console.write(b"...\n=> ")
    assert console.poll((0, 0)) == b"poweroff\n"
    assert script.finished


def test_a_pipe_is_read_to_its_end() -> None:
    """Input from a pipe arrives without waiting; the pipe is live, though no keyboard, until its end."""
    read_end, write_end = os.pipe()
    source = FileInput(read_end)
    assert source.live
    assert not source.keyboard
    assert source.poll((0, 0)) == b""
    os.write(write_end, b"abc")
    assert source.wait(0)
    assert source.poll((0, 0)) == b"abc"
    os.close(write_end)
    assert source.poll((0, 0)) == b""
    assert not source.wait(0)
    assert not source.live
    os.close(read_end)
