"""Superinstructions: one handler for two neighbours that often follow each other.

The pairs are the most frequent ones of the benchmark guests and of a Linux boot (`benchmarks/pairs`).
The second instruction keeps its own record; a jump to it, or a budget that ends between the two, uses
that. Only the dispatch between the two is saved, so the meaning is that of the parts.
"""

from __future__ import annotations

from collections.abc import Iterator

from trapline.engine.compiler.handlers import IC, IC1, IC2, Handler, perform
from trapline.engine.compiler.module import ModuleBuilder
from trapline.engine.compiler_names import FUSED
from trapline.engine.definitions import Definition
from trapline.isa.decode import by_name


def fused_handlers(module: ModuleBuilder, names: set[str]) -> Iterator[Definition]:
    """Handlers of all pairs whose parts have fast handlers."""
    for first, second in FUSED:
        kinds = ("f", "b") if f"h.{second}f" in names else ("",)
        for kind in kinds:
            if f"h.{first}" in names and f"h.{second}{kind}" in names:
                yield fused_handler(module, f"h.{first}+{second}{kind}", first, second, kind)


def fused_handler(module: ModuleBuilder, name: str, first: str, second: str, kind: str) -> Definition:
    """Perform one, then the other; each bails out to its own slow handler."""
    h = Handler(name)
    h.count(1)
    h.count(2)
    for part, own_kind, before, after in ((first, "x", IC, IC1), (second, kind or "x", IC1, IC2)):
        mnemonic, length = part.rsplit("_", 1)
        instruction = by_name(mnemonic)
        assert instruction.function is not None
        assume = {"has_c": 1} if own_kind in ("f", "b") else None
        compiled = module.function(instruction.function, fast=True, assume=assume)
        perform(h, instruction, compiled, int(length), kind=own_kind, slow=part, before=before, after=after)
        if part is first:
            h.rec = h.successor(int(length))
    h.next(int(second.rsplit("_", 1)[1]), ic=IC2)
    return h.definition()
