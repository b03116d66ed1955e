"""Units run on the workers of a Dask scheduler as they do on this machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

distributed = pytest.importorskip("distributed")
sys.path.insert(0, str(Path(__file__).parent.parent / "lab"))

import executor_units as units  # noqa: E402

from trapline.lab.errors import UsageError  # noqa: E402
from trapline.lab.executor.api import Done, Here  # noqa: E402
from trapline.lab.executor.dask import Dask  # noqa: E402
from trapline.scale.store import Store  # noqa: E402
from trapline.scale.sweep import sweep  # noqa: E402

SPEC = {"policies": ["linux-6.12", "linux-7.2"], "seeds": 3, "workloads": {"hole": {"event": "fetch-hole"}}}


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a scheduler with two worker processes."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as made:
        yield made.scheduler_address


def test_units_of_all_kinds(cluster: str, tmp_path: Path) -> None:
    """A value, an error after three tries, and a unit whose worker was killed with -9, run by another."""
    done = {one.unit: one for one in Dask(cluster).execute(units.refuse_odd, range(12))}
    assert len(done) == 12
    assert done[2] == Done(2, 2)
    assert done[1] == Done(1, None, "ValueError: 1 is odd", 3)
    (one,) = Dask(cluster).execute(units.die_once, [str(tmp_path / "mark")])
    assert one.value and not one.error


def test_sweep_is_that_of_this_machine(cluster: str, tmp_path: Path) -> None:
    """A sweep on Dask has the records of one that runs here, but for seconds."""
    frames = []
    for place, executor in (("here", Here()), ("there", Dask(cluster))):
        sweep(SPEC, out=tmp_path / place, executor=executor)
        frame = Store(tmp_path / place).frame().collect().drop("seconds", "replay").sort("digest")
        frames.append(frame)
    assert frames[0].equals(frames[1])
    assert len(frames[0]) == 6


def test_no_scheduler() -> None:
    """An address where no scheduler is, or that is none, is one line."""
    for address in ("tcp://127.0.0.1:9", "nonsense://x"):
        with pytest.raises(UsageError, match="no Dask scheduler"):
            Dask(address, timeout=1)
