"""The engine's image is compiled in parts, beside each other."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

from trapline.engine.beside import Beside
from trapline.engine.definitions import Constant, Definition
from trapline.engine.emit import Level, emitted
from trapline.engine.link import link
from trapline.engine.parts import Module
from trapline.lang.host_pages import anonymous

WORD = ("i64 %n",)
ITEM = """  %p = getelementptr inbounds i64, ptr @table, i64 %n
  %v = load i64, ptr %p, align 8
  ret i64 %v"""
TWICE = """  %v = call fastcc i64 @item(i64 %n)
  %w = mul i64 %v, 2
  ret i64 %w"""
SUM = """  %v = call fastcc i64 @item(i64 %n)
  %w = call fastcc i64 @"twice.1"(i64 %n)
  %s = add i64 %v, %w
  ret i64 %s"""


def function(name: str, body: str, uses: set[str], attributes: str, **more: bool) -> Definition:
    """A function of one word."""
    convention = "" if more else "fastcc"
    return Definition(name, WORD, body, frozenset(uses), "i64", convention, f"{attributes} nounwind", **more)


MODULE = Module(
    '!0 = !{!"branch_weights", i32 2000, i32 1}',
    [
        Constant("table", (5, 7)),
        function("item", ITEM, {"table"}, "alwaysinline"),
        function("twice.1", TWICE, {"item"}, "noinline"),
        function("h.sum", SUM, {"item", "twice.1"}, "", exported=True),
    ],
)

PROGRAM = """
import pathlib, sys, time
from trapline.engine import build
from trapline.engine.cache import load_image
from trapline.engine.link import Image
def compile_image(progress):
    with open(sys.argv[1], "a") as file:
        file.write("once\\n")
    time.sleep(0.6)
    return Image(b"code", {"run": 0, "h.step_end": 1})
build.compile_image = compile_image
print(load_image().symbols["h.step_end"])
"""


def test_parts_call_each_other_and_share_what_is_compiled_in_place() -> None:
    """A function gives the same where what it calls is in another part, at each level."""
    for level in Level:
        parts = MODULE.divide(lambda name: int(name.startswith("h.")), 2)
        image = link(emitted((part, level) for part in parts), ["h.sum"])
        memory = anonymous(len(image.code), executable=True)
        memory[:] = image.code
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + image.symbols["h.sum"]
        assert ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64)(start)(1) == 21


def test_a_process_beside_gives_the_object_that_this_one_would() -> None:
    """What the process beside makes of text is what is made here; None, where it cannot."""
    for text, made in ((MODULE.text, emitted([(MODULE.text, Level.FULL)])), ("no LLVM text", None)):
        beside = Beside()
        beside.submit([(text, Level.FULL)])
        assert beside.collect() == made
        beside.end()


def test_two_first_starts_at_the_same_time_compile_once(tmp_path: Path) -> None:
    """The second start waits for the image of the first and takes it."""
    environment = {**os.environ, "TRAPLINE_CACHE": str(tmp_path / "cache"), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "log")]
    starts = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [start.communicate(timeout=60)[0] for start in starts] == ["1\n", "1\n"]
    assert (tmp_path / "log").read_text() == "once\n"
