"""What is written beside a run: traces, logs, profiles. Where none is asked for, none is imported."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from trapline.engine.api import Engine
from trapline.lab.symbols import Symbols, read_symbols

if TYPE_CHECKING:
    from trapline.lab.common_options import CommonOptions
    from trapline.lab.trace.file import Tracing
    from trapline.lang.state import Hart


class Runs(Protocol):
    """What calls `on_round` now and then."""

    on_round: Callable[[], None] | None


class HasEngine(Protocol):
    """What runs harts by its `engine`."""

    engine: Engine


def check_recording(options: CommonOptions, programs: Sequence[str | None], *, debugged: bool) -> None:
    """Refuse a profile, or coverage of `programs`, that makes no sense or cannot be written (UsageError)."""
    if options.profile is not None or options.profile_every is not None:
        from trapline.lab.profile import check_profile

        check_profile(options.profile, options.profile_every, debugged=debugged)
    if options.coverage is not None:
        from trapline.lab.coverage import check_coverage

        check_coverage(options.coverage, programs, debugged=debugged)


def asked_trace(options: CommonOptions, own: Mapping[str, int]) -> Tracing | None:
    """Check what is to be traced or logged, None for nothing; `own` are the program's symbols (UsageError)."""
    given = options.trace, options.trace_last, options.log, options.log_file
    if given == (None,) * len(given) and not options.trace_filter:
        return None
    from trapline.lab.trace.file import tracing

    return tracing(options, own)


@contextlib.contextmanager
def traced_beside(trace: Tracing | None, harts: Sequence[Hart], runs: Runs, engine_of: HasEngine) -> Iterator[None]:
    """Trace harts in the block; `engine_of` has the engine that runs them in its `engine`."""
    if trace is None:
        yield
        return
    from trapline.lab.trace.file import both, traced

    with traced(trace, harts) as look:
        if look is not None:
            runs.on_round = both(runs.on_round, look)
            engine_of.engine = look.around(engine_of.engine, trace)
        yield


@contextlib.contextmanager
def profiled_beside(
    options: CommonOptions, harts: Sequence[Hart], engine_of: HasEngine, own: Callable[[], Symbols]
) -> Iterator[None]:
    """Take samples in the block, if they were asked for; `own` reads the symbols of the program."""
    if options.profile is None:
        yield
        return
    from trapline.lab.profile import EVERY, Profile, profiled

    given, engine = options.observe.symbols, engine_of.engine
    profile = Profile(harts, options.profile_every or EVERY)
    with profiled(profile, options.profile, read_symbols(given) if given else own()):
        engine_of.engine = profile.around(engine)
        try:
            yield
        finally:
            engine_of.engine = engine


@contextlib.contextmanager
def covered_beside(
    options: CommonOptions, engine: Engine, programs: Sequence[str | None], own: Callable[[], Symbols]
) -> Iterator[None]:
    """Count instructions in the block, if that was asked for; `own` reads the symbols of the program."""
    if options.coverage is None:
        yield
        return
    from trapline.lab.coverage import covered

    given = options.observe.symbols
    with covered(engine, options.coverage, programs, read_symbols(given) if given else own()):
        yield
