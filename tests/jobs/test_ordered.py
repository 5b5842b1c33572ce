"""Jobs on other cores and machines come back in order."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from openk2.jobs.ordered import Where, ordered_map


def slow_square(number: int) -> int:
    time.sleep(0.02 if number % 5 == 0 else 0)
    return number * number


def who(number: int) -> int:
    return os.getpid()


def die(number: int) -> None:
    os._exit(1)


def sleep(number: int) -> None:
    time.sleep(60)


@pytest.mark.parametrize("where", ["here", "processes"])
def test_results_come_in_order(where: Where) -> None:
    found = ordered_map(slow_square, range(50), where=where, num_workers=2, limit_s=30)
    assert list(found) == [number * number for number in range(50)]


def test_items_are_read_as_they_are_wanted() -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(10_000):
            taken.append(number)
            yield number

    results = ordered_map(slow_square, items(), where="processes", num_workers=2, limit_s=30)
    assert next(results) == 0
    assert len(taken) < 50
    results.close()  # type: ignore[attr-defined]


def test_processes_do_the_work() -> None:
    assert os.getpid() not in set(ordered_map(who, range(8), where="processes", num_workers=2, limit_s=30))


def test_a_worker_that_dies_is_told_of() -> None:
    with pytest.raises(RuntimeError, match="a worker died"):
        list(ordered_map(die, range(3), where="processes", num_workers=1, limit_s=30))


def test_nothing_waits_for_ever() -> None:
    with pytest.raises(TimeoutError, match="no result for 0"):
        list(ordered_map(sleep, range(1), where="processes", num_workers=1, limit_s=0.5))


@pytest.mark.slow
def test_ray_does_the_same_on_one_node_and_on_two() -> None:
    ray = pytest.importorskip("ray", reason="pip install 'openk2[ray]'")
    from ray.cluster_utils import Cluster

    squares = [number * number for number in range(20)]
    assert list(ordered_map(slow_square, range(20), where="ray", num_workers=2, limit_s=60)) == squares
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        assert len([node for node in ray.nodes() if node["Alive"]]) == 2
        assert list(ordered_map(slow_square, range(20), where="ray", num_workers=None, limit_s=60)) == squares
        assert ray.is_initialized()  # who started it stops it
    finally:
        ray.shutdown()
        cluster.shutdown()
