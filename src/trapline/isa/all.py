"""Every instruction: importing this module fills trapline.lang.functions.INSTRUCTIONS."""

from __future__ import annotations

import importlib
from importlib.util import find_spec

MODULES = ("i", "zicsr", "zifencei", "privileged", "m", "a", "f", "d", "zfh", "zicond", "zba", "zbb", "zbc", "zbs")
MODULES += ("zbkb", "zbkx", "zicbo", "zawrs", "h", "c")

for _name in MODULES:
    if find_spec(f"trapline.isa.{_name}"):  # TODO until all are there
        importlib.import_module(f"trapline.isa.{_name}")
