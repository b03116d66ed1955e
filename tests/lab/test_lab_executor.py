"""The executor gives every unit an end: a value, or an error after so many tries."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import executor_units as units
import pytest

from trapline.lab.executor.api import Done, Executor, Here, in_order, local


@pytest.fixture(params=[1, 2], ids=["here", "processes"])
def executor(request: pytest.FixtureRequest) -> Executor:
    """Both local ways."""
    return local(request.param)


def by_unit(done: Iterator[Done[Any, Any]]) -> dict[Any, Done[Any, Any]]:
    """What became of each unit."""
    return {one.unit: one for one in done}


def test_every_unit_has_its_value(executor: Executor) -> None:
    """Each unit gives one value, whatever the number of workers."""
    done = list(executor.execute(units.double, range(20)))
    assert sorted(one.unit for one in done) == list(range(20))
    assert all((one.value, one.error, one.tries) == (2 * one.unit, "", 1) for one in done)


def test_no_units_end_at_once(executor: Executor) -> None:
    """Nothing to do is done."""
    assert list(executor.execute(units.double, ())) == []


def test_failing_unit_is_tried_again_and_named(executor: Executor) -> None:
    """A unit that raises is tried three times; its error is one line, and the other units have their values."""
    done = by_unit(executor.execute(units.refuse_odd, range(4)))
    assert done[1] == Done(1, None, "ValueError: 1 is odd", 3)
    assert done[2] == Done(2, 2, "", 1)


def test_unit_whose_worker_is_killed_is_tried_again(tmp_path: Path) -> None:
    """A worker that is killed with -9 in a unit costs one try; the next has the value."""
    (done,) = local(2).execute(units.die_once, [str(tmp_path / "mark")])
    assert (done.error, done.tries) == ("", 2)
    assert done.value != os.getpid()


def test_unit_that_kills_its_worker_is_given_up() -> None:
    """A unit that kills each worker is recorded with the signal, and costs the others nothing."""
    done = by_unit(local(2).execute(units.die, range(6)))
    assert done[3] == Done(3, None, "the worker was killed by signal 9", 3)
    assert {n: one.value for n, one in done.items() if n != 3} == {0: 0, 1: 1, 2: 2, 4: 4, 5: 5}
    assert {one.tries for n, one in done.items() if n != 3} == {1}


def test_value_that_cannot_be_sent_is_an_error() -> None:
    """A value that pickle refuses is the unit's error, not the end of the worker."""
    (done,) = local(2).execute(units.unpicklable, [1], tries=1)
    assert done.error and "worker" not in done.error


def test_few_units_are_taken_ahead() -> None:
    """Of endless units only as many are taken as there are workers, and one more."""
    taken = []

    def endless() -> Iterator[int]:
        for number in range(1_000_000):
            taken.append(number)
            yield number

    done = local(2).execute(units.double, endless())
    for _ in range(10):
        next(done)
    done.close()  # type: ignore[attr-defined]
    assert len(taken) <= 14


def test_closing_ends_the_workers(tmp_path: Path) -> None:
    """Workers in the middle of a unit are ended when their reader is killed with -9."""
    code = (
        "import executor_units as u; from trapline.lab.executor.api import local;"
        f"list(local(2).execute(u.sleep_and_tell, [{str(tmp_path)!r}] * 2))"
    )
    path = os.pathsep.join([str(Path(units.__file__).parent), *sys.path])
    with subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}) as reader:
        wait_for(lambda: len(list(tmp_path.iterdir())) == 2)
        reader.kill()
    wait_for(lambda: not any(Path("/proc", p.name).exists() for p in tmp_path.iterdir()))


def wait_for(what: Any) -> None:
    """Wait until something is so, at most 20 s."""
    end = time.monotonic() + 20
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_order_is_restored() -> None:
    """What ended in any order is yielded in the order of its places."""
    ended = [Done(n, n) for n in (2, 0, 1, 4, 3)]
    assert [one.value for one in in_order(ended, int)] == [0, 1, 2, 3, 4]


def test_one_worker_needs_no_process() -> None:
    """One worker is this process."""
    assert isinstance(local(1), Here)


def test_a_generator_tells_before_it_ends(executor: Executor) -> None:
    """Each value that a generator yields is told with `more`, in its order, and what it returns ends its unit."""
    done = list(executor.execute(units.count, [3, 2]))
    assert [one for one in done if one.unit == 3] == [*(Done(3, n, more=True) for n in range(3)), Done(3, 9)]
    assert [one for one in done if one.unit == 2] == [*(Done(2, n, more=True) for n in range(2)), Done(2, 4)]


def test_a_generator_whose_worker_is_killed_tells_all_again(tmp_path: Path) -> None:
    """A worker that is killed between two words of a unit costs a try; the next says all of them."""
    done = list(local(2).execute(units.die_between, [str(tmp_path / "mark")]))
    assert [(one.value, one.tries, one.more) for one in done] == [
        (1, 1, True), (1, 2, True), (2, 2, True), (None, 2, False),
    ]  # fmt: skip
