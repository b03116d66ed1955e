"""Lines of LLVM's own text, read: how templates are told apart, cut and joined. What is written is `llvm.Builder`'s."""

from __future__ import annotations

import re

# The look-up of a page: its value, address, size, area, and whether it may be split (jit.templates).
FIND = re.compile(r"  (%\S+) = (?:tail )?call i64 @find\(i64 (\S+), i64 (\d+), i64 (\d+), i64 (\d+)\)")
